"""Choose samples from a pool by the features that they activate.

Coverage grows with text length, so a greedy choice takes long and odd texts. In the pilot study
that was much worse than a random choice (-0.12 macro AUPRC), random texts of the same lengths
were as bad, and with length quotas the greedy choice equalled a random one. Herding to the mean
firing frequencies was better than random up to about 50 picks; in a second pilot on preference
pairs only herding on the label direction won consistently. So length quotas are the default, and
`report_selection` sets random picks with the same quotas beside every choice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64, Int64
from numpy.typing import NDArray
from scipy.sparse import csr_array

from facsynth.coverage.fac import active_only, check_widths, firing_counts, goal_features
from facsynth.coverage.picks import (
    Group,
    coverage_picks,
    direction_picks,
    herding_picks,
    plan_groups,
)
from facsynth.coverage.representative import hellinger_distance
from facsynth.errors import DataError
from facsynth.records import FeatureActivations

__all__ = [
    "PickMeasures",
    "SelectSettings",
    "SelectionReport",
    "report_selection",
    "select_samples",
]


@dataclass(frozen=True, slots=True)
class SelectSettings:
    """How samples are chosen."""

    budget: int
    """Samples to choose; a pool with fewer non-empty samples is chosen whole."""

    threshold: float = 1.0
    """Activation above which (strictly) a feature is active, in SAE units."""

    objective: Literal["coverage", "representative", "both", "direction"] = "coverage"
    """See `coverage_picks`, `herding_picks` (also for `both`) and `direction_picks`."""

    quota: Literal["length", "none"] = "length"
    """`length`: as many picks from each tenth of the pool by length; `none`: from anywhere."""

    weighted: bool = False
    """Count a covered feature as often as it fires in the anchor (or pool), not once."""

    fold: int = 1
    """Picks that may count for the same feature."""

    tolerance: float = 0.2
    """Of `both`: share of the best coverage gain that a pick may fall short of, in [0, 1]."""

    def __post_init__(self) -> None:
        """Refuse values without meaning."""
        if self.budget < 1 or self.fold < 1 or not 0 <= self.tolerance <= 1:
            raise DataError(
                f"budget {self.budget}, fold {self.fold}, tolerance {self.tolerance}: budget and "
                "fold are at least 1, the tolerance lies in 0..1"
            )


@dataclass(frozen=True, slots=True)
class PickMeasures:
    """What some samples of the pool are like."""

    fac: float
    """Share of the relevant features of the anchor (or pool) that they activate, in [0, 1]."""

    hellinger: float
    """Distance of the firing shares to those of the pool, in [0, 1]; 1 when nothing fires."""

    hellinger_anchor: float | None
    """The same to the anchor; None without one."""

    mean_tokens: float
    direction_cosine: float | None
    """Cosine of the class directions to the target's; None when classes play no part."""


@dataclass(frozen=True, slots=True)
class SelectionReport:
    """A choice beside the whole pool and beside random picks with the same quotas."""

    selection: PickMeasures
    pool: PickMeasures
    random: tuple[PickMeasures, ...]
    """One per draw."""

    n_goal: int
    """Relevant features active in the anchor (or pool): the denominator of `fac`."""


@dataclass(frozen=True)
class _Task:
    """A pool made ready: only relevant features of the anchor (or pool) are columns."""

    fires: Any  # csr_array (n_samples, n_goal) of ones
    groups: tuple[Group, ...]
    counts: Int64[np.ndarray, " n_goal"]
    n_target: int
    class_ids: Int64[np.ndarray, " n_samples"] | None
    directions: Float64[np.ndarray, "n_classes n_goal"] | None


def select_samples(
    pool: FeatureActivations,
    settings: SelectSettings,
    *,
    anchor: FeatureActivations | None = None,
    relevant: NDArray[np.bool_] | None = None,
    labels: Sequence[str | None] | None = None,
    anchor_labels: Sequence[str | None] | None = None,
) -> Int64[np.ndarray, " n_selected"]:
    """Positions of the chosen samples, in the order in which they were chosen.

    Samples without scored tokens are never chosen. With classes (`direction`) the quotas hold
    within each class, and the classes keep their shares of the pool.

    Args:
        pool: Table to choose from.
        settings: Budget, objective and quotas.
        anchor: Table whose features are to be covered or matched; the pool itself when None.
        relevant: Features that count; all when None.
        labels: Class of each sample; needed by the objective `direction` only.
        anchor_labels: Class of each anchor sample; needed by `direction` with an anchor.

    Raises:
        DataError: No sample has tokens, no relevant feature is active, a label is missing, there
            is one class only, or the budget is smaller than the number of classes.
        MismatchError: Tables or flags differ in their number of features.
    """
    task = _prepare(pool, settings, anchor, relevant, labels, anchor_labels)
    weights = task.counts if settings.weighted else np.ones_like(task.counts)
    if task.directions is not None:
        return direction_picks(task.fires, task.groups, task.directions)
    if settings.objective == "coverage":
        return coverage_picks(task.fires, task.groups, weights, fold=settings.fold)
    tolerance = settings.tolerance if settings.objective == "both" else 1.0
    return herding_picks(
        task.fires,
        task.groups,
        task.counts,
        task.n_target,
        weights=weights,
        tolerance=tolerance,
        fold=settings.fold,
    )


def report_selection(
    pool: FeatureActivations,
    selected: Int64[np.ndarray, " n_selected"],
    settings: SelectSettings,
    *,
    rng: np.random.Generator,
    anchor: FeatureActivations | None = None,
    relevant: NDArray[np.bool_] | None = None,
    labels: Sequence[str | None] | None = None,
    anchor_labels: Sequence[str | None] | None = None,
    n_draws: int = 20,
) -> SelectionReport:
    """Measure a choice, the pool, and random picks with the same quotas.

    Args:
        pool: Table that was chosen from.
        selected: From `select_samples` with the same arguments.
        settings: The same settings.
        rng: Source of the random picks.
        anchor: As in `select_samples`, like the three that follow.
        relevant: Features that count.
        labels: Class of each sample.
        anchor_labels: Class of each anchor sample.
        n_draws: Random picks to measure.
    """
    task = _prepare(pool, settings, anchor, relevant, labels, anchor_labels)

    def drawn() -> NDArray[np.int64]:
        return np.concatenate([rng.choice(g.rows, g.n_picks, replace=False) for g in task.groups])

    def measured(rows: NDArray[np.int64]) -> PickMeasures:
        return _measure(task, pool, rows, anchor is not None)

    return SelectionReport(
        selection=measured(selected),
        pool=measured(np.arange(pool.n_tokens.size)),
        random=tuple(measured(drawn()) for _ in range(n_draws)),
        n_goal=task.counts.size,
    )


def _prepare(
    pool: FeatureActivations,
    settings: SelectSettings,
    anchor: FeatureActivations | None,
    relevant: NDArray[np.bool_] | None,
    labels: Sequence[str | None] | None,
    anchor_labels: Sequence[str | None] | None,
) -> _Task:
    target = pool if anchor is None else anchor
    flags = np.ones(pool.n_features, dtype=np.bool_) if relevant is None else relevant
    check_widths(target, pool, flags)
    counts = firing_counts(target, threshold=settings.threshold)
    goal = goal_features(counts > 0, flags)
    fires = _fires(pool, goal, settings.threshold)
    classes = directions = None
    if settings.objective == "direction":
        names, classes = _classes(labels, "pool")
        directions = _class_means(fires, classes, len(names))
        if anchor is not None:
            anchor_names, anchor_classes = _classes(anchor_labels, "anchor")
            if anchor_names != names:
                raise DataError(
                    f"the anchor has the classes {anchor_names[:5]} and the pool {names[:5]}; "
                    "directions compare between the same classes only"
                )
            rows = _fires(anchor, goal, settings.threshold)
            directions = _class_means(rows, anchor_classes, len(names))
    groups = plan_groups(
        pool.n_tokens, budget=settings.budget, quota=settings.quota, class_ids=classes
    )
    return _Task(fires, groups, counts[goal], target.n_tokens.size, classes, directions)


def _fires(table: FeatureActivations, goal: NDArray[np.bool_], threshold: float) -> Any:
    kept = active_only(table, threshold=threshold)
    wanted = goal[kept.feature_ids]
    starts = np.concatenate([[0], np.cumsum(wanted)])[kept.row_starts]
    if starts[-1] <= np.iinfo(np.int32).max:
        starts = starts.astype(np.int32)  # or SciPy widens the columns as well
    columns = (np.cumsum(goal) - 1)[kept.feature_ids[wanted]].astype(np.int32)
    shape = (table.n_tokens.size, int(goal.sum()))
    return csr_array((np.ones(columns.size), columns, starts), shape=shape)


def _classes(
    labels: Sequence[str | None] | None, where: str
) -> tuple[list[str], NDArray[np.int64]]:
    known = [label for label in labels or () if label is not None]
    if not known or len(known) < len(labels or ()):
        raise DataError(
            f"{len(labels or ()) - len(known)} samples of the {where} have no label, which the "
            "objective direction needs; extract with --label-field or choose another objective"
        )
    names = sorted(set(known))
    if len(names) < 2:
        raise DataError(
            f"all samples of the {where} have the label {names[0]!r}; a direction needs two classes"
        )
    numbers = {name: i for i, name in enumerate(names)}
    return names, np.array([numbers[label] for label in known], dtype=np.int64)


def _class_means(
    fires: Any, classes: NDArray[np.int64], n_classes: int
) -> Float64[np.ndarray, "n_classes n_features"]:
    sums = [fires[np.flatnonzero(classes == c)].sum(axis=0) for c in range(n_classes)]
    sizes = np.bincount(classes, minlength=n_classes)
    means: NDArray[np.float64] = np.vstack(sums) / np.maximum(sizes, 1)[:, None]
    return means


def _measure(
    task: _Task, pool: FeatureActivations, rows: NDArray[np.int64], has_anchor: bool
) -> PickMeasures:
    counts = np.bincount(task.fires[rows].indices, minlength=task.counts.size)
    whole = np.bincount(task.fires.indices, minlength=task.counts.size)

    def distance(other: NDArray[np.int64]) -> float:
        return hellinger_distance(counts, other) if counts.any() and other.any() else 1.0

    cosine = None
    if task.directions is not None and task.class_ids is not None:
        means = _class_means(task.fires[rows], task.class_ids[rows], len(task.directions))
        cosine = _cosine(means - means.mean(axis=0), task.directions)
    return PickMeasures(
        fac=int(np.count_nonzero(counts)) / counts.size,
        hellinger=distance(whole),
        hellinger_anchor=distance(task.counts) if has_anchor else None,
        mean_tokens=float(pool.n_tokens[rows].mean()),
        direction_cosine=cosine,
    )


def _cosine(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    other = other - other.mean(axis=0)
    norms = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float((one * other).sum()) / norms if norms else 0.0
