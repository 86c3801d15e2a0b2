"""Greedy maximum coverage of features by samples."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Int64
from numpy.typing import NDArray
from scipy.sparse import csc_array

from facsynth.select.picks import Group, Spending, take_turns

__all__ = ["coverage_picks"]


def coverage_picks(
    fires: Any,
    groups: Sequence[Group],
    weights: NDArray[np.int64],
    spending: Spending,
    *,
    taken: Sequence[int] = (),
) -> Int64[np.ndarray, " n_selected"]:
    """Greedy maximum coverage: each pick adds the largest weight of features not yet covered.

    A feature is covered when a pick activates it. Groups take turns; within a group ties go to the
    shorter sample, then to the earlier one. With one group and equal weights the result covers at
    least 1 - 1/e of what the best choice would (Nemhauser, Wolsey and Fisher 1978). When nothing
    in a group adds coverage, its features have to be activated by one more pick (the fold of the
    group), or by as many as are needed for a gain.

    The gains of all samples are updated: when a feature is covered, its weight is subtracted
    from the samples that activate it. Every entry is touched once for each fold, so the time is
    linear in the entries and gains are exact; a lazy heap (Minoux 1978) gives the same picks but
    recounts most samples many times.

    Args:
        fires: Sparse rows (n_samples, n_features) of ones where a feature is active.
        groups: From `plan_groups`.
        weights: Weight of each feature; integers of at least 0, so that ties are exact.
        spending: Tokens that may be spent; a sample with more than are left is skipped.
        taken: Samples chosen before; what they activate counts as activated by picks.
    """
    taken_rows = fires[np.asarray(taken, dtype=np.int64)]
    seen = np.bincount(taken_rows.indices, minlength=weights.size).astype(np.int64)
    parts = [_Part(fires, group.rows, weights) for group in groups]
    for part in parts:
        part.refresh(seen)
    picked = []
    for turn in take_turns(groups):
        rank = parts[turn].best(seen, spending)
        if rank is None:
            continue
        row = int(groups[turn].rows[rank])
        parts[turn].gains[rank] = -np.inf
        picked.append(row)
        spending.pay(row)
        features = fires.indices[fires.indptr[row] : fires.indptr[row + 1]]
        seen[features] += 1
        for part in parts:
            part.cover(features[seen[features] == part.fold])
    return np.array(picked, dtype=np.int64)


@dataclass(eq=False)
class _Part:
    """The rows of one group with their gains; minus infinity for rows that are no longer free."""

    fires: Any
    rows: NDArray[np.int64]
    weights: NDArray[np.int64]
    fold: int = field(default=1, init=False)
    gains: NDArray[np.float64] = field(init=False)
    columns: Any = field(init=False)

    def __post_init__(self) -> None:
        self.fires = self.fires[self.rows]
        self.columns = csc_array(self.fires)
        self.gains = np.zeros(self.rows.size)

    def refresh(self, seen: NDArray[np.int64]) -> None:
        """Recompute the gains of the free rows."""
        open_weights = np.where(seen < self.fold, self.weights, 0).astype(np.float64)
        self.gains = np.where(np.isinf(self.gains), -np.inf, self.fires @ open_weights)

    def cover(self, features: Any) -> None:
        """Subtract the weight of newly covered features from the rows that activate them."""
        starts, ends = self.columns.indptr[features], self.columns.indptr[features + 1]
        n_rows = ends - starts
        if not n_rows.sum():
            return
        at = np.repeat(starts - np.cumsum(n_rows) + n_rows, n_rows) + np.arange(n_rows.sum())
        weights = np.repeat(self.weights[features], n_rows)
        np.subtract.at(self.gains, self.columns.indices[at], weights.astype(np.float64))

    def best(self, seen: NDArray[np.int64], spending: Spending) -> int | None:
        """Rank of the best row within the budget; None if there is none."""
        self.gains[spending.over_budget(self.rows)] = -np.inf
        if np.isinf(self.gains).all():
            return None
        if self.gains.max() == 0:
            self._raise_fold(seen)
        return int(np.argmax(self.gains))

    def _raise_fold(self, seen: NDArray[np.int64]) -> None:
        left = self.fires[np.flatnonzero(~np.isinf(self.gains))]
        reached = np.unique(left.indices)
        reached = reached[self.weights[reached] > 0]
        if reached.size:
            self.fold = int(seen[reached].min()) + 1
            self.refresh(seen)
