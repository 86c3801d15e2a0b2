"""What a choice of samples is like, beside the pool and beside random picks of its lengths."""

from dataclasses import dataclass
from functools import partial

import numpy as np
from jaxtyping import Int64
from numpy.typing import NDArray

from facsynth.coverage.representative import hellinger_distance
from facsynth.select.picks import plan_groups, random_picks
from facsynth.select.select import (
    Objective,
    Pool,
    SelectionTask,
    SelectSettings,
    class_means,
    column_means,
    prepare_task,
)

__all__ = ["PickMeasures", "SelectionReport", "report_selection"]

_MATCH_QUOTAS = 50
"""Length groups, at most, within which random picks match a choice."""


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
    """Cosine of the class directions to the target's, or of chosen minus rejected; None when
    neither plays a part."""

    hidden_distance: float | None
    """Shift of their mean hidden state to that of the anchor (or pool), in standard deviations,
    0 is best; None unless they were chosen by it. See `facsynth.coverage.hidden`."""


@dataclass(frozen=True, slots=True)
class SelectionReport:
    """A choice beside the whole pool and beside random picks of the same lengths."""

    selection: PickMeasures
    pool: PickMeasures
    random: tuple[PickMeasures, ...]
    """One per draw."""

    n_goal: int
    """Relevant features active in the anchor (or pool): the denominator of `fac`."""


def report_selection(
    pool: Pool,
    selected: Int64[np.ndarray, " n_selected"],
    settings: SelectSettings,
    *,
    rng: np.random.Generator,
    n_draws: int = 20,
) -> SelectionReport:
    """Measure a choice, the pool, and random picks of the same lengths and classes.

    Args:
        pool: What was chosen from.
        selected: From `select_samples` with the same pool and settings.
        settings: The same settings.
        rng: Source of the random picks.
        n_draws: Random picks to measure.
    """
    task = prepare_task(pool, settings)
    n_tokens = pool.activations.n_tokens
    n_usable = int((n_tokens > 0).sum())
    groups = plan_groups(
        n_tokens,
        budget=n_usable,
        quota="length",
        class_ids=task.classes,
        n_quotas=min(_MATCH_QUOTAS, max(1, n_usable // 10)),
    )
    draws = [random_picks(groups, selected, rng) for _ in range(n_draws)]
    measure = partial(_measure, task, pool, settings.objective)
    return SelectionReport(
        selection=measure(selected),
        pool=measure(np.arange(n_tokens.size)),
        random=tuple(measure(rows) for rows in draws),
        n_goal=int(np.count_nonzero(task.counts)),
    )


def _measure(
    task: SelectionTask, pool: Pool, objective: Objective, rows: NDArray[np.int64]
) -> PickMeasures:
    counts = np.bincount(task.fires[rows].indices, minlength=task.counts.size)
    whole = np.bincount(task.fires.indices, minlength=task.counts.size)
    goal = task.counts > 0

    def distance(other: NDArray[np.int64]) -> float:
        return hellinger_distance(counts, other) if counts.any() and other.any() else 1.0

    return PickMeasures(
        fac=int(np.count_nonzero(counts[goal])) / int(np.count_nonzero(goal)),
        hellinger=distance(whole),
        hellinger_anchor=None if pool.anchor is None else distance(task.counts),
        mean_tokens=float(pool.activations.n_tokens[rows].mean()),
        direction_cosine=_direction_cosine(task, rows, objective),
        hidden_distance=_hidden_distance(task, rows, objective),
    )


def _hidden_distance(
    task: SelectionTask, rows: NDArray[np.int64], objective: Objective
) -> float | None:
    if task.target is None or objective != "representative":
        return None
    shift = column_means(task.vectors[rows]) - task.target
    return float(np.sqrt(np.square(shift).mean()))


def _direction_cosine(
    task: SelectionTask, rows: NDArray[np.int64], objective: Objective
) -> float | None:
    if task.means is not None and task.classes is not None:
        means = class_means(task.vectors[rows], task.classes[rows], len(task.means))
        return _cosine(means - means.mean(axis=0), task.means - task.means.mean(axis=0))
    if task.target is None or objective != "direction":
        return None
    return _cosine(column_means(task.vectors[rows]), task.target)


def _cosine(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    norms = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float((one * other).sum()) / norms if norms else 0.0
