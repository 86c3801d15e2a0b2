"""Greedy choice of samples: maximum coverage, herding, and herding on a class direction.

Every function takes sparse binary rows and groups of samples that take turns, and returns
positions in the order of choice. `facsynth.coverage.select` makes these from feature tables.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from heapq import heapify, heappop, heapreplace
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64, Int64
from numpy.typing import NDArray

from facsynth.errors import DataError

__all__ = ["Group", "coverage_picks", "direction_picks", "herding_picks", "plan_groups"]

N_QUOTAS = 10
"""Length groups of `quota="length"`: deciles."""

Heap = list[tuple[float, int]]


@dataclass(frozen=True, slots=True)
class Group:
    """Samples of which so many are to be chosen."""

    rows: Int64[np.ndarray, " n_rows"]
    """Positions in the pool, shorter samples first, ties in the order of the pool."""

    n_picks: int
    class_id: int = 0
    """Class of all samples of the group; 0 when classes play no part."""


def plan_groups(
    n_tokens: Int64[np.ndarray, " n_samples"],
    *,
    budget: int,
    quota: Literal["length", "none"],
    class_ids: Int64[np.ndarray, " n_samples"] | None = None,
) -> tuple[Group, ...]:
    """Length groups and the number of picks from each, so that picks have the pool's lengths.

    Samples are ranked by tokens (ties in pool order), within each class if there are classes. A
    group is a tenth of the ranks, and its number of picks is how many of the N evenly spaced
    ranks ⌊(i + ½) n / N⌋ fall into it. Classes share the budget in proportion to their size, at
    least one pick each, by largest remainders.

    Raises:
        DataError: No sample has tokens, or there are more classes than picks.
    """
    usable = np.flatnonzero(n_tokens > 0)
    if not usable.size:
        raise DataError(f"none of the {n_tokens.size} samples of the pool has scored tokens")
    classes = np.zeros_like(n_tokens) if class_ids is None else class_ids
    sizes = np.bincount(classes[usable], minlength=int(classes.max()) + 1)
    shares = _class_shares(sizes, min(budget, usable.size))
    groups = []
    for label, share in enumerate(shares):
        rows = usable[classes[usable] == label]
        rows = rows[np.lexsort((rows, n_tokens[rows]))]
        n_groups = min(N_QUOTAS, rows.size) if quota == "length" else 1
        tenths = np.arange(rows.size) * n_groups // rows.size
        ranks = (2 * np.arange(share) + 1) * rows.size // (2 * share)
        picks = np.bincount(tenths[ranks], minlength=n_groups)
        groups += [(i, Group(rows[tenths == i], int(n), label)) for i, n in enumerate(picks)]
    return tuple(g for _, g in sorted(groups, key=lambda pair: (pair[0], pair[1].class_id)))


def coverage_picks(
    fires: Any,
    groups: Sequence[Group],
    weights: NDArray[np.int64],
    *,
    fold: int = 1,
) -> Int64[np.ndarray, " n_selected"]:
    """Greedy maximum coverage: each pick adds the largest weight of features not yet covered.

    A feature is covered when `fold` picks activate it. Groups take turns; within a group ties go
    to the shorter sample, then to the earlier one. With one group and equal weights the result
    covers at least 1 - 1/e of what the best choice would (Nemhauser, Wolsey and Fisher 1978).
    Gains only fall, so a sample is counted again only when it comes to the top of a heap (Minoux
    1978), which gives the same picks as counting all. When nothing in a group adds coverage, the
    fold of this group rises by as much as is needed for a gain.

    Args:
        fires: Sparse rows (n_samples, n_features) of ones where a feature is active.
        groups: From `plan_groups`.
        weights: Weight of each feature, above 0; integers, so that ties are exact.
        fold: Picks that count for the same feature, at least 1.
    """
    seen = np.zeros(weights.size, dtype=np.int64)
    folds = [fold] * len(groups)
    heaps = [_heap(fires, group.rows, weights, range(group.rows.size)) for group in groups]
    reach = [_reach(fires[group.rows]) for group in groups]
    picked = []
    for turn in _turns(groups):
        rows, heap = groups[turn].rows, heaps[turn]
        open_weights = np.where(reach[turn] & (seen < folds[turn]), weights, 0)
        gain, rank = _best(fires, rows, heap, open_weights) if open_weights.any() else (0, 0)
        if gain == 0:
            left = [rank for _, rank in heap]
            reach[turn] = _reach(fires[rows[left]])
            if reach[turn].any():
                folds[turn] = int(seen[reach[turn]].min()) + 1
                open_weights = np.where(reach[turn] & (seen < folds[turn]), weights, 0)
                heap = heaps[turn] = _heap(fires, rows, open_weights, left)
            _, rank = heap[0]
        heappop(heap)
        picked.append(int(rows[rank]))
        seen[_features(fires, rows[rank])] += 1
    return np.array(picked, dtype=np.int64)


def herding_picks(
    fires: Any,
    groups: Sequence[Group],
    counts: Int64[np.ndarray, " n_features"],
    n_target: int,
    *,
    weights: Int64[np.ndarray, " n_features"],
    tolerance: float = 1.0,
    fold: int = 1,
) -> Int64[np.ndarray, " n_selected"]:
    """Herding: each pick brings the mean of the picks as near to the target mean as it can.

    Samples are binary vectors φ of active features, the target is μ = counts / n_target. Columns
    are the features that the target fires, so others neither help nor harm a sample. Pick t
    minimises ‖(Σ φ(picked) + φ(x)) / t - μ‖, the greedy form of herding (Welling 2009; Chen,
    Welling and Smola 2010) with a linear kernel. Sums are integers, so ties are exact; they go to
    the shorter sample, then to the earlier one.

    A tolerance below 1 gives the objective `both`: only samples of the group whose coverage gain,
    as in `coverage_picks`, is at least (1 - tolerance) times the group's best are considered, and
    herding decides between them. When nothing adds coverage, herding decides alone.

    Args:
        fires: Sparse rows (n_samples, n_features) of ones where a feature is active.
        groups: From `plan_groups`.
        counts: Target samples that activate each feature.
        n_target: Number of target samples.
        weights: Weight of each feature in coverage.
        tolerance: In [0, 1]; 1 leaves coverage out.
        fold: Picks that count for the same feature in coverage.
    """
    parts = [fires[group.rows] for group in groups]
    free = [np.ones(group.rows.size, dtype=np.bool_) for group in groups]
    sums, picked = np.zeros(counts.size, dtype=np.int64), []
    for t, turn in enumerate(_turns(groups), start=1):
        part = parts[turn]
        pull = (n_target * sums - t * counts).astype(np.float64)
        costs = n_target * np.diff(part.indptr) + 2.0 * (part @ pull)
        allowed = free[turn]
        if tolerance < 1.0:
            gains = part @ np.where(sums < fold, weights, 0).astype(np.float64)
            allowed = allowed & (gains >= (1.0 - tolerance) * gains[allowed].max())
        rank = int(np.argmin(np.where(allowed, costs, np.inf)))
        free[turn][rank] = False
        picked.append(int(groups[turn].rows[rank]))
        sums[_features(part, rank)] += 1
    return np.array(picked, dtype=np.int64)


def direction_picks(
    fires: Any,
    groups: Sequence[Group],
    means: Float64[np.ndarray, "n_classes n_features"],
) -> Int64[np.ndarray, " n_selected"]:
    """Herding on the class-mean difference.

    With e_c the mean φ of the picks of class c minus its target mean, each pick minimises
    Σ_c ‖e_c - ē‖², ē the mean of the e_c; of two classes this is half the squared distance
    between the picks' difference of class means and the target's. A class without picks counts
    as e_c = 0. Classes and lengths follow the groups; ties go to the shorter, then the earlier.

    Args:
        fires: Sparse rows (n_samples, n_features) of ones where a feature is active.
        groups: From `plan_groups` with classes.
        means: Target mean of each class.
    """
    n_classes = means.shape[0]
    parts = [fires[group.rows] for group in groups]
    free = [np.ones(group.rows.size, dtype=np.bool_) for group in groups]
    sums, errors = np.zeros_like(means), np.zeros_like(means)
    sizes, picked = np.zeros(n_classes), []
    for turn in _turns(groups):
        label, part = groups[turn].class_id, parts[turn]
        n = sizes[label] + 1.0
        others = errors.sum(axis=0) - errors[label]
        pull = (n_classes - 1) * (sums[label] / n - means[label]) - others
        costs = (n_classes - 1) * np.diff(part.indptr) / n + 2.0 * (part @ pull)
        rank = int(np.argmin(np.where(free[turn], costs, np.inf)))
        free[turn][rank] = False
        picked.append(int(groups[turn].rows[rank]))
        sums[label][_features(part, rank)] += 1.0
        sizes[label], errors[label] = n, sums[label] / n - means[label]
    return np.array(picked, dtype=np.int64)


def _class_shares(sizes: NDArray[np.int64], budget: int) -> NDArray[np.int64]:
    if budget < sizes.size or not sizes.all():
        raise DataError(
            f"{budget} picks cannot hold {sizes.size} classes with samples in each of them; raise "
            "--budget or leave empty texts out"
        )
    exact = budget * sizes / sizes.sum()
    shares: NDArray[np.int64] = np.maximum(np.floor(exact), 1).astype(np.int64)
    while shares.sum() != budget:
        step = 1 if shares.sum() < budget else -1
        movable = shares < sizes if step > 0 else shares > 1
        shares[np.argmax(np.where(movable, step * (exact - shares), -np.inf))] += step
    return shares


def _turns(groups: Sequence[Group]) -> Iterator[int]:
    """Group of each pick: round-robin until the picks of a group are used up."""
    for done in range(max(group.n_picks for group in groups)):
        yield from (i for i, group in enumerate(groups) if group.n_picks > done)


def _features(fires: Any, row: Any) -> Any:
    return fires.indices[fires.indptr[row] : fires.indptr[row + 1]]


def _reach(fires: Any) -> NDArray[np.bool_]:
    """Features that some of these rows activate."""
    reached = np.zeros(fires.shape[1], dtype=np.bool_)
    reached[fires.indices] = True
    return reached


def _heap(
    fires: Any, rows: NDArray[np.int64], weights: NDArray[np.int64], ranks: Sequence[int]
) -> Heap:
    gains = fires[rows[list(ranks)]] @ weights.astype(np.float64)
    heap = list(zip((-gains).tolist(), ranks, strict=True))
    heapify(heap)
    return heap


def _best(
    fires: Any, rows: NDArray[np.int64], heap: Heap, weights: NDArray[np.int64]
) -> tuple[float, int]:
    """Bring the best sample to the top; the gains below it are upper bounds."""
    while True:
        before, rank = heap[0]
        gain = float(weights[_features(fires, rows[rank])].sum())
        if -gain == before:
            return gain, rank
        heapreplace(heap, (-gain, rank))
