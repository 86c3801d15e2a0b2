"""Which features several data sets share, and how few samples of one keep its features.

Overlap is not symmetric: a small set lies inside a large one more than the other way round (as
Qwen-Scope shows for benchmarks). A share also grows with the size and the text length of the
second set, so beside it stands the same share between random parts of equal size and matched
lengths, and in its diagonal what two parts of one set share. Every entry of a table handed to this
module counts as active; `facsynth.coverage.fac.active_only` drops the others.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64
from numpy.typing import NDArray

from facsynth.coverage.controls import length_matched_subset
from facsynth.coverage.fac import check_widths
from facsynth.coverage.richness import expected_richness
from facsynth.errors import DataError
from facsynth.records import FeatureActivations
from facsynth.select.select import Pool, SelectSettings, select_samples

__all__ = [
    "MatchedOverlap",
    "Redundancy",
    "matched_overlap",
    "measure_redundancy",
    "overlap_matrix",
]

SHARES = (0.5, 0.8, 0.9, 0.95, 0.99, 1.0)
"""Shares of a set's features for which the fewest samples are asked."""


@dataclass(frozen=True)
class MatchedOverlap:
    """Overlap between random parts of equal size and lengths; see `matched_overlap`."""

    shares: Float64[np.ndarray, "n_sets n_sets"]
    """Mean share of the features of a part of set i that a part of set j has as well; of two
    parts of the same set in the diagonal: the most to expect."""

    spread: Float64[np.ndarray, "n_sets n_sets"]
    """Standard deviation over the draws."""

    length_ratios: Float64[np.ndarray, "n_sets n_sets"]
    """Mean tokens of the part of set j over those of the part of set i; 1 is a perfect match."""

    n_samples: int
    """Samples of each part: half of the smallest set."""

    n_draws: int


@dataclass(frozen=True)
class Redundancy:
    """How few samples keep the features of a data set."""

    order: Int64[np.ndarray, " n_chosen"]
    """Samples in greedy order: each adds the most features not yet seen."""

    n_kept: Int64[np.ndarray, " n_chosen"]
    """Features that the first so many of them activate."""

    n_features: int
    """Features that the whole set activates."""

    n_samples: int
    needed: tuple[tuple[float, int, int], ...]
    """Share of the features, fewest samples found that keep it, and how many random ones do."""


def overlap_matrix(
    tables: Sequence[FeatureActivations], relevant: Bool[np.ndarray, " n_features"]
) -> Float64[np.ndarray, "n_sets n_sets"]:
    """Share of the relevant features of set i that set j has as well: |Fi ∩ Fj| / |Fi|.

    Args:
        tables: Data sets, every entry active.
        relevant: Features to count.

    Returns:
        Fractions in [0, 1], 1 in the diagonal.

    Raises:
        DataError: A set activates no relevant feature.
        MismatchError: The tables or the flags differ in their number of features.
    """
    active = _active(tables, relevant).astype(np.float64)
    shares: NDArray[np.float64] = (active @ active.T) / active.sum(axis=1)[:, None]
    return shares


def matched_overlap(
    tables: Sequence[FeatureActivations],
    relevant: Bool[np.ndarray, " n_features"],
    *,
    n_draws: int = 20,
    rng: np.random.Generator,
) -> MatchedOverlap:
    """Overlap of random parts, all of half the size of the smallest set, with lengths matched.

    From set i a random part is drawn, from set j a part of as many samples with the lengths of the
    former; within one set the two parts share no sample. So sets of any size compare, with each
    other and with the diagonal.

    Args:
        tables: Data sets, every entry active, each with at least two samples.
        relevant: Features to count.
        n_draws: Draws behind each share; those of a part without active features are left out.
        rng: Source of the draws.

    Raises:
        DataError: A set has fewer than two samples or activates no relevant feature.
        MismatchError: The tables or the flags differ in their number of features.
    """
    _active(tables, relevant)
    smallest = min(table.n_tokens.size for table in tables)
    if smallest < 2:
        raise DataError(
            "a data set has a single sample, so no part of it can be compared; leave it out"
        )
    size, n_sets = smallest // 2, len(tables)
    shares = np.full((n_draws, n_sets, n_sets), np.nan)
    ratios = np.full((n_draws, n_sets, n_sets), np.nan)
    for draw in range(n_draws):
        for i, one in enumerate(tables):
            chosen = rng.choice(one.n_tokens.size, size, replace=False)
            inside = _part(one, chosen) & relevant
            tokens = max(1.0, float(one.n_tokens[chosen].mean()))
            for j, other in enumerate(tables):
                pool = np.arange(other.n_tokens.size)
                if i == j:
                    pool = np.setdiff1d(pool, chosen)
                near = length_matched_subset(other.n_tokens[pool], one.n_tokens[chosen], rng=rng)
                ratios[draw, i, j] = float(other.n_tokens[pool[near]].mean()) / tokens
                if inside.any():
                    both = np.count_nonzero(inside & _part(other, pool[near]))
                    shares[draw, i, j] = int(both) / int(np.count_nonzero(inside))
    if np.isnan(shares).all(axis=0).any():
        raise DataError("random parts of a data set activate nothing; lower --threshold")
    return MatchedOverlap(
        shares=np.nanmean(shares, axis=0),
        spread=np.nanstd(shares, axis=0),
        length_ratios=np.nanmean(ratios, axis=0),
        n_samples=size,
        n_draws=n_draws,
    )


def measure_redundancy(
    table: FeatureActivations, relevant: Bool[np.ndarray, " n_features"]
) -> Redundancy:
    """Greedy order of the samples by new features, until all features are seen.

    Args:
        table: A data set, every entry active.
        relevant: Features to keep.

    Raises:
        DataError: The set activates no relevant feature.
    """
    total = int(np.count_nonzero(_active([table], relevant)))
    budget = min(table.n_tokens.size, total)  # each sample up to the last adds a feature
    settings = SelectSettings(budget, threshold=0.0, objective="coverage", quota="none")
    order = select_samples(Pool(table, relevant=relevant), settings)
    seen, kept = np.zeros(table.n_features, dtype=np.bool_), []
    for row in order:
        seen[table.feature_ids[table.row_starts[row] : table.row_starts[row + 1]]] = True
        kept.append(int(np.count_nonzero(seen & relevant)))
        if kept[-1] == total:
            break
    n_kept = np.array(kept, dtype=np.int64)
    counts = np.bincount(table.feature_ids, minlength=table.n_features)[relevant]
    sizes = np.arange(table.n_tokens.size + 1)
    expected = expected_richness(counts, table.n_tokens.size, sizes)
    goals = [(share, share * total - 1e-6) for share in SHARES]
    return Redundancy(
        order=order[: n_kept.size],
        n_kept=n_kept,
        n_features=total,
        n_samples=table.n_tokens.size,
        needed=tuple(
            (share, int(np.searchsorted(n_kept, goal)) + 1, int(np.searchsorted(expected, goal)))
            for share, goal in goals
        ),
    )


def _active(
    tables: Sequence[FeatureActivations], relevant: Bool[np.ndarray, " n_features"]
) -> Bool[np.ndarray, "n_sets n_features"]:
    found = []
    for number, table in enumerate(tables, start=1):
        check_widths(tables[0], table, relevant)
        counts = np.bincount(table.feature_ids, minlength=table.n_features)
        found.append((counts > 0) & relevant)
        if not found[-1].any():
            raise DataError(
                f"data set {number} activates none of the {int(relevant.sum())} relevant features, "
                "so its overlap is undefined; lower --threshold or leave it out"
            )
    return np.stack(found)


def _part(table: FeatureActivations, chosen: NDArray[np.int64]) -> Bool[np.ndarray, " n_features"]:
    member = np.zeros(table.n_tokens.size, dtype=np.bool_)
    member[chosen] = True
    active = np.zeros(table.n_features, dtype=np.bool_)
    active[table.feature_ids[np.repeat(member, np.diff(table.row_starts))]] = True
    return active
