"""Feature Activation Coverage (FAC): which features of the anchor a seed activates.

A feature is active in a sample when its activation is strictly above the threshold δ, and
covered when it is relevant, active in some anchor sample and active in some seed sample.
FAC is the share of the relevant anchor features that are covered (arXiv 2602.10388, section 3).
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64

from facsynth.errors import DataError
from facsynth.table.active import ActiveRows

__all__ = [
    "MissingFeature",
    "Topic",
    "describe_missing",
    "feature_activation_coverage",
    "goal_features",
    "missing_features",
]


@dataclass(frozen=True, slots=True)
class MissingFeature:
    """A relevant feature that the anchor activates and no seed sample does."""

    feature_id: int
    n_anchor_samples: int
    """Anchor samples that activate the feature."""

    max_activation: float
    """Largest activation in the anchor, in SAE units."""

    mean_activation: float | None
    """Mean over the anchor samples that activate the feature, in SAE units; None in a profile."""

    name: str | None = None
    """Words at its peaks; None where it was not named."""

    example: str | None = None
    """The strongest text span, its peak marked; None where it was not named."""


@dataclass(frozen=True)
class Topic:
    """Features that are alike, as one entry of a list."""

    name: str
    """Terms that the spans of all its features have in common; may be "(no name)"."""

    feature_ids: tuple[int, ...]
    """Two or more, in the order in which they were ranked."""

    n_anchor_samples: int
    """Anchor samples that activate at least one of them."""

    example: str | None = None
    """The strongest text span of the first feature, its peak marked."""

    def row(self) -> dict[str, Any]:
        """The JSONL row of the topic."""
        row = asdict(self) | {"feature_ids": list(self.feature_ids)}
        return row | {"n_features": len(self.feature_ids)}


def feature_activation_coverage(
    anchor: Bool[np.ndarray, " n_features"],
    seed: Bool[np.ndarray, " n_features"],
    relevant: Bool[np.ndarray, " n_features"],
) -> float:
    """Share of the task-relevant features of the anchor that the seed activates.

    FAC = |seed ∩ anchor ∩ relevant| / |anchor ∩ relevant| (arXiv 2602.10388, section 3,
    with the numerator intersected so that it cannot exceed 1). Adding samples
    to the seed never lowers it.

    Args:
        anchor: Features some anchor sample activates.
        seed: The same for the seed.
        relevant: Features a judge marked as relevant to the task.

    Returns:
        A fraction in [0, 1], not a percentage.

    Raises:
        DataError: The anchor activates no relevant feature, so the share is undefined.
    """
    goal = goal_features(anchor, relevant)
    return int(np.count_nonzero(goal & seed)) / int(np.count_nonzero(goal))


def goal_features(
    anchor: Bool[np.ndarray, " n_features"], relevant: Bool[np.ndarray, " n_features"]
) -> Bool[np.ndarray, " n_features"]:
    """Relevant features that the anchor activates.

    Raises:
        DataError: There is none, so that coverage is undefined.
    """
    if not relevant.any():
        raise DataError(
            f"none of the {relevant.size} features is marked relevant, so coverage "
            "is undefined; lower `fac relevance --min-grade` or check the task text"
        )
    goal: Bool[np.ndarray, " n_features"] = anchor & relevant
    if not goal.any():
        raise DataError(
            f"the anchor activates none of the {int(relevant.sum())} relevant features, so "
            "coverage is undefined; lower --threshold or use an anchor closer to the task"
        )
    return goal


def missing_features(anchor: ActiveRows, seed: ActiveRows) -> Int64[np.ndarray, " n_missing"]:
    """Relevant features that the anchor activates and no seed sample does, ranked.

    Returns:
        Feature ids: those active in most anchor samples first, ties by the larger sum of
        activations above the threshold, then by the smaller id.
    """
    ids = np.flatnonzero(anchor.features & ~seed.features)
    return ids[np.lexsort((ids, -anchor.sums[ids], -anchor.counts[ids]))]


def describe_missing(
    anchor: ActiveRows, feature_ids: Int64[np.ndarray, " n_missing"]
) -> tuple[MissingFeature, ...]:
    """What the anchor says about missing features, in the given order."""
    counts = anchor.counts[feature_ids]
    rows = (feature_ids, counts, anchor.peaks[feature_ids], anchor.sums[feature_ids] / counts)
    return tuple(
        MissingFeature(*values) for values in zip(*(row.tolist() for row in rows), strict=True)
    )
