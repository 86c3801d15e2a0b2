"""Which features are aimed at together, and how many samples each of them lacks.

Features that fire in the same anchor text can be asked for in one text. `plan_aims` is a greedy
weighted set cover over anchor co-activation: it repeatedly takes the anchor text whose features
are needed most. With `cover` every missing feature is needed once; with `match` a feature is needed
as often as it falls short of the anchor's rate.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

from facsynth.table.active import ActiveRows

__all__ = [
    "Aim",
    "Shortage",
    "length_bins",
    "length_room",
    "measure_shortage",
    "plan_aims",
]

N_LENGTHS = 10
"""Length groups of the anchor: deciles."""


@dataclass(frozen=True, slots=True)
class Aim:
    """Features that one text is to activate."""

    feature_ids: tuple[int, ...]
    """The most needed first."""

    row: int
    """Anchor sample that activates all of them."""


@dataclass(frozen=True, slots=True)
class Shortage:
    """How far firing counts are from what the anchor's rates expect of a set of the final size."""

    expected: Float64[np.ndarray, " n_features"]
    """Samples of the final set that would activate each feature at the anchor's rate."""

    lacking: Float64[np.ndarray, " n_features"]
    """Expected minus present count; below 0 where a feature fires more than enough."""

    @property
    def need(self) -> Float64[np.ndarray, " n_features"]:
        """Lacking share of what is expected, in [0, 1]."""
        short = np.maximum(self.lacking, 0.0)
        return np.where(self.expected > 0, short / np.maximum(self.expected, 1e-12), 0.0)


def measure_shortage(
    anchor: ActiveRows, counts: Int64[np.ndarray, " n_features"], *, n_final: int
) -> Shortage:
    """Compare firing counts with the anchor's rates at a final size.

    Args:
        anchor: The anchor.
        counts: Samples of the growing set that activate each feature.
        n_final: Samples that the set is to have in the end.
    """
    expected = anchor.counts * (n_final / anchor.n_samples)
    return Shortage(expected, expected - counts)


def plan_aims(
    anchor: ActiveRows,
    weights: Float64[np.ndarray, " n_features"],
    counts: Float64[np.ndarray, " n_features"],
    *,
    group_size: int,
    max_features: int,
    by_length: bool = False,
) -> list[Aim]:
    """Greedy weighted set cover of needed features by anchor samples.

    A sample gains the weights of its needed features, at most `group_size`; ties go to the
    shorter sample, then to the earlier one. Each sample is taken at most once.

    Args:
        anchor: The anchor.
        weights: How much each feature counts, in [0, 1]; 0 leaves it out.
        counts: In how many aims a feature is wanted.
        group_size: Most features of an aim.
        max_features: Features in all aims together, repetitions counted.
        by_length: Let the length deciles of the anchor take turns.
    """
    fires, n_tokens = anchor.fires, anchor.n_tokens
    left = np.where(weights > 0, counts, 0.0)
    free = np.ones(n_tokens.size, dtype=bool)
    bins = length_bins(n_tokens, n_tokens) if by_length else np.zeros_like(n_tokens)
    # Deciles in a mixed order, so that a short plan has short and long texts.
    turns = [(3 * i) % N_LENGTHS for i in range(N_LENGTHS)] if by_length else [0]
    aims, n_features, n_fruitless, turn = list[Aim](), 0, 0, 0
    while n_features < max_features and n_fruitless < len(turns):
        wanted = weights * np.minimum(left, 1.0)
        gains = np.minimum(fires @ wanted, group_size)
        gains = np.where(free & (bins == turns[turn % len(turns)]), gains, 0.0)
        turn += 1
        if (best := float(gains.max(initial=0.0))) <= 0:
            n_fruitless += 1
            continue
        n_fruitless = 0
        ties = np.flatnonzero(gains >= best - 1e-9)
        row = int(ties[np.argmin(n_tokens[ties])])
        active = fires.indices[fires.indptr[row] : fires.indptr[row + 1]]
        active = active[wanted[active] > 0]
        order = active[np.lexsort((active, -wanted[active]))]
        chosen = order[: min(group_size, max_features - n_features)]
        left[chosen] = np.maximum(left[chosen] - 1.0, 0.0)
        free[row] = False
        aims.append(Aim(tuple(int(f) for f in chosen), row))
        n_features += len(chosen)
    return aims


def length_bins(
    n_tokens: Int64[np.ndarray, " n"], anchor_tokens: Int64[np.ndarray, " m"]
) -> Int64[np.ndarray, " n"]:
    """Which decile of the anchor's lengths each length falls into, from 0 to 9."""
    inner = np.quantile(anchor_tokens, np.arange(1, N_LENGTHS) / N_LENGTHS, method="lower")
    return np.searchsorted(inner, n_tokens, side="left").astype(np.int64)


def length_room(
    n_kept: Sequence[int], anchor_tokens: Int64[np.ndarray, " m"], max_samples: int
) -> list[int]:
    """Samples that may still be kept of each length group, by its share of the anchor.

    Args:
        n_kept: Samples kept of each group.
        anchor_tokens: Lengths of the anchor; where many are equal, groups differ in size.
        max_samples: Samples kept in the end.
    """
    sizes = np.bincount(length_bins(anchor_tokens, anchor_tokens), minlength=N_LENGTHS)
    shares = np.ceil(max_samples * sizes / anchor_tokens.size).astype(int)
    return [max(0, int(share) - n) for share, n in zip(shares, n_kept, strict=True)]
