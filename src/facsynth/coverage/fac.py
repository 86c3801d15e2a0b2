"""Feature Activation Coverage (FAC): which features of the anchor a seed activates.

A feature is active in a sample when its activation is strictly above the threshold δ, and
covered when it is relevant, active in some anchor sample and active in some seed sample.
FAC is the share of the relevant anchor features that are covered (arXiv 2602.10388, section 3).
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from facsynth.errors import DataError, MismatchError
from facsynth.records import FeatureActivations

__all__ = [
    "MissingFeature",
    "activation_sums",
    "active_features",
    "active_only",
    "check_widths",
    "describe_missing",
    "feature_activation_coverage",
    "firing_counts",
    "goal_features",
    "largest_activations",
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

    mean_activation: float
    """Mean over the anchor samples that activate the feature, in SAE units."""


def active_only(activations: FeatureActivations, *, threshold: float) -> FeatureActivations:
    """The table without the activations at or below a threshold.

    Args:
        activations: A table.
        threshold: In SAE units, at least 0. It is rounded to float32, as activations are.

    Returns:
        A table with the same samples in which every entry counts as active.

    Raises:
        DataError: The threshold is negative or not a finite float32.
    """
    kept = _above(activations, threshold)
    if kept.all():
        return activations
    n_kept = np.concatenate([[0], np.cumsum(kept)])
    return replace(
        activations,
        row_starts=n_kept[activations.row_starts],
        feature_ids=activations.feature_ids[kept],
        values=activations.values[kept],
        positions=activations.positions[kept],
    )


def firing_counts(
    activations: FeatureActivations, *, threshold: float
) -> Int64[np.ndarray, " n_features"]:
    """Number of samples in which each feature is active.

    Args:
        activations: A table.
        threshold: Activation above which (strictly) a feature is active, in SAE units.

    Returns:
        Counts in [0, n_samples].

    Raises:
        DataError: The threshold is negative or not a finite float32.
    """
    kept = _above(activations, threshold)
    return np.bincount(activations.feature_ids[kept], minlength=activations.n_features)


def active_features(
    activations: FeatureActivations, *, threshold: float
) -> Bool[np.ndarray, " n_features"]:
    """Features that at least one sample activates above a threshold (strictly).

    Args:
        activations: A table.
        threshold: In SAE units, at least 0. It is rounded to float32, as activations are.

    Returns:
        One flag per feature.

    Raises:
        DataError: The threshold is negative or not a finite float32.
    """
    active = np.zeros(activations.n_features, dtype=np.bool_)
    active[activations.feature_ids[_above(activations, threshold)]] = True
    return active


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
        anchor: Features some anchor sample activates; see `active_features`.
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


def check_widths(
    anchor: FeatureActivations,
    seed: FeatureActivations,
    relevant: Bool[np.ndarray, " n_features"],
) -> None:
    """Raise a MismatchError unless tables and flags speak of equally many features."""
    if anchor.n_features != seed.n_features:
        raise MismatchError(
            f"the anchor has {anchor.n_features} features and the seed {seed.n_features}; "
            "extract both with the same SAE"
        )
    if relevant.size != anchor.n_features:
        raise MismatchError(
            f"{relevant.size} features are judged and the tables have {anchor.n_features}; "
            "judge the features of the SAE that made the tables"
        )


def activation_sums(activations: FeatureActivations) -> Float64[np.ndarray, " n_features"]:
    """Sum of each feature's activations over the samples, in SAE units."""
    sums = np.bincount(
        activations.feature_ids, weights=activations.values, minlength=activations.n_features
    )
    return sums.astype(np.float64, copy=False)  # bincount of nothing gives integers


def largest_activations(activations: FeatureActivations) -> Float32[np.ndarray, " n_features"]:
    """Largest activation of each feature over the samples, in SAE units; 0 where it has none."""
    peaks = np.zeros(activations.n_features, dtype=np.float32)
    np.maximum.at(peaks, activations.feature_ids, activations.values)
    return peaks


def missing_features(
    anchor: FeatureActivations,
    seed: FeatureActivations,
    relevant: Bool[np.ndarray, " n_features"],
    *,
    threshold: float,
) -> Int64[np.ndarray, " n_missing"]:
    """Relevant features that the anchor activates and no seed sample does, ranked.

    Args:
        anchor: Table of the anchor.
        seed: Table of the seed.
        relevant: Features to look among.
        threshold: Activation above which a feature is active, in SAE units.

    Returns:
        Feature ids: those active in most anchor samples first, ties by the larger sum of
        activations above the threshold, then by the smaller id.

    Raises:
        DataError: The threshold is negative or not a finite float32.
        MismatchError: The tables or the flags differ in their number of features.
    """
    check_widths(anchor, seed, relevant)
    kept = active_only(anchor, threshold=threshold)
    counts = firing_counts(kept, threshold=0.0)
    absent = ~active_features(seed, threshold=threshold)
    ids = np.flatnonzero(relevant & (counts > 0) & absent)
    return ids[np.lexsort((ids, -activation_sums(kept)[ids], -counts[ids]))]


def describe_missing(
    anchor: FeatureActivations,
    feature_ids: Int64[np.ndarray, " n_missing"],
    *,
    threshold: float,
) -> tuple[MissingFeature, ...]:
    """What the anchor says about missing features, in the given order.

    Args:
        anchor: Table of the anchor.
        feature_ids: Ids from `missing_features`, each active in the anchor.
        threshold: The threshold they were found with, in SAE units.

    Returns:
        One record per id.

    Raises:
        DataError: The anchor does not activate one of the features at this threshold.
    """
    kept = active_only(anchor, threshold=threshold)
    counts = firing_counts(kept, threshold=0.0)[feature_ids]
    if (counts == 0).any():
        raise DataError(
            f"feature {int(feature_ids[counts == 0][0])} is not active in the anchor at threshold "
            f"{threshold:g}; pass the threshold that `missing_features` was given"
        )
    means = activation_sums(kept)[feature_ids] / counts
    rows = (feature_ids, counts, largest_activations(kept)[feature_ids], means)
    return tuple(
        MissingFeature(feature_id=i, n_anchor_samples=n, max_activation=peak, mean_activation=mean)
        for i, n, peak, mean in zip(*(row.tolist() for row in rows), strict=True)
    )


def _above(activations: FeatureActivations, threshold: float) -> Bool[np.ndarray, " n_entries"]:
    if not 0 <= threshold <= float(np.finfo(np.float32).max):
        raise DataError(
            f"threshold {threshold} is not a finite number of at least 0; only activations above "
            "0 are stored, so 0 is the smallest threshold"
        )
    kept: Bool[np.ndarray, " n_entries"] = activations.values > np.float32(threshold)
    return kept
