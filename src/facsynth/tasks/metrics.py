"""How well scores separate two classes, and means of items, with bootstrap intervals.

Differences between trained arms are those of `facsynth.compare.paired.paired_differences`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float64

from facsynth.errors import DataError

__all__ = [
    "AREAS",
    "Estimate",
    "auprc",
    "auroc",
    "bootstrap_ranking",
    "bootstrap_share",
    "check_classes",
]

_N_RESAMPLES = 1000
_MOST_NUMBERS = 1_000_000
"""Weights that are held at once: 8 MB."""

Scores = Float64[np.ndarray, " n_samples"]
Area = Literal["auprc", "auroc"]
Classes = Bool[np.ndarray, " n_samples"]


@dataclass(frozen=True, slots=True)
class Estimate:
    """A measured value with its 95 % percentile interval over resamples of the items."""

    value: float
    low: float
    high: float


def check_classes(positive: Classes, what: str) -> None:
    """Raise a DataError unless there are samples of both classes."""
    n_positive = int(positive.sum())
    if not 0 < n_positive < positive.size:
        raise DataError(
            f"{what} has {n_positive} positive and {positive.size - n_positive} negative samples, "
            "but both classes are needed; add samples of the other class"
        )


def auprc(positive: Classes, scores: Scores, weights: Scores | None = None) -> float:
    """Area under the precision-recall curve as average precision: Σ (R_i - R_{i-1}) P_i.

    Samples with equal scores share one threshold, as in scikit-learn's
    `average_precision_score`.

    Returns:
        In [0, 1]; the share of positives is what a constant score reaches.
    """
    return float(_average_precision(*_counts(positive, scores, weights)))


def auroc(positive: Classes, scores: Scores, weights: Scores | None = None) -> float:
    """Chance that a positive scores above a negative, ties counting half; see `auprc`."""
    return float(_ordered_pairs(*_counts(positive, scores, weights)))


def bootstrap_ranking(
    measure: Area,
    positive: Classes,
    scores: Scores,
    *,
    rng: np.random.Generator,
    n_resamples: int = _N_RESAMPLES,
) -> Estimate:
    """An area with an interval over samples drawn within each class."""
    area = AREAS[measure]
    classes = [np.flatnonzero(one_class) for one_class in (positive, ~positive)]
    at_once = max(1, _MOST_NUMBERS // positive.size)
    draws = []
    for start in range(0, n_resamples, at_once):
        weights = np.zeros((min(at_once, n_resamples - start), positive.size))
        for drawn in weights:
            for rows in classes:
                places = rng.integers(0, rows.size, rows.size)
                drawn[rows] = np.bincount(places, minlength=rows.size)
        draws.append(area(*_counts(positive, scores, weights)))
    return _estimate(float(area(*_counts(positive, scores, None))), np.concatenate(draws))


def bootstrap_share(
    flags: Float64[np.ndarray, " n_items"], *, rng: np.random.Generator
) -> Estimate:
    """Mean of numbers, such as rights (1) and wrongs (0), over items drawn with replacement."""
    drawn = rng.integers(0, flags.size, (_N_RESAMPLES, flags.size))
    return _estimate(float(flags.mean()), flags[drawn].mean(axis=1))


def _counts(
    positive: Classes, scores: Scores, weights: Float64[np.ndarray, "*resamples n_samples"] | None
) -> tuple[Any, Any]:
    """Weight of positives and of negatives at or above each threshold, from the highest down."""
    order = np.argsort(-scores, kind="stable")
    found, hit = scores[order], positive[order]
    counted = np.ones(found.size) if weights is None else weights[..., order]
    last = np.append(np.flatnonzero(np.diff(found)), found.size - 1)
    true, false = np.cumsum(counted * hit, axis=-1), np.cumsum(counted * ~hit, axis=-1)
    return true[..., last], false[..., last]


def _average_precision(true: Any, false: Any) -> Any:
    gained = np.diff(true, prepend=0.0)
    precision = true / np.maximum(true + false, 1e-300)
    return (gained * precision).sum(axis=-1) / true[..., -1]


def _ordered_pairs(true: Any, false: Any) -> Any:
    below = np.diff(true, prepend=0.0)
    right = false[..., -1:] - false + np.diff(false, prepend=0.0) / 2
    return (below * right).sum(axis=-1) / (true[..., -1] * false[..., -1])


AREAS: dict[Area, Callable[[Any, Any], Any]] = {
    "auprc": _average_precision,
    "auroc": _ordered_pairs,
}
"""Areas from the counts at each threshold, for one weighting of the samples or for many."""


def _estimate(value: float, draws: Any) -> Estimate:
    low, high = np.quantile(draws, [0.025, 0.975])
    return Estimate(value, float(low), float(high))
