"""Groups of samples that take turns in a greedy choice, and the tokens that a choice may have."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Int64
from numpy.typing import NDArray

from facsynth.errors import DataError
from facsynth.table.firing import flag_rows

__all__ = ["Group", "Spending", "plan_groups", "random_picks", "take_turns"]

N_QUOTAS = 10
"""Length groups of `quota="length"`: deciles."""


@dataclass(frozen=True, slots=True)
class Group:
    """Samples from which a number are chosen."""

    rows: Int64[np.ndarray, " n_rows"]
    """Positions in the pool, shorter samples first, ties in the order of the pool."""

    n_picks: int
    class_id: int = 0
    """Class of all samples of the group; 0 without classes."""


@dataclass(slots=True)
class Spending:
    """The token budget of picks."""

    n_tokens: Int64[np.ndarray, " n_samples"]
    """Cost of each sample of the pool."""

    left: int | None = None
    """None without a limit."""

    def over_budget(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of these samples have more tokens than are left."""
        if self.left is None:
            return np.zeros(rows.size, dtype=np.bool_)
        return self.n_tokens[rows] > self.left

    def pay(self, row: int) -> None:
        """Subtract the tokens of a pick."""
        if self.left is not None:
            self.left -= int(self.n_tokens[row])


def plan_groups(
    n_tokens: Int64[np.ndarray, " n_samples"],
    *,
    budget: int,
    quota: Literal["length", "none"],
    class_ids: Int64[np.ndarray, " n_samples"] | None = None,
    taken: Sequence[int] = (),
    n_quotas: int = N_QUOTAS,
) -> tuple[Group, ...]:
    """Length groups and the number of picks from each, so that picks have the pool's lengths.

    Samples are ranked by tokens (ties in pool order), within each class if there are classes. A
    group is a decile of the ranks, and its number of picks is how many of the N evenly spaced
    ranks ⌊(i + ½) n / N⌋ fall into it. Classes share the budget in proportion to their size, at
    least one pick each, by largest remainders.

    Args:
        n_tokens: Scored tokens of each sample; samples without any are never chosen.
        budget: Picks in all groups.
        quota: `length` for deciles, `none` for one group (of each class).
        class_ids: Class of each sample.
        taken: Samples that are already chosen and belong to no group.
        n_quotas: Length groups (of each class).

    Raises:
        DataError: No sample has tokens, or there are more classes than picks.
    """
    if not (n_tokens > 0).any():
        raise DataError(f"none of the {n_tokens.size} samples of the pool has scored tokens")
    usable = np.setdiff1d(np.flatnonzero(n_tokens > 0), np.asarray(taken, dtype=np.int64))
    if budget < 1 or not usable.size:
        return ()
    classes = np.zeros_like(n_tokens) if class_ids is None else class_ids
    sizes = np.bincount(classes[usable], minlength=int(classes.max()) + 1)
    shares = _class_shares(sizes, min(budget, usable.size))
    groups = []
    for label, share in enumerate(shares):
        rows = usable[classes[usable] == label]
        rows = rows[np.lexsort((rows, n_tokens[rows]))]
        n_groups = min(n_quotas, rows.size) if quota == "length" else 1
        tenths = np.arange(rows.size) * n_groups // rows.size
        ranks = (2 * np.arange(share) + 1) * rows.size // (2 * share)
        picks = np.bincount(tenths[ranks], minlength=n_groups)
        groups += [(i, Group(rows[tenths == i], int(n), label)) for i, n in enumerate(picks)]
    return tuple(g for _, g in sorted(groups, key=lambda pair: (pair[0], pair[1].class_id)))


def random_picks(
    groups: Sequence[Group], chosen: NDArray[np.int64], rng: np.random.Generator
) -> Int64[np.ndarray, " n_selected"]:
    """Random samples, as many from each group as a choice has."""
    last = max(int(rows.max()) for rows in (chosen, *(group.rows for group in groups)))
    is_chosen = flag_rows(last + 1, chosen)
    drawn = [
        rng.choice(group.rows, int(np.count_nonzero(is_chosen[group.rows])), replace=False)
        for group in groups
    ]
    return np.concatenate(drawn)


def take_turns(groups: Sequence[Group]) -> Iterator[int]:
    """Group of each pick: round-robin until the picks of a group are used up."""
    for done in range(max((group.n_picks for group in groups), default=0)):
        yield from (i for i, group in enumerate(groups) if group.n_picks > done)


def _class_shares(sizes: NDArray[np.int64], budget: int) -> NDArray[np.int64]:
    if budget < sizes.size or not sizes.all():
        raise DataError(
            f"{budget} picks cannot hold {sizes.size} classes with samples in each of them; raise "
            "--budget or leave empty texts out"
        )
    exact = budget * sizes / sizes.sum()
    shares: NDArray[np.int64] = np.maximum(np.floor(exact), 1).astype(np.int64)
    while shares.sum() != budget:
        step = 1 if shares.sum() < budget else -1
        movable = shares < sizes if step > 0 else shares > 1
        shares[np.argmax(np.where(movable, step * (exact - shares), -np.inf))] += step
    return shares
