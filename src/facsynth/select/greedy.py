"""Greedy maximum coverage of features by samples: exact, stochastic, and by dissimilarity."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from math import ceil, log
from typing import Any

import numpy as np
from jaxtyping import Int64
from numpy.typing import NDArray
from scipy.sparse import csc_array

from facsynth.select.picks import Group, Purse, active_in, take_turns

__all__ = ["coverage_picks", "dissimilar_picks", "stochastic_picks"]


def coverage_picks(
    fires: Any,
    groups: Sequence[Group],
    weights: NDArray[np.int64],
    purse: Purse,
    *,
    fold: int = 1,
    taken: Sequence[int] = (),
) -> Int64[np.ndarray, " n_selected"]:
    """Greedy maximum coverage: each pick adds the largest weight of features not yet covered.

    A feature is covered when `fold` picks activate it. Groups take turns; within a group ties go
    to the shorter sample, then to the earlier one. With one group and equal weights the result
    covers at least 1 - 1/e of what the best choice would (Nemhauser, Wolsey and Fisher 1978).
    When nothing in a group adds coverage, the fold of this group rises by as much as is needed
    for a gain.

    The gains of all samples are kept up to date: when a feature is covered, its weight is taken
    from the samples that activate it. Every entry is touched once for each fold, so the time is
    linear in the entries and gains are exact; a lazy heap (Minoux 1978) gives the same picks and
    counts most samples many times.

    Args:
        fires: Sparse rows (n_samples, n_features) of ones where a feature is active.
        groups: From `plan_groups`.
        weights: Weight of each feature; integers of at least 0, so that ties are exact.
        purse: What samples cost and what may be spent; a sample that costs more is passed over.
        fold: Picks that count for the same feature, at least 1.
        taken: Samples chosen before; what they activate counts as activated by picks.
    """
    seen = _seen(fires, taken, weights.size)
    parts = [_Part(fires, group.rows, weights, fold) for group in groups]
    for part in parts:
        part.refresh(seen)
    picked = []
    for turn in take_turns(groups):
        rank = parts[turn].best(seen, purse)
        if rank is None:
            continue
        row = int(groups[turn].rows[rank])
        parts[turn].gains[rank] = -np.inf
        picked.append(row)
        purse.pay(row)
        features = active_in(fires, row)
        seen[features] += 1
        for part in parts:
            part.cover(features[seen[features] == part.fold])
    return np.array(picked, dtype=np.int64)


@dataclass(eq=False)
class _Part:
    """The rows of one group with their gains; minus infinity for those that are gone."""

    fires: Any
    rows: NDArray[np.int64]
    weights: NDArray[np.int64]
    fold: int
    gains: NDArray[np.float64] = field(init=False)
    columns: Any = field(init=False)

    def __post_init__(self) -> None:
        self.fires = self.fires[self.rows]
        self.columns = csc_array(self.fires)
        self.gains = np.zeros(self.rows.size)

    def refresh(self, seen: NDArray[np.int64]) -> None:
        """Count the gains of the rows that are left."""
        open_weights = np.where(seen < self.fold, self.weights, 0).astype(np.float64)
        self.gains = np.where(np.isinf(self.gains), -np.inf, self.fires @ open_weights)

    def cover(self, features: Any) -> None:
        """Take the weight of features that are covered now from the rows that activate them."""
        starts, ends = self.columns.indptr[features], self.columns.indptr[features + 1]
        n_rows = ends - starts
        if not n_rows.sum():
            return
        at = np.repeat(starts - np.cumsum(n_rows) + n_rows, n_rows) + np.arange(n_rows.sum())
        weights = np.repeat(self.weights[features], n_rows)
        np.subtract.at(self.gains, self.columns.indices[at], weights.astype(np.float64))

    def best(self, seen: NDArray[np.int64], purse: Purse) -> int | None:
        """Rank of the best row that can be paid for; None when there is none."""
        self.gains[purse.too_dear(self.rows)] = -np.inf
        if np.isinf(self.gains).all():
            return None
        if self.gains.max() == 0:
            self._raise_fold(seen)
        return int(np.argmax(purse.values(self.gains, self.rows)))

    def _raise_fold(self, seen: NDArray[np.int64]) -> None:
        left = self.fires[np.flatnonzero(~np.isinf(self.gains))]
        reached = np.unique(left.indices)
        reached = reached[self.weights[reached] > 0]
        if reached.size:
            self.fold = int(seen[reached].min()) + 1
            self.refresh(seen)


def stochastic_picks(
    fires: Any,
    groups: Sequence[Group],
    weights: NDArray[np.int64],
    purse: Purse,
    *,
    epsilon: float,
    rng: np.random.Generator,
    fold: int = 1,
    taken: Sequence[int] = (),
) -> Int64[np.ndarray, " n_selected"]:
    """Greedy maximum coverage where each pick looks at a random part of its group only.

    Of a group with n samples and k picks, ⌈(n / k) ln(1 / ε)⌉ samples are drawn for each pick and
    the best of them is taken; with one group the expected coverage is at least 1 - 1/e - ε of
    the best choice's (Mirzasoleiman et al. 2015, "Lazier than lazy greedy"). It needs no copy of
    the rows by column, which matters for pools that barely fit into memory.

    Args:
        fires: As in `coverage_picks`, like the others.
        groups: From `plan_groups`.
        weights: Weight of each feature.
        purse: Tokens of the samples, and how many may be spent.
        epsilon: In (0, 1); smaller looks at more samples.
        rng: Source of the draws.
        fold: Picks that count for the same feature.
        taken: Samples chosen before.
    """
    seen = _seen(fires, taken, weights.size)
    free = [group.rows for group in groups]
    picked = []
    for turn in take_turns(groups):
        group = groups[turn]
        free[turn] = rows = free[turn][~purse.too_dear(free[turn])]
        if not rows.size:
            continue
        size = min(rows.size, ceil(group.rows.size / group.n_picks * log(1.0 / epsilon)))
        drawn = np.sort(rng.choice(rows.size, size, replace=False))
        gains = fires[rows[drawn]] @ np.where(seen < fold, weights, 0).astype(np.float64)
        rank = int(drawn[np.argmax(purse.values(gains, rows[drawn]))])
        row = int(rows[rank])
        free[turn] = np.delete(rows, rank)
        picked.append(row)
        purse.pay(row)
        seen[active_in(fires, row)] += 1
    return np.array(picked, dtype=np.int64)


def dissimilar_picks(
    fires: Any,
    groups: Sequence[Group],
    weights: NDArray[np.int64],
    purse: Purse,
    *,
    max_overlap: float,
    taken: Sequence[int] = (),
) -> Int64[np.ndarray, " n_selected"]:
    """One pass over the samples, taking those that differ enough from what was taken.

    Samples are read from the one with the largest weight of active features down (ties: shorter,
    then earlier). One is taken when the picks of its group cover less than `max_overlap` of the
    weight of its features. A pass that ends too early is followed by another one that starts
    with nothing covered; when that takes nothing either, the rest is taken in order. This is the
    idea of SAE-SimScale (Yang et al. 2025, arXiv 2502.14050), whose code is not public: the order
    of reading and what follows a pass are our choice. It costs one look at each sample.

    Args:
        fires: As in `coverage_picks`, like the others.
        groups: From `plan_groups`.
        weights: Weight of each feature.
        purse: Tokens of the samples, and how many may be spent.
        max_overlap: In [0, 1].
        taken: Samples chosen before; they count as taken in the first pass of every group.
    """
    start = _seen(fires, taken, weights.size) > 0
    orders = [_Reading(fires, group.rows, weights, start, max_overlap) for group in groups]
    picked = []
    for turn in take_turns(groups):
        row = orders[turn].next_row(purse)
        if row is not None:
            picked.append(row)
            purse.pay(row)
    return np.array(picked, dtype=np.int64)


class _Reading:
    """The passes over one group."""

    def __init__(
        self,
        fires: Any,
        rows: NDArray[np.int64],
        weights: NDArray[np.int64],
        start: NDArray[np.bool_],
        max_overlap: float,
    ) -> None:
        self._sizes = fires[rows] @ weights.astype(np.float64)
        order = np.argsort(-self._sizes, kind="stable")
        self._fires, self._weights, self._max_overlap = fires, weights, max_overlap
        self._left = rows[order].tolist()
        self._at, self._n_taken, self._covered = 0, 0, start.copy()

    def next_row(self, purse: Purse) -> int | None:
        """The next sample to take; None when the group is used up."""
        self._left, dropped = _affordable(self._left, self._at, purse)
        self._at -= dropped
        while self._left:
            for at in range(self._at, len(self._left)):
                if self._is_new(self._left[at]):
                    return self._take(at)
            is_stuck, self._at, self._n_taken = self._n_taken == 0, 0, 0
            if is_stuck and not self._covered.any():
                return self._take(0)
            self._covered[:] = False
        return None

    def _is_new(self, row: int) -> bool:
        features = active_in(self._fires, row)
        whole = int(self._weights[features].sum())
        known = int(self._weights[features[self._covered[features]]].sum())
        return whole > 0 and known < self._max_overlap * whole

    def _take(self, at: int) -> int:
        row: int = self._left.pop(at)
        self._at, self._n_taken = at, self._n_taken + 1
        self._covered[active_in(self._fires, row)] = True
        return row


def _affordable(rows: list[int], at: int, purse: Purse) -> tuple[list[int], int]:
    """Rows that can be paid for, and how many in front of `at` cannot."""
    if purse.left is None or not rows:
        return rows, 0
    dear = purse.too_dear(np.array(rows, dtype=np.int64))
    kept = [row for row, gone in zip(rows, dear, strict=True) if not gone]
    return kept, int(dear[:at].sum())


def _seen(fires: Any, taken: Sequence[int], n_features: int) -> NDArray[np.int64]:
    """How many of these samples activate each feature."""
    rows = np.asarray(taken, dtype=np.int64)
    return np.bincount(fires[rows].indices, minlength=n_features).astype(np.int64)
