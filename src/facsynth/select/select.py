"""Choose samples from a pool by the features that they activate.

Coverage grows with text length, so a greedy choice takes long and odd texts. In the pilot study
that was much worse than a random choice (-0.12 macro AUPRC), random texts of the same lengths
were as bad, and with length quotas the greedy choice equalled a random one. Herding to the mean
firing frequencies was better than random up to about 50 picks; in a second pilot on preference
pairs only herding on the label direction won consistently. So length quotas are the default, and
`facsynth.select.report` sets random picks of the same lengths beside every choice.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from jaxtyping import Float64, Int64
from numpy.typing import NDArray
from scipy.sparse import csr_array

from facsynth.coverage.fac import active_only, check_widths, firing_counts, goal_features
from facsynth.coverage.hidden import common_scale, hidden_states
from facsynth.errors import DataError, MismatchError
from facsynth.records import FeatureActivations
from facsynth.select.greedy import coverage_picks, dissimilar_picks, stochastic_picks
from facsynth.select.herding import (
    Leeway,
    difference_picks,
    direction_picks,
    herding_picks,
)
from facsynth.select.picks import Group, Purse, plan_groups

__all__ = [
    "Pool",
    "SelectSettings",
    "SelectionTask",
    "class_means",
    "column_means",
    "prepare_task",
    "select_samples",
]

Objective = Literal["coverage", "representative", "both", "direction", "dissimilar"]
Quota = Literal["length", "per-token", "none"]
Space = Literal["features", "hidden"]


@dataclass(frozen=True, slots=True)
class SelectSettings:
    """How samples are chosen."""

    budget: int
    """Samples to choose; a pool with fewer non-empty samples is chosen whole."""

    threshold: float = 1.0
    """Activation above which (strictly) a feature is active, in SAE units."""

    objective: Objective = "coverage"
    """See `coverage_picks`, `herding_picks` (also for `both`), `direction_picks` and
    `dissimilar_picks`."""

    quota: Quota = "length"
    """`length`: as many picks from each tenth of the pool by length; `per-token`: the largest
    gain in coverage per token, from anywhere; `none`: from anywhere."""

    weighted: bool = False
    """Count a covered feature as often as it fires in the anchor (or pool), not once."""

    fold: int = 1
    """Picks that may count for the same feature."""

    tolerance: float = 0.2
    """Of `both`: share of the best coverage gain that a pick may fall short of, in [0, 1]."""

    max_tokens: int | None = None
    """Tokens that all picks may have together; what does not fit is passed over."""

    epsilon: float | None = None
    """Of `coverage`: look at a random part of the pool for each pick, see `stochastic_picks`."""

    max_overlap: float = 0.8
    """Of `dissimilar`: share of a sample's features that picks may cover already, in [0, 1]."""

    random_seed: int = 0
    """Seed of what `epsilon` draws."""

    space: Space = "features"
    """Of `representative` and `direction`: vectors of active features, or mean hidden states with
    each dimension in units of its spread over the pool."""

    def __post_init__(self) -> None:
        """Refuse values without meaning."""
        if self.budget < 1 or self.fold < 1 or not 0 <= self.tolerance <= 1:
            raise DataError(
                f"budget {self.budget}, fold {self.fold}, tolerance {self.tolerance}: budget and "
                "fold are at least 1, the tolerance lies in 0..1"
            )
        if self.epsilon is not None and not 0 < self.epsilon < 1:
            raise DataError(f"epsilon {self.epsilon} does not lie between 0 and 1")
        if not 0 <= self.max_overlap <= 1:
            raise DataError(f"max_overlap {self.max_overlap} does not lie in 0..1")
        is_coverage = self.objective == "coverage"
        if not is_coverage and (self.quota == "per-token" or self.epsilon is not None):
            raise DataError(
                f"gain per token and epsilon are rules of the objective coverage, not of "
                f"{self.objective}; choose another quota and leave epsilon out"
            )
        if self.space == "hidden" and self.objective not in ("representative", "direction"):
            raise DataError(
                f"hidden states have no coverage, so the objective {self.objective} chooses by "
                "features; choose representative or direction"
            )


Vectors = Callable[[FeatureActivations], Any]
"""The rows of a table that herding works on."""


@dataclass(frozen=True)
class Pool:
    """What samples are chosen from, and what for."""

    activations: FeatureActivations
    """Table to choose from."""

    anchor: FeatureActivations | None = None
    """Table whose features are to be covered or matched; the pool itself when None."""

    relevant: NDArray[np.bool_] | None = None
    """Features that count; all when None."""

    labels: Sequence[str | None] | None = None
    """Class of each sample; for `direction`."""

    anchor_labels: Sequence[str | None] | None = None
    """Class of each anchor sample; for `direction` with an anchor."""

    rejected: FeatureActivations | None = None
    """Of preference pairs the rejected answers, row by row; for `direction`."""

    include: tuple[int, ...] = ()
    """Samples that are chosen in any case, before all others."""


@dataclass(frozen=True)
class SelectionTask:
    """A pool made ready: columns are the relevant features that the pool or target activates."""

    fires: Any  # csr_array (n_samples, n_columns) of ones
    counts: Int64[np.ndarray, " n_columns"]
    """Target samples that activate each; 0 for a feature of the pool only."""

    n_target: int
    vectors: Any = None
    """Rows (n_samples, d), sparse or dense, whose mean is brought near the target's where that
    is not the mean of `fires`: hidden states, or chosen minus rejected."""

    target: Float64[np.ndarray, " d"] | None = None
    """Target mean of the vectors; None with classes."""

    classes: Int64[np.ndarray, " n_samples"] | None = None
    means: Float64[np.ndarray, "n_classes d"] | None = None
    """Target mean of the vectors of each class."""


def select_samples(pool: Pool, settings: SelectSettings) -> Int64[np.ndarray, " n_selected"]:
    """Positions of the chosen samples, in the order in which they were chosen.

    Samples without scored tokens are never chosen. With classes (`direction`) the quotas hold
    within each class, and the classes keep their shares of the pool. Samples to include come
    first, count in budget and tokens, and quotas hold for the others.

    Args:
        pool: What to choose from, and what for.
        settings: Budget, objective and quotas.

    Raises:
        DataError: No sample has tokens, no relevant feature is active, a label is missing, there
            is one class only, the budget is smaller than the number of classes or of samples to
            include, or these do not fit into the tokens.
        MismatchError: Tables or flags differ in their number of features.
    """
    task = prepare_task(pool, settings)
    n_tokens = pool.activations.n_tokens
    _check_include(pool, settings)
    groups = plan_groups(
        n_tokens,
        budget=settings.budget - len(pool.include),
        quota="length" if settings.quota == "length" else "none",
        class_ids=task.classes,
        taken=pool.include,
    )
    purse = Purse(n_tokens, settings.max_tokens, per_token=settings.quota == "per-token")
    for row in pool.include:
        purse.pay(row)
    picked = _pick(task, groups, purse, settings, pool.include)
    return np.concatenate([np.array(pool.include, dtype=np.int64), picked])


def _pick(
    task: SelectionTask,
    groups: Sequence[Group],
    purse: Purse,
    settings: SelectSettings,
    taken: tuple[int, ...],
) -> Int64[np.ndarray, " n_selected"]:
    fires = task.fires
    if task.means is not None and task.classes is not None:
        return direction_picks(
            task.vectors, groups, task.means, purse, class_ids=task.classes, taken=taken
        )
    if task.target is not None:
        return difference_picks(task.vectors, groups, task.target, purse, taken=taken)
    weights = task.counts if settings.weighted else (task.counts > 0).astype(np.int64)
    if settings.objective == "dissimilar":
        overlap = settings.max_overlap
        return dissimilar_picks(fires, groups, weights, purse, max_overlap=overlap, taken=taken)
    if settings.objective == "coverage":
        return _covering_picks(fires, groups, weights, purse, settings, taken)
    is_both = settings.objective == "both"
    leeway = Leeway(weights, settings.tolerance, settings.fold) if is_both else None
    return herding_picks(
        fires, groups, task.counts, task.n_target, purse, leeway=leeway, taken=taken
    )


def _covering_picks(
    fires: Any,
    groups: Sequence[Group],
    weights: NDArray[np.int64],
    purse: Purse,
    settings: SelectSettings,
    taken: tuple[int, ...],
) -> Int64[np.ndarray, " n_selected"]:
    fold, epsilon = settings.fold, settings.epsilon
    if epsilon is None:
        return coverage_picks(fires, groups, weights, purse, fold=fold, taken=taken)
    rng = np.random.default_rng(settings.random_seed)
    return stochastic_picks(
        fires, groups, weights, purse, epsilon=epsilon, rng=rng, fold=fold, taken=taken
    )


def prepare_task(pool: Pool, settings: SelectSettings) -> SelectionTask:
    """Sparse rows of a pool and the counts or means of its target; raises as `select_samples`."""
    rows = pool.activations
    target = rows if pool.anchor is None else pool.anchor
    flags = np.ones(rows.n_features, dtype=np.bool_) if pool.relevant is None else pool.relevant
    check_widths(target, rows, flags)
    counts = firing_counts(target, threshold=settings.threshold)
    goal = goal_features(counts > 0, flags)
    columns = goal | (flags & (firing_counts(rows, threshold=settings.threshold) > 0))
    fires = _fires(rows, columns, settings.threshold)
    task = SelectionTask(fires, counts[columns] * goal[columns], target.n_tokens.size)
    if settings.objective not in ("representative", "direction"):
        return task

    def vectors(table: FeatureActivations) -> Any:
        if settings.space == "hidden":
            return hidden_states(table, common_scale([rows]))
        wanted = columns if pool.rejected is None else flags  # they fire what the pool does not
        return _fires(table, wanted, settings.threshold)

    if settings.objective == "direction" and pool.rejected is not None:
        return _with_differences(task, pool, flags, vectors)
    if settings.objective == "direction":
        return _with_classes(task, pool, vectors)
    if settings.space == "features":
        return task
    return replace(task, vectors=vectors(rows), target=column_means(vectors(target)))


def _with_classes(task: SelectionTask, pool: Pool, vectors: Vectors) -> SelectionTask:
    names, classes = _classes(pool.labels, "pool")
    found = vectors(pool.activations)
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
    task: SelectionTask, pool: Pool, flags: NDArray[np.bool_], vectors: Vectors
) -> SelectionTask:
    rejected = pool.rejected
    assert rejected is not None  # the caller has looked
    if pool.anchor is not None:
        raise DataError("the direction of pairs is that of the pool itself; leave the anchor out")
    check_widths(rejected, pool.activations, flags)
    if rejected.n_tokens.size != pool.activations.n_tokens.size:
        raise MismatchError(
            f"the pool has {pool.activations.n_tokens.size} samples and the rejected answers "
            f"{rejected.n_tokens.size}; extract both sides of the same pairs"
        )
    found = vectors(pool.activations) - vectors(rejected)
    return replace(task, vectors=found, target=column_means(found))


def _check_include(pool: Pool, settings: SelectSettings) -> None:
    tokens = pool.activations.n_tokens[list(pool.include)]
    if len(set(pool.include)) < len(pool.include):
        raise DataError("a sample to include is named twice")
    if len(pool.include) > settings.budget:
        raise DataError(
            f"{len(pool.include)} samples are to be included and the budget is {settings.budget}; "
            "raise --budget"
        )
    if (tokens == 0).any():
        sample = pool.activations.sample_ids[pool.include[int(np.argmin(tokens))]]
        raise DataError(f"{sample} is to be included and has no scored tokens; leave it out")
    if settings.max_tokens is not None and int(tokens.sum()) > settings.max_tokens:
        raise DataError(
            f"the samples to include have {int(tokens.sum())} tokens and {settings.max_tokens} may "
            "be spent; raise --max-tokens"
        )


def _fires(table: FeatureActivations, columns: NDArray[np.bool_], threshold: float) -> Any:
    kept = active_only(table, threshold=threshold)
    wanted = columns[kept.feature_ids]
    starts = np.concatenate([[0], np.cumsum(wanted)])[kept.row_starts]
    if starts[-1] <= np.iinfo(np.int32).max:
        starts = starts.astype(np.int32)  # or SciPy widens the columns as well
    ids = (np.cumsum(columns) - 1)[kept.feature_ids[wanted]].astype(np.int32)
    shape = (table.n_tokens.size, int(columns.sum()))
    return csr_array((np.ones(ids.size), ids, starts), shape=shape)


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


def class_means(
    fires: Any, classes: NDArray[np.int64], n_classes: int
) -> Float64[np.ndarray, "n_classes n_features"]:
    """Mean row of each class; 0 for a class without rows."""
    sums = [fires[np.flatnonzero(classes == c)].sum(axis=0) for c in range(n_classes)]
    sizes = np.bincount(classes, minlength=n_classes)
    means: NDArray[np.float64] = np.vstack(sums) / np.maximum(sizes, 1)[:, None]
    return means


def column_means(rows: Any) -> NDArray[np.float64]:
    """Mean of rows, sparse or dense; 0 when there are none."""
    means: NDArray[np.float64] = np.asarray(rows.sum(axis=0)).ravel() / max(1, rows.shape[0])
    return means
