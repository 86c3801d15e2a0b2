"""The pool that samples are chosen from, prepared for an objective."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64
from numpy.typing import NDArray

from facsynth.coverage.fac import goal_features
from facsynth.coverage.hidden import common_scale, hidden_states
from facsynth.errors import DataError, MismatchError
from facsynth.select.settings import SelectSettings
from facsynth.select.vectors import as_rows, column_sums
from facsynth.table.active import ActiveRows, check_same_width
from facsynth.table.firing import FiringRows

__all__ = [
    "Pool",
    "SelectionTask",
    "class_means",
    "column_means",
    "prepare_task",
]


@dataclass(frozen=True)
class Pool:
    """What to choose from, and the target."""

    rows: ActiveRows
    """Table to choose from."""

    anchor: ActiveRows | None = None
    """Table whose features are to be covered or matched: the target. The pool itself when None."""

    labels: Sequence[str | None] | None = None
    """Class of each sample; for `direction`."""

    anchor_labels: Sequence[str | None] | None = None
    """Class of each anchor sample; for `direction` with an anchor."""

    rejected: ActiveRows | None = None
    """The rejected answers of preference pairs, row by row; for `direction`."""

    include: tuple[int, ...] = ()
    """Samples that are always chosen, before all others."""

    @property
    def n_tokens(self) -> Int64[np.ndarray, " n_samples"]:
        """Scored tokens of each sample."""
        return self.rows.n_tokens


@dataclass(frozen=True)
class SelectionTask:
    """A pool prepared for an objective."""

    fires: FiringRows
    """Where relevant features are active."""

    counts: Int64[np.ndarray, " n_features"]
    """Target samples that activate each feature."""

    n_target: int
    vectors: Any
    """Rows (n_samples, d) that herding works on: `fires`, dense hidden states, or chosen minus
    rejected, sparse or dense."""

    target_sum: Float64[np.ndarray, " d"]
    """Sum of the target's vectors."""

    classes: Int64[np.ndarray, " n_samples"] | None = None
    means: Float64[np.ndarray, "n_classes n_columns"] | None = None
    """Target mean of the vectors of each class."""


def prepare_task(pool: Pool, settings: SelectSettings) -> SelectionTask:
    """Vectors of a pool and the counts or means of its target; raises as `select_samples`."""
    rows, target = pool.rows, pool.anchor or pool.rows
    check_same_width(target, rows)
    goal_features(target.features, target.relevant)  # refuses a target that activates nothing
    fires, counts = rows.firing, target.counts
    task = SelectionTask(fires, counts, target.n_samples, fires, counts.astype(np.float64))
    if settings.objective == "coverage":
        return task

    def vectors(table: ActiveRows) -> Any:
        if settings.space == "hidden":
            return hidden_states(table, common_scale([rows]))
        return table.firing

    if settings.objective == "direction":
        if pool.rejected is not None:
            return _with_differences(task, pool, pool.rejected, vectors)
        return _with_classes(task, pool, vectors)
    return replace(task, vectors=vectors(rows), target_sum=_column_sum(vectors(target)))


def _with_classes(
    task: SelectionTask, pool: Pool, vectors: Callable[[ActiveRows], Any]
) -> SelectionTask:
    names, classes = _classes(pool.labels, "pool")
    found = vectors(pool.rows)
    means = class_means(found, classes, len(names))
    if pool.anchor is not None:
        anchor_names, anchor_classes = _classes(pool.anchor_labels, "anchor")
        if anchor_names != names:
            raise DataError(
                f"the anchor has the classes {anchor_names[:5]} and the pool {names[:5]}; "
                "directions compare between the same classes only"
            )
        means = class_means(vectors(pool.anchor), anchor_classes, len(names))
    return replace(task, vectors=found, classes=classes, means=means)


def _with_differences(
    task: SelectionTask, pool: Pool, rejected: ActiveRows, vectors: Callable[[ActiveRows], Any]
) -> SelectionTask:
    if pool.anchor is not None:
        raise DataError("the direction of pairs is that of the pool itself; leave the anchor out")
    check_same_width(pool.rows, rejected)
    if rejected.n_samples != pool.rows.n_samples:
        raise MismatchError(
            f"the pool has {pool.rows.n_samples} samples and the rejected answers "
            f"{rejected.n_samples}; extract both sides of the same pairs"
        )
    found = as_rows(vectors(pool.rows)) - as_rows(vectors(rejected))
    return replace(task, vectors=found, target_sum=_column_sum(found))


def _classes(
    labels: Sequence[str | None] | None, where: str
) -> tuple[list[str], NDArray[np.int64]]:
    known = [label for label in labels or () if label is not None]
    if not known or len(known) < len(labels or ()):
        raise DataError(
            f"{len(labels or ()) - len(known)} samples of the {where} have no label, which the "
            "objective direction needs; extract with --label-field or choose another objective"
        )
    names, numbers = np.unique(np.array(known), return_inverse=True)
    if len(names) < 2:
        raise DataError(
            f"all samples of the {where} have the label {known[0]!r}; a direction needs two classes"
        )
    return names.tolist(), numbers.astype(np.int64)


def class_means(
    vectors: Any, classes: NDArray[np.int64], n_classes: int
) -> Float64[np.ndarray, "n_classes d"]:
    """Mean row of each class; 0 for a class without rows."""
    members = [classes == c for c in range(n_classes)]
    sizes = np.maximum(1, np.bincount(classes, minlength=n_classes))
    return column_sums(vectors, members) / sizes[:, None]


def column_means(rows: Any) -> Float64[np.ndarray, " d"]:
    """Mean of rows, sparse or dense; 0 when there are none."""
    means: NDArray[np.float64] = _column_sum(rows) / max(1, rows.shape[0])
    return means


def _column_sum(rows: Any) -> Float64[np.ndarray, " d"]:
    sums: NDArray[np.float64] = column_sums(rows, [np.ones(rows.shape[0], dtype=np.bool_)])[0]
    return sums
