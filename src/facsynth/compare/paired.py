"""How far arms of an experiment lie from a reference, on the same test items."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from facsynth.errors import DataError

__all__ = ["PairedDifference", "paired_differences"]

Items = Float64[np.ndarray, " n_items"]
Draws = Float64[np.ndarray, "n_draws n_items"]
Measure = Callable[[Items, Draws], Any]
"""Scores of one model's values of the items, one for each row that says how often items count."""

_MOST_NUMBERS = 1_000_000
"""Counts that are held at once: 8 MB."""


@dataclass(frozen=True)
class PairedDifference:
    """By how much an arm's score is above that of the reference arm."""

    arm: str
    reference: str
    mean: float
    """Difference of the arms' scores, each the mean over its random seeds."""

    low: float
    """Lower end of the interval, in the units of the score."""

    high: float
    n_seeds: int
    """Random seeds of the arm."""

    n_items: int


def paired_differences(
    scores: Mapping[str, Float64[np.ndarray, "_ n_items"]],
    reference: str,
    *,
    measure: Measure | None = None,
    strata: Int64[np.ndarray, " n_items"] | None = None,
    n_resamples: int = 1000,
    level: float = 0.95,
    random_seed: int = 0,
) -> tuple[PairedDifference, ...]:
    """Compare every arm with the reference by a bootstrap over random seeds and test items.

    Each resample draws items, the same for all arms, and random seeds: the same rows for two arms
    with as many seeds, so that what a seed shares between arms cancels, and rows of each arm by
    itself otherwise. The interval holds the percentiles of the differences. It covers new items
    and new seeds at once (the pigeonhole bootstrap of Owen, 2007, which is slightly too wide where
    seeds and items interact); with n seeds it sees only (n - 1) / n of their variance, and with one
    seed nothing of it.

    Args:
        scores: By arm, a row of values for each random seed, such as 1 where an answer is right;
            the items stand in the same order everywhere.
        reference: The arm that others are compared with.
        measure: Scores of a model from its values, such as areas under a curve: one for each row
            of a matrix that says how often each item counts. The mean when None.
        strata: Class of each item; items are drawn within each class. One class when None.
        n_resamples: Number of resamples.
        level: Share of the resamples inside the interval.
        random_seed: Random seed of the resamples.

    Returns:
        One record for each other arm, in the order of `scores`.

    Raises:
        DataError: There is no such arm, an arm has no seeds or items, or a value is not finite.
    """
    _check(scores, reference)
    n_items = scores[reference].shape[1]
    groups = _groups(strata, n_items)
    rng = np.random.default_rng(random_seed)
    found = _resampled(scores, groups, measure, n_resamples=n_resamples, rng=rng)
    once = np.ones((1, n_items))
    means = {arm: float(_scores(values, once, measure).mean()) for arm, values in scores.items()}
    records = []
    for arm in (name for name in scores if name != reference):
        mean = means[arm] - means[reference]
        ends = np.quantile(found[arm] - found[reference], [(1 - level) / 2, (1 + level) / 2])
        low, high = ends.tolist()
        records.append(PairedDifference(arm, reference, mean, low, high, len(scores[arm]), n_items))
    return tuple(records)


def _resampled(
    scores: Mapping[str, Float64[np.ndarray, "_ n_items"]],
    groups: Sequence[Int64[np.ndarray, "_"]],
    measure: Measure | None,
    *,
    n_resamples: int,
    rng: np.random.Generator,
) -> dict[str, Float64[np.ndarray, "_"]]:
    """Scores of every arm in resamples, whose items and seeds are the same for all."""
    n_items = sum(rows.size for rows in groups)
    sizes = sorted({len(values) for values in scores.values()})
    at_once = max(1, _MOST_NUMBERS // n_items)
    draws: dict[str, list[Any]] = {arm: [] for arm in scores}
    for start in range(0, n_resamples, at_once):
        counts = np.zeros((min(at_once, n_resamples - start), n_items))
        seeds = {n: np.zeros((n, len(counts)), dtype=np.int64) for n in sizes}
        for i in range(len(counts)):
            drawn = np.concatenate([rng.choice(rows, rows.size) for rows in groups])
            counts[i] = np.bincount(drawn, minlength=n_items)
            for n in sizes:
                seeds[n][:, i] = rng.integers(0, n, n)
        for arm, values in scores.items():
            found = _scores(values, counts, measure)
            draws[arm].append(np.take_along_axis(found, seeds[len(values)], axis=0).mean(axis=0))
    return {arm: np.concatenate(parts) for arm, parts in draws.items()}


def _check(scores: Mapping[str, Any], reference: str) -> None:
    if reference not in scores:
        raise DataError(f"there is no arm {reference!r} to compare with, only {', '.join(scores)}")
    for arm, values in scores.items():
        if not values.size:
            raise DataError(f"the arm {arm!r} has no scores, so nothing can be compared")
        if not np.isfinite(values).all():
            raise DataError(
                f"the arm {arm!r} has scores that are not finite; leave out these items"
            )


def _groups(strata: Any, n_items: int) -> list[Any]:
    """Positions of the items of each class."""
    if strata is None:
        return [np.arange(n_items)]
    return [np.flatnonzero(strata == one) for one in np.unique(strata)]


def _scores(
    values: Float64[np.ndarray, "n_seeds n_items"], counts: Draws, measure: Measure | None
) -> Float64[np.ndarray, "n_seeds n_draws"]:
    """Score of each random seed in each draw of the items."""
    if measure is not None:
        return np.stack([measure(row, counts) for row in values])
    found: Float64[np.ndarray, "n_seeds n_draws"] = values @ counts.T / counts.sum(axis=1)
    return found
