"""Herding: greedy picks whose mean approaches the mean of a target."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64
from numpy.typing import NDArray

from facsynth.select.picks import Group, Spending, take_turns
from facsynth.select.vectors import dense_row, products, square_norms, take

__all__ = ["ALL_SEEN", "direction_picks", "mean_picks"]

ALL_SEEN = 20_000
"""Samples of a group up to which every pick looks at all of them."""

_NEAR_SHARE = 0.05
"""Share of a larger group that most picks look at: those that were cheapest."""

_FIRST, _EVERY = 5, 10
"""So many picks of a larger group look at all of it, and then every tenth."""


@dataclass(frozen=True, eq=False)
class Candidates:
    """Samples that a pick looks at."""

    vectors: Any
    """Rows (n_candidates, d)."""

    norms: NDArray[np.float64]
    """Squared length of each row."""

    places: NDArray[np.int64]
    """Position of each in its group."""


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
    total = np.zeros_like(target_sum)
    n_picked = 0

    def add(row: int) -> None:
        nonlocal n_picked
        total[:] += dense_row(vectors, row)
        n_picked += 1

    def costs(turn: int, seen: Candidates) -> NDArray[np.float64]:
        pull = n_target * total - (n_picked + 1) * target_sum
        found: NDArray[np.float64] = n_target * seen.norms + 2.0 * products(seen.vectors, pull)
        return found

    return _cheapest_picks(vectors, groups, spending, taken, costs, add)


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
    sums, errors, sizes = np.zeros_like(means), np.zeros_like(means), np.zeros(n_classes)

    def add(row: int) -> None:
        label = int(class_ids[row])
        sums[label] += dense_row(vectors, row)
        sizes[label] += 1.0
        errors[label] = sums[label] / sizes[label] - means[label]

    def costs(turn: int, seen: Candidates) -> NDArray[np.float64]:
        label = groups[turn].class_id
        n = sizes[label] + 1.0
        others = errors.sum(axis=0) - errors[label]
        pull = (n_classes - 1) * (sums[label] / n - means[label]) - others
        return np.asarray((n_classes - 1) * seen.norms / n + 2.0 * products(seen.vectors, pull))

    return _cheapest_picks(vectors, groups, spending, taken, costs, add)


def _cheapest_picks(
    vectors: Any,
    groups: Sequence[Group],
    spending: Spending,
    taken: Sequence[int],
    costs: Callable[[int, Candidates], NDArray[np.float64]],
    add: Callable[[int], None],
) -> Int64[np.ndarray, " n_selected"]:
    """Pick the row with the lowest cost, group by group in turn, the first of equals."""
    pools = [_Pool(take(vectors, group.rows)) for group in groups]
    picked: list[int] = []
    for row in taken:
        add(int(row))
    for turn in take_turns(groups):
        rows, pool = groups[turn].rows, pools[turn]
        pool.free &= ~spending.over_budget(rows)
        if not pool.free.any():
            continue
        picked.append(int(rows[pool.pop_cheapest(partial(costs, turn))]))
        spending.pay(picked[-1])
        add(picked[-1])
    return np.array(picked, dtype=np.int64)


class _Pool:
    """The samples of one group that may still be picked.

    Of a large group most picks look only at the samples that were cheapest a few picks ago, since
    costs change slowly (`benchmarks/herding.py` compares).
    """

    def __init__(self, vectors: Any) -> None:
        n = vectors.shape[0]
        self.whole = Candidates(vectors, square_norms(vectors), np.arange(n))
        self.near: Candidates | None = None
        self.free = np.ones(n, dtype=np.bool_)
        self.n_picked = 0

    def pop_cheapest(self, costs: Callable[[Candidates], NDArray[np.float64]]) -> int:
        """Position of the sample with the lowest cost, which is not free any more."""
        seen = self._candidates()
        found = np.where(self.free[seen.places], costs(seen), np.inf)
        place = int(seen.places[np.argmin(found)])
        if seen is self.whole and self.free.size > ALL_SEEN:
            self.near = self._cheapest(found)
        self.free[place] = False
        self.n_picked += 1
        return place

    def _candidates(self) -> Candidates:
        looks_at_all = self.n_picked < _FIRST or self.n_picked % _EVERY == 0
        if looks_at_all or self.near is None or not self.free[self.near.places].any():
            return self.whole
        return self.near

    def _cheapest(self, costs: NDArray[np.float64]) -> Candidates:
        n_near = int(self.free.size * _NEAR_SHARE)
        places = np.sort(np.argpartition(costs, n_near)[:n_near])
        whole = self.whole
        return Candidates(take(whole.vectors, places), whole.norms[places], places)
