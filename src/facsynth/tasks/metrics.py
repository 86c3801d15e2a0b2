"""How well scores separate two classes, and means of items, with bootstrap intervals.

Differences between trained arms are those of `facsynth.compare.paired.paired_differences`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64

from facsynth.errors import DataError

__all__ = [
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
Classes = Bool[np.ndarray, " n_samples"]
Weights = Float64[np.ndarray, "*draws n_samples"]
Areas = float | Float64[np.ndarray, " n_draws"]


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


def auprc(positive: Classes, scores: Scores, weights: Weights | None = None) -> Areas:
    """Area under the precision-recall curve as average precision: Σ (R_i - R_{i-1}) P_i.

    Samples with equal scores share one threshold, as in scikit-learn's
    `average_precision_score`.

    Args:
        positive: Which samples belong to the class.
        scores: Higher where a sample should.
        weights: How often each sample counts, or a row of that for each of many resamples.

    Returns:
        In [0, 1], for each row of weights; the share of positives is what a constant score reaches.
    """
    true, false = _counts(positive, scores, weights)
    gained = np.diff(true, prepend=0.0)
    precision = true / np.maximum(true + false, 1e-300)
    found: Areas = (gained * precision).sum(axis=-1) / true[..., -1]
    return found


def auroc(positive: Classes, scores: Scores, weights: Weights | None = None) -> Areas:
    """Chance that a positive scores above a negative, ties counting half; see `auprc`."""
    true, false = _counts(positive, scores, weights)
    below = np.diff(true, prepend=0.0)
    right = false[..., -1:] - false + np.diff(false, prepend=0.0) / 2
    found: Areas = (below * right).sum(axis=-1) / (true[..., -1] * false[..., -1])
    return found


def bootstrap_ranking(
    measure: Callable[[Classes, Scores, Weights | None], Any],
    positive: Classes,
    scores: Scores,
    *,
    rng: np.random.Generator,
    n_resamples: int = _N_RESAMPLES,
) -> Estimate:
    """`auprc` or `auroc` with an interval over samples drawn within each class."""
    classes = [np.flatnonzero(one_class) for one_class in (positive, ~positive)]
    at_once = max(1, _MOST_NUMBERS // positive.size)
    draws = []
    for start in range(0, n_resamples, at_once):
        weights = np.zeros((min(at_once, n_resamples - start), positive.size))
        for drawn in weights:
            for rows in classes:
                places = rng.integers(0, rows.size, rows.size)
                drawn[rows] = np.bincount(places, minlength=rows.size)
        draws.append(measure(positive, scores, weights))
    return _estimate(float(measure(positive, scores, None)), np.concatenate(draws))


def bootstrap_share(
    flags: Float64[np.ndarray, " n_items"], *, rng: np.random.Generator
) -> Estimate:
    """Mean of numbers, such as rights (1) and wrongs (0), over items drawn with replacement."""
    drawn = rng.integers(0, flags.size, (_N_RESAMPLES, flags.size))
    return _estimate(float(flags.mean()), flags[drawn].mean(axis=1))


def _counts(positive: Classes, scores: Scores, weights: Weights | None) -> tuple[Any, Any]:
    """Weight of positives and of negatives at or above each threshold, from the highest down."""
    order = np.argsort(-scores, kind="stable")
    found, hit = scores[order], positive[order]
    counted = np.ones(found.size) if weights is None else weights[..., order]
    last = np.append(np.flatnonzero(np.diff(found)), found.size - 1)
    true, false = np.cumsum(counted * hit, axis=-1), np.cumsum(counted * ~hit, axis=-1)
    return true[..., last], false[..., last]


def _estimate(value: float, draws: Any) -> Estimate:
    low, high = np.quantile(draws, [0.025, 0.975])
    return Estimate(value, float(low), float(high))
