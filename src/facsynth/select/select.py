"""Choose samples from a pool by the features that they activate."""

from collections.abc import Sequence
from functools import partial

import numpy as np
from jaxtyping import Int64

from facsynth.errors import DataError
from facsynth.select.greedy import coverage_picks
from facsynth.select.herding import ALL_SEEN, direction_picks, mean_picks
from facsynth.select.picks import Group, Spending, plan_groups, random_picks
from facsynth.select.pool import Pool, SelectionTask, prepare_task
from facsynth.select.report import Selection, measure_picks
from facsynth.select.settings import SelectSettings

__all__ = ["pick_rows", "select_samples"]

_N_DRAWS = 20
"""Random choices that are measured as a control."""

_MATCH_QUOTAS = 50
"""Maximum number of length groups within which random picks match a choice."""


def select_samples(pool: Pool, settings: SelectSettings) -> Selection:
    """Choose samples, and compare them with the whole pool and with random choices.

    Samples without scored tokens are never chosen. With classes (`direction`) the quotas hold
    within each class, and the classes keep their shares of the pool. Samples to include come
    first, count in both budgets, and quotas hold for the others. The random choices have the
    lengths and classes of the choice.

    Args:
        pool: What to choose from, and the target.
        settings: Budget, objective and quotas.

    Raises:
        DataError: No sample has tokens, no relevant feature is active, a label is missing, there
            is one class only, the budget is smaller than the number of classes or of samples to
            include, or these have more tokens than the budget.
        MismatchError: Tables differ in their number of features.
    """
    task = prepare_task(pool, settings)
    plan = _plan(task, pool, settings)
    picked = _pick(task, pool, settings, plan)
    n_usable = int((pool.n_tokens > 0).sum())
    groups = plan_groups(
        pool.n_tokens,
        budget=n_usable,
        quota="length",
        class_ids=task.classes,
        n_quotas=min(_MATCH_QUOTAS, max(1, n_usable // 10)),
    )
    rng = np.random.default_rng(settings.random_seed)
    draws = [random_picks(groups, picked, rng) for _ in range(_N_DRAWS)]
    measure = partial(measure_picks, task, pool, settings)
    return Selection(
        rows=picked,
        sample_ids=tuple(pool.rows.sample_ids[i] for i in picked),
        selection=measure(picked),
        pool=measure(np.arange(pool.n_tokens.size)),
        random=tuple(measure(rows) for rows in draws),
        n_goal=int(np.count_nonzero(task.counts)),
        n_pool=pool.n_tokens.size,
        all_relevant=bool(pool.rows.relevant.all()),
        threshold=pool.rows.threshold,
        settings=settings,
        has_large_group=settings.objective != "coverage"
        and any(group.rows.size > ALL_SEEN for group in plan),
    )


def pick_rows(pool: Pool, settings: SelectSettings) -> Int64[np.ndarray, " n_selected"]:
    """Positions of the samples that `select_samples` chooses, in the order of choice."""
    task = prepare_task(pool, settings)
    return _pick(task, pool, settings, _plan(task, pool, settings))


def _plan(task: SelectionTask, pool: Pool, settings: SelectSettings) -> tuple[Group, ...]:
    """The groups that are chosen from in turn."""
    _check_include(pool, settings)
    return plan_groups(
        pool.n_tokens,
        budget=settings.budget - len(pool.include),
        quota="length" if settings.quota == "length" else "none",
        class_ids=task.classes,
        taken=pool.include,
    )


def _pick(
    task: SelectionTask, pool: Pool, settings: SelectSettings, groups: Sequence[Group]
) -> Int64[np.ndarray, " n_selected"]:
    spending = Spending(pool.n_tokens, settings.budget_tokens)
    for row in pool.include:
        spending.pay(row)
    if settings.objective == "coverage":
        by_frequency = settings.weights == "frequency"
        weights = task.counts if by_frequency else (task.counts > 0).astype(np.int64)
        picked = coverage_picks(task.fires, groups, weights, spending, taken=pool.include)
    elif task.means is not None and task.classes is not None:
        picked = direction_picks(
            task.vectors, groups, task.means, spending, class_ids=task.classes, taken=pool.include
        )
    else:
        picked = mean_picks(
            task.vectors, groups, task.target_sum, task.n_target, spending, taken=pool.include
        )
    return np.concatenate([np.array(pool.include, dtype=np.int64), picked])


def _check_include(pool: Pool, settings: SelectSettings) -> None:
    tokens = pool.n_tokens[list(pool.include)]
    if len(set(pool.include)) < len(pool.include):
        raise DataError("a sample to include is named twice")
    if len(pool.include) > settings.budget:
        raise DataError(
            f"{len(pool.include)} samples are to be included and the budget is {settings.budget}; "
            "raise --budget"
        )
    if (tokens == 0).any():
        sample = pool.rows.sample_ids[pool.include[int(np.argmin(tokens))]]
        raise DataError(f"{sample} is to be included and has no scored tokens; leave it out")
    if settings.budget_tokens is not None and int(tokens.sum()) > settings.budget_tokens:
        raise DataError(
            f"the samples to include have {int(tokens.sum())} tokens and the budget is "
            f"{settings.budget_tokens}; raise --budget-tokens"
        )
