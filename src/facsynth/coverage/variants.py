"""Variants of FAC: weighted by the anchor, and at other thresholds."""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64

from facsynth.table.active import ActiveRows

__all__ = [
    "THRESHOLDS",
    "SweepPoint",
    "count_coverage",
    "coverage_sweep",
    "sweep_point",
    "weighted_coverage",
]

THRESHOLDS = (0.0, 0.5, 1.0, 1.5, 2.0, 4.0)
"""Absolute thresholds of a sweep, in SAE units: the grid of arXiv 2602.10388, Figure 6."""

QUANTILES = (0.25, 0.5, 0.75, 0.9)
"""Thresholds of a sweep as quantiles of the anchor's non-zero activations."""


@dataclass(frozen=True, slots=True)
class SweepPoint:
    """FAC at one threshold."""

    threshold: float
    """In SAE units."""

    quantile: float | None
    """Quantile of the anchor's non-zero activations behind the threshold; None if absolute."""

    n_anchor: int
    """Relevant features active in the anchor at this threshold."""

    n_covered: int
    fac: float | None
    """A fraction in [0, 1]; None when `n_anchor` is 0."""


def weighted_coverage(
    weights: Float64[np.ndarray, " n_features"], seed: Bool[np.ndarray, " n_features"]
) -> float:
    """Share of the weight of the relevant anchor features that the seed covers, in [0, 1].

    The weight of a feature is the number of anchor samples that activate it (frequency), or the
    sum of its activations above the threshold in the anchor (magnitude). The idea is that of arXiv
    2602.10388, Table 11, which gives no formula.
    """
    return min(1.0, float(weights[seed & (weights > 0)].sum()) / float(weights[weights > 0].sum()))


def count_coverage(
    goal: Bool[np.ndarray, " n_features"],
    missing: Int64[np.ndarray, " n_missing"],
    relevant: Bool[np.ndarray, " n_features"],
    seed: ActiveRows,
) -> dict[str, Any]:
    """The fields of `Coverage` that follow from the features to cover and those that miss."""
    n_anchor = int(np.count_nonzero(goal))
    return {
        "fac": (n_anchor - missing.size) / n_anchor,
        "n_relevant": int(np.count_nonzero(relevant)),
        "n_anchor": n_anchor,
        "n_covered": n_anchor - missing.size,
        "n_missing": missing.size,
        "n_seed_only": int(np.count_nonzero(seed.features & ~goal)),
    }


def coverage_sweep(
    anchor: ActiveRows,
    seed: ActiveRows,
    relevant: Bool[np.ndarray, " n_features"],
    *,
    quantiles: tuple[float, ...] = QUANTILES,
) -> tuple[SweepPoint, ...]:
    """FAC at several thresholds, absolute and relative to the anchor's activations.

    Both sets use the same threshold at each point; a quantile is taken over all non-zero
    activations of the anchor, one per sample and feature. FAC may rise or fall with the
    threshold, because both of its sets shrink.
    """
    levels: list[tuple[float, float | None]] = [(float(t), None) for t in THRESHOLDS]
    if anchor.highest.any():
        found = anchor.quantiles(quantiles)
        levels += [(float(t), float(q)) for t, q in zip(found, quantiles, strict=True)]
    return tuple(
        sweep_point(
            threshold,
            quantile,
            relevant & (anchor.highest > threshold),
            seed.highest > threshold,
        )
        for threshold, quantile in levels
    )


def sweep_point(
    threshold: float,
    quantile: float | None,
    goal: Bool[np.ndarray, " n_features"],
    seed: Bool[np.ndarray, " n_features"],
) -> SweepPoint:
    """FAC at one threshold, from the features to cover and those that the seed activates."""
    n_anchor, n_covered = int(np.count_nonzero(goal)), int(np.count_nonzero(goal & seed))
    return SweepPoint(
        threshold, quantile, n_anchor, n_covered, n_covered / n_anchor if n_anchor else None
    )
