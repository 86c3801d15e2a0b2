"""How often each feature fires on general text: an anchor without texts.

A profile holds counts only, so an SAE can carry it and every user has something to compare with.
It knows how many samples fire a feature, not which: coverage, closeness and what random samples
reach can be had from it, an interval of the anchor and subsets of matched lengths cannot.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from facsynth.coverage.fac import active_only, firing_counts, goal_features
from facsynth.coverage.interval import Interval, bootstrap_goal_interval
from facsynth.coverage.representative import (
    Representativeness,
    hellinger_distance,
    measure_representativeness,
)
from facsynth.coverage.richness import Richness, expected_richness, measure_richness
from facsynth.coverage.variants import THRESHOLDS, SweepPoint, weighted_coverage
from facsynth.errors import DataError, MismatchError
from facsynth.records import FeatureActivations

__all__ = ["PROFILE_THRESHOLDS", "ReferenceCoverage", "ReferenceProfile", "measure_reference"]

PROFILE_THRESHOLDS = (*THRESHOLDS, 8.0)
"""Thresholds at which a profile counts: the grid of arXiv 2602.10388, Figure 6, and one above it,
because a few hundred texts of usual length saturate the grid."""


@dataclass(frozen=True)
class ReferenceProfile:
    """Firing counts of an SAE's features over general text."""

    thresholds: tuple[float, ...]
    """Ascending, in SAE units."""

    sample_counts: Int64[np.ndarray, "n_thresholds n_features"]
    """Samples that activate each feature above each threshold."""

    max_activations: Float64[np.ndarray, " n_features"]
    n_samples: int
    n_tokens: int
    length_quantiles: tuple[int, ...]
    """Scored tokens per sample at evenly spaced quantiles, the shortest and longest included."""

    sae_hash: str
    model_hash: str
    score: str
    """Whose words were scored, as in a feature table."""

    max_length: int
    source: str = ""
    """What the text was, in words."""

    def counts(self, threshold: float) -> Int64[np.ndarray, " n_features"]:
        """Samples that activate each feature above one of the profile's thresholds.

        Raises:
            DataError: The profile was not counted at this threshold.
        """
        for index, value in enumerate(self.thresholds):
            if np.isclose(value, threshold):
                counts: Int64[np.ndarray, " n_features"] = self.sample_counts[index]
                return counts
        known = ", ".join(f"{value:g}" for value in self.thresholds)
        raise DataError(
            f"the reference profile has no counts at threshold {threshold:g}; choose one of {known}"
        )

    @property
    def mean_tokens(self) -> float:
        """Mean scored tokens of a sample."""
        return self.n_tokens / self.n_samples


@dataclass(frozen=True)
class ReferenceCoverage:
    """FAC of a seed against a reference profile, with what such a profile allows."""

    fac: float
    """Share of the relevant features of the reference that the seed activates, in [0, 1]."""

    n_relevant: int
    n_anchor: int
    n_covered: int
    n_missing: int
    threshold: float
    frequency_weighted: float
    sweep: tuple[SweepPoint, ...]
    interval: Interval
    richness: Richness
    """Of the seed alone."""

    representativeness: Representativeness | None
    """None when the seed activates no relevant feature."""

    random_subset: float | None
    """Expected FAC of as many random samples of the reference; None when it has fewer."""

    random_hellinger: float | None
    """Mean distance of so many random samples to the reference, features drawn independently."""

    missing: Int64[np.ndarray, " n_missing"]
    """Missing features, those of most reference samples first."""

    warnings: tuple[str, ...]


def measure_reference(
    profile: ReferenceProfile,
    seed: FeatureActivations,
    *,
    relevant: Bool[np.ndarray, " n_features"] | None = None,
    threshold: float = 1.0,
    n_resamples: int = 200,
    rng: np.random.Generator | None = None,
) -> ReferenceCoverage:
    """FAC and closeness of a seed to the text that a reference profile was counted on.

    Args:
        profile: The reference.
        seed: Table of the data to measure, extracted with the profile's SAE.
        relevant: Features to count; all when None.
        threshold: One of the profile's thresholds, in SAE units.
        n_resamples: Resamples of the seed behind the interval.
        rng: Source of draws; a fixed one when None, so that results repeat.

    Raises:
        DataError: The seed has no samples, the profile has no such threshold, or no relevant
            feature fires in the reference.
        MismatchError: Profile, table and flags differ in their number of features.
    """
    counts = profile.counts(threshold)
    relevant = np.ones(counts.size, dtype=np.bool_) if relevant is None else relevant
    if not counts.size == seed.n_features == relevant.size:
        raise MismatchError(
            f"the reference has {counts.size} features, the seed {seed.n_features} and the "
            f"relevance {relevant.size}; extract with the SAE that carries the reference"
        )
    rng = np.random.default_rng(0) if rng is None else rng
    goal = goal_features(counts > 0, relevant)
    fired = firing_counts(seed, threshold=threshold)
    order = np.flatnonzero(goal & (fired == 0))
    interval = bootstrap_goal_interval(
        goal, active_only(seed, threshold=threshold), n_resamples=n_resamples, rng=rng
    )
    by_chance, distance = _random_samples(profile, counts[goal], seed.n_tokens.size, rng)
    n_anchor = int(np.count_nonzero(goal))
    return ReferenceCoverage(
        fac=(n_anchor - order.size) / n_anchor,
        n_relevant=int(np.count_nonzero(relevant)),
        n_anchor=n_anchor,
        n_covered=n_anchor - int(order.size),
        n_missing=int(order.size),
        threshold=float(threshold),
        frequency_weighted=weighted_coverage(counts.astype(np.float64), fired > 0, relevant),
        sweep=_sweep(profile, seed, relevant),
        interval=interval,
        richness=measure_richness(active_only(seed, threshold=threshold), relevant),
        representativeness=(
            measure_representativeness(fired, counts, relevant) if (fired * goal).any() else None
        ),
        random_subset=by_chance,
        random_hellinger=distance,
        missing=order[np.lexsort((order, -counts[order]))],
        warnings=_warnings(profile, seed, by_chance, threshold),
    )


def _random_samples(
    profile: ReferenceProfile,
    counts: Int64[np.ndarray, " n_goal"],
    n_samples: int,
    rng: np.random.Generator,
) -> tuple[float | None, float | None]:
    if n_samples > profile.n_samples:
        return None, None
    expected = expected_richness(counts, profile.n_samples, np.array([n_samples]))
    distances = []
    for _ in range(20):
        drawn = rng.hypergeometric(counts, profile.n_samples - counts, n_samples)
        distances.append(hellinger_distance(drawn, counts) if drawn.any() else 1.0)
    return float(expected[0]) / counts.size, float(np.mean(distances))


def _sweep(
    profile: ReferenceProfile, seed: FeatureActivations, relevant: Bool[np.ndarray, " n_features"]
) -> tuple[SweepPoint, ...]:
    points = []
    for threshold, counts in zip(profile.thresholds, profile.sample_counts, strict=True):
        goal = relevant & (counts > 0)
        n_anchor = int(np.count_nonzero(goal))
        covered = goal & (firing_counts(seed, threshold=threshold) > 0)
        n_covered = int(np.count_nonzero(covered))
        fac = n_covered / n_anchor if n_anchor else None
        points.append(SweepPoint(threshold, None, n_anchor, n_covered, fac))
    return tuple(points)


def _warnings(
    profile: ReferenceProfile,
    seed: FeatureActivations,
    by_chance: float | None,
    threshold: float,
) -> tuple[str, ...]:
    mean = float(seed.n_tokens.mean())
    found = [
        "the reference is general text, not your domain: a missing feature may be one that your "
        "task does not need"
    ]
    if abs(mean - profile.mean_tokens) > 0.2 * profile.mean_tokens:
        word = "longer" if mean > profile.mean_tokens else "shorter"
        found.append(
            f"seed samples are {word} than those of the reference ({mean:.0f} against "
            f"{profile.mean_tokens:.0f} tokens on average), longer texts activate more features, "
            "and lengths cannot be matched with a profile"
        )
    if by_chance is None:
        found.append(
            f"the seed has {seed.n_tokens.size:,} samples and the reference "
            f"{profile.n_samples:,}, so random samples of that size cannot be told"
        )
    elif by_chance > 0.95:
        found.append(
            f"so many random reference samples cover {by_chance:.1%}, so FAC cannot tell sets of "
            "this size apart; "
            + (
                "raise the threshold"
                if threshold < max(profile.thresholds)
                else "read the distance, or compare smaller parts"
            )
        )
    return tuple(found)
