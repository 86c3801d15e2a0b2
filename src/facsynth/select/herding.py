"""Herding: greedy picks whose mean approaches the mean of a target."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64
from numpy.typing import NDArray

from facsynth.select.picks import Group, Spending, take_turns
from facsynth.select.vectors import as_quick_rows, dense_row, products, square_norms, take

__all__ = ["direction_picks", "mean_picks"]


def mean_picks(
    vectors: Any,
    groups: Sequence[Group],
    target_sum: Float64[np.ndarray, " d"],
    n_target: int,
    spending: Spending,
    *,
    taken: Sequence[int] = (),
) -> Int64[np.ndarray, " n_selected"]:
    """Herding: each pick brings the mean of the picks as near to the target mean as possible.

    With μ = target_sum / n_target, pick t minimises ‖(Σ v(picked) + v(x)) / t - μ‖, the greedy
    form of herding (Welling 2009; Chen, Welling and Smola 2010) with a linear kernel. For binary
    vectors of active features, samples are penalised for features that the target never
    activates. The mean is given as a sum, so that vectors of whole numbers tie exactly;
    ties go to the shorter sample, then to the earlier one.

    Args:
        vectors: Rows (n_samples, d): where features fire, mean hidden states, or the chosen answer
            minus the rejected one; see `facsynth.select.vectors`.
        groups: From `plan_groups`.
        target_sum: Sum of the target's vectors.
        n_target: Number of target samples.
        spending: Tokens that may be spent.
        taken: Samples chosen before.
    """
    parts = [as_quick_rows(take(vectors, group.rows), vectors) for group in groups]
    norms = [square_norms(part) for part in parts]
    total = np.zeros_like(target_sum)
    n_picked = 0

    def add(row: int) -> None:
        nonlocal n_picked
        total[:] += dense_row(vectors, row)
        n_picked += 1

    def costs(turn: int) -> NDArray[np.float64]:
        pull = n_target * total - (n_picked + 1) * target_sum
        found: NDArray[np.float64] = n_target * norms[turn] + 2.0 * products(parts[turn], pull)
        return found

    return _cheapest_picks(groups, spending, taken, costs, add)


def direction_picks(
    vectors: Any,
    groups: Sequence[Group],
    means: Float64[np.ndarray, "n_classes d"],
    spending: Spending,
    *,
    class_ids: Int64[np.ndarray, " n_samples"],
    taken: Sequence[int] = (),
) -> Int64[np.ndarray, " n_selected"]:
    """Herding on the class-mean difference.

    With e_c the mean vector of the picks of class c minus its target mean, each pick minimises
    Σ_c ‖e_c - ē‖², ē the mean of the e_c; of two classes this is half the squared distance
    between the picks' difference of class means and the target's. A class without picks counts
    as e_c = 0. Classes and lengths follow the groups; ties go to the shorter, then the earlier.
    """
    n_classes = means.shape[0]
    parts = [take(vectors, group.rows) for group in groups]
    norms = [square_norms(part) for part in parts]
    sums, errors, sizes = np.zeros_like(means), np.zeros_like(means), np.zeros(n_classes)

    def add(row: int) -> None:
        label = int(class_ids[row])
        sums[label] += dense_row(vectors, row)
        sizes[label] += 1.0
        errors[label] = sums[label] / sizes[label] - means[label]

    def costs(turn: int) -> NDArray[np.float64]:
        label = groups[turn].class_id
        n = sizes[label] + 1.0
        others = errors.sum(axis=0) - errors[label]
        pull = (n_classes - 1) * (sums[label] / n - means[label]) - others
        return np.asarray((n_classes - 1) * norms[turn] / n + 2.0 * products(parts[turn], pull))

    return _cheapest_picks(groups, spending, taken, costs, add)


def _cheapest_picks(
    groups: Sequence[Group],
    spending: Spending,
    taken: Sequence[int],
    costs: Callable[[int], NDArray[np.float64]],
    add: Callable[[int], None],
) -> Int64[np.ndarray, " n_selected"]:
    """Pick the row with the lowest cost, group by group in turn, the first of equals."""
    free = [np.ones(group.rows.size, dtype=np.bool_) for group in groups]
    picked: list[int] = []
    for row in taken:
        add(int(row))
    for turn in take_turns(groups):
        rows = groups[turn].rows
        free[turn] &= ~spending.over_budget(rows)
        if not free[turn].any():
            continue
        rank = int(np.argmin(np.where(free[turn], costs(turn), np.inf)))
        free[turn][rank] = False
        picked.append(int(rows[rank]))
        spending.pay(picked[-1])
        add(picked[-1])
    return np.array(picked, dtype=np.int64)
