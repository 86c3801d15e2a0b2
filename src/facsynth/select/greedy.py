"""Greedy maximum coverage of features by samples."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Int64
from numpy.typing import NDArray

from facsynth.select.picks import Group, Spending, plan_groups, take_turns
from facsynth.table.active import ActiveRows
from facsynth.table.firing import FiringRows, row_entries

__all__ = ["coverage_picks", "covering_rows"]


def coverage_picks(
    fires: FiringRows,
    groups: Sequence[Group],
    weights: NDArray[np.int64],
    spending: Spending,
    *,
    taken: Sequence[int] = (),
    once: bool = False,
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
        fires: Which features are active in which samples.
        groups: From `plan_groups`.
        weights: Weight of each feature; integers of at least 0, so that ties are exact.
        spending: Tokens that may be spent; a sample with more than are left is skipped.
        taken: Samples chosen before; what they activate counts as activated by picks.
        once: Stop choosing from a group when nothing adds coverage.
    """
    seen = fires.take(taken).counts()
    parts = [_Part(fires, group.rows, weights) for group in groups]
    for part in parts:
        part.refresh(seen)
    picked = []
    exhausted = set[int]()
    for turn in take_turns(groups):
        rank = None if turn in exhausted else parts[turn].best(seen, spending, once=once)
        if rank is None:
            exhausted.add(turn)  # gains only fall, and so does what may be spent
            continue
        row = int(groups[turn].rows[rank])
        parts[turn].gains[rank] = -np.inf
        picked.append(row)
        spending.pay(row)
        features = fires.row(row)
        seen[features] += 1
        for part in parts:
            part.cover(features[seen[features] == part.fold])
    return np.array(picked, dtype=np.int64)


def covering_rows(rows: ActiveRows) -> Int64[np.ndarray, " n_selected"]:
    """Few samples, in greedy order, that activate every feature that the table activates."""
    most = min(rows.n_samples, int(np.count_nonzero(rows.features)))  # each adds a feature
    groups = plan_groups(rows.n_tokens, budget=most, quota="none")
    weights = rows.features.astype(np.int64)
    return coverage_picks(rows.firing, groups, weights, Spending(rows.n_tokens), once=True)


@dataclass(eq=False)
class _Part:
    """The rows of one group with their gains; minus infinity for rows that are no longer free."""

    fires: FiringRows
    rows: NDArray[np.int64]
    weights: NDArray[np.int64]
    fold: int = field(default=1, init=False)
    gains: NDArray[np.float64] = field(init=False)
    column_starts: NDArray[np.int64] = field(init=False)
    columns: NDArray[np.int32] = field(init=False)

    def __post_init__(self) -> None:
        self.fires = self.fires.take(self.rows)
        self.column_starts, self.columns = self.fires.by_feature()
        self.gains = np.zeros(self.rows.size)

    def refresh(self, seen: NDArray[np.int64]) -> None:
        """Recompute the gains of the free rows."""
        open_weights = np.where(seen < self.fold, self.weights, 0).astype(np.float64)
        self.gains = np.where(np.isinf(self.gains), -np.inf, self.fires.sum_features(open_weights))

    def cover(self, features: Any) -> None:
        """Subtract the weight of newly covered features from the rows that activate them."""
        columns = features.astype(np.int64)
        at = row_entries(self.column_starts, columns)
        weights = np.repeat(self.weights[columns], np.diff(self.column_starts)[columns])
        # `at` is slow with other types
        np.subtract.at(self.gains, self.columns[at].astype(np.intp), weights.astype(np.float64))

    def best(self, seen: NDArray[np.int64], spending: Spending, *, once: bool) -> int | None:
        """Rank of the best row within the budget; None if there is none."""
        if spending.left is not None:
            self.gains[spending.over_budget(self.rows)] = -np.inf
        rank = int(np.argmax(self.gains))
        if self.gains[rank] == -np.inf or (once and self.gains[rank] == 0):
            return None
        if self.gains[rank] == 0:
            self._raise_fold(seen)
            rank = int(np.argmax(self.gains))
        return rank

    def _raise_fold(self, seen: NDArray[np.int64]) -> None:
        [shown] = self.fires.seen_in([~np.isinf(self.gains)])
        reached = np.flatnonzero(shown & (self.weights > 0))
        if reached.size:
            self.fold = int(seen[reached].min()) + 1
            self.refresh(seen)
