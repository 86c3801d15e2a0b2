"""Which anchor texts are imitated next, and how many samples of each length are wanted.

An aim is one anchor text with the features that a new text like it is to activate. What is wanted
is a list of tiers: weights of the missing features first, then of those that too few samples
activate, then of those that fire less often than in the anchor. A tier counts only where the tiers
before it have nothing left. Features weigh by the square root of how often the anchor fires them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64
from scipy.sparse import csr_array

from facsynth.table.active import ActiveRows

__all__ = [
    "Aim",
    "Wanted",
    "anchor_strengths",
    "length_classes",
    "length_distance",
    "length_quotas",
    "plan_aims",
]

N_LENGTHS = 10
"""Length classes of the anchor: deciles."""

_MOST_NAMED = 3
"""Features of an aim that are named, at most."""


@dataclass(frozen=True, slots=True)
class Aim:
    """What one text is asked for."""

    feature_ids: tuple[int, ...]
    """Features that it is to activate, the most wanted first; none if only rates count."""

    row: int
    """The anchor sample that it is to be like."""

    is_missing: bool = False
    """Whether the first feature is still missing."""


@dataclass(frozen=True)
class Wanted:
    """How much each feature is wanted, from the most urgent tier to the least."""

    missing: Float64[np.ndarray, " n_features"]
    """Weights of features that nothing covers yet."""

    rare: Float64[np.ndarray, " n_features"]
    """Weights of features that too few samples cover."""

    too_few: Int64[np.ndarray, " n_features"]
    """Samples that each feature should have, less those that it has."""

    lacking: Float64[np.ndarray, " n_features"]
    """Samples of the final set that would activate a feature at the anchor's rate, less those that
    do; below 0 where it fires too often."""

    scale: Float64[np.ndarray, " n_features"]
    """1 / max(expected count, 1); 0 for features that the anchor does not activate."""

    @classmethod
    def measure(
        cls,
        anchor: ActiveRows,
        counts: Int64[np.ndarray, " n_features"],
        *,
        openness: Float64[np.ndarray, " n_features"],
        per_feature: int,
        n_final: int,
    ) -> "Wanted":
        """What a set with these firing counts still wants.

        Args:
            anchor: The anchor.
            counts: Samples that activate each feature.
            openness: How much a feature may be asked for because it is missing or too rare, from 0
                to 1.
            per_feature: Samples that each feature should have.
            n_final: Size of the final set.
        """
        weights = np.sqrt(anchor.counts) * openness
        too_few = per_feature - counts
        expected = anchor.counts * (n_final / max(1, anchor.n_samples))
        scale = np.where(expected > 0, 1.0 / np.maximum(expected, 1.0), 0.0)
        return cls(
            weights * (counts == 0), weights * (too_few > 0), too_few, expected - counts, scale
        )

    @property
    def short(self) -> Float64[np.ndarray, " n_features"]:
        """The lacking share of what is expected, in [0, 1]."""
        short: Float64[np.ndarray, " n_features"] = np.maximum(self.lacking, 0.0) * self.scale
        return short


def anchor_strengths(anchor: ActiveRows) -> csr_array:
    """Activations as a share of each feature's largest one in the anchor, in (0, 1]."""
    matrix = anchor.matrix
    values = matrix.data / np.maximum(anchor.peaks[matrix.indices], 1e-12)
    return csr_array((values.astype(np.float64), matrix.indices, matrix.indptr), matrix.shape)


def plan_aims(
    strengths: csr_array,
    wanted: Wanted,
    classes: Int64[np.ndarray, " n_samples"],
    room: Int64[np.ndarray, " n_classes"],
    *,
    n: int,
    uses: Int64[np.ndarray, " n_samples"],
    is_shown: Bool[np.ndarray, " n_samples"],
) -> list[Aim]:
    """Choose anchor texts for one round, greedily.

    Each turn goes to the length class with the most room, in proportion. Within it the text is
    taken whose strengths of the wanted features weigh most, half as much for each time that it was
    used; what it is to fill is wanted less from then on. Ties go to the earlier text. Without any
    room only missing features are aimed at, in texts of any length.

    Args:
        strengths: See `anchor_strengths`.
        wanted: What is still wanted.
        classes: Length class of each anchor sample.
        room: Samples still wanted of each length class.
        n: Texts to ask for.
        uses: How often each anchor sample was aimed with before.
        is_shown: Anchor samples that have a text to show.
    """
    tiers = [wanted.missing.copy(), wanted.rare.copy(), wanted.short.copy()]
    uses, aims, given = uses.copy(), list[Aim](), np.zeros(room.size)
    only_missing = not room.any()
    has_text = np.bincount(classes[is_shown], minlength=room.size) > 0
    for _ in range(n):
        allowed = is_shown.copy()
        if not only_missing:
            turns = np.where(room > 0, (given + 1.0) / np.maximum(room, 1), np.inf)
            turn = int(np.argmin(np.where(has_text, turns, np.inf)))
            given[turn] += 1.0
            allowed &= classes == turn
        if not allowed.any():
            break
        fresh = np.where(allowed, 0.5**uses, 0.0)
        found = _best_row(strengths, tiers[:1] if only_missing else tiers, fresh)
        if found is None and only_missing:
            break
        row, tier = found or (int(fresh.argmax()), None)
        uses[row] += 1
        aims.append(_aim(strengths, tiers, row, tier))
    return aims


def _best_row(
    strengths: csr_array,
    tiers: Sequence[Float64[np.ndarray, " n_features"]],
    fresh: Float64[np.ndarray, " n_samples"],
) -> tuple[int, int] | None:
    """The row that gains most by the first tier with a gain, and the number of that tier.

    `fresh` weighs the rows; those with 0 are not allowed.
    """
    for number, weights in enumerate(tiers):
        if not weights.any():
            continue
        gains = fresh * (strengths @ weights)
        row = int(gains.argmax())
        if gains[row] > 1e-9:
            return row, number
    return None


def _aim(
    strengths: csr_array,
    tiers: Sequence[Float64[np.ndarray, " n_features"]],
    row: int,
    tier: int | None,
) -> Aim:
    """The features of a row that are wanted most; all tiers want what it has less from now on."""
    start, end = strengths.indptr[row : row + 2]
    features, shares = strengths.indices[start:end], strengths.data[start:end]
    named: tuple[int, ...] = ()
    if tier is not None and tier < len(tiers) - 1:
        gains = tiers[tier][features] * shares
        order = np.lexsort((features, -gains))[:_MOST_NAMED]
        named = tuple(int(features[i]) for i in order if gains[i] > 0)
    for weights in tiers:
        weights[features] *= 1.0 - shares
    return Aim(named, row, tier == 0)


def length_classes(
    n_tokens: Int64[np.ndarray, " n"], anchor_tokens: Int64[np.ndarray, " m"]
) -> Int64[np.ndarray, " n"]:
    """Which decile of the anchor's lengths each length falls into, from 0 to 9; 10 if none."""
    inner = np.quantile(anchor_tokens, np.arange(1, N_LENGTHS + 1) / N_LENGTHS, method="lower")
    return np.searchsorted(inner, n_tokens, side="left").astype(np.int64)


def length_quotas(
    anchor_tokens: Int64[np.ndarray, " m"], n_samples: int
) -> Int64[np.ndarray, " n_classes"]:
    """Samples of each length class in a set of some size, by its share of the anchor.

    Where many lengths are equal, classes differ in size. Largest remainders, so the sum is exact.
    """
    sizes = np.bincount(length_classes(anchor_tokens, anchor_tokens), minlength=N_LENGTHS + 1)
    exact = n_samples * sizes / anchor_tokens.size
    quotas = np.floor(exact).astype(np.int64)
    rest = np.argsort(quotas - exact, kind="stable")[: n_samples - int(quotas.sum())]
    quotas[rest] += 1
    return quotas


def length_distance(
    n_tokens: Int64[np.ndarray, " n"], anchor_tokens: Int64[np.ndarray, " m"]
) -> float:
    """Kolmogorov-Smirnov distance between two distributions of lengths, in [0, 1]."""
    points = np.union1d(n_tokens, anchor_tokens)
    shares = [
        np.searchsorted(np.sort(x), points, side="right") / x.size
        for x in (n_tokens, anchor_tokens)
    ]
    return float(np.abs(shares[0] - shares[1]).max())
