"""Feature Activation Coverage (FAC): which features of the anchor a seed activates.

A feature is active in a sample when its activation is strictly above the threshold δ, and
covered when it is relevant, active in some anchor sample and active in some seed sample.
FAC is the share of the relevant anchor features that are covered (arXiv 2602.10388, section 3).
"""

from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64

from facsynth.coverage.controls import Controls, measure_controls
from facsynth.coverage.representative import Representativeness, measure_representativeness
from facsynth.coverage.richness import RichnessComparison, compare_richness
from facsynth.errors import DataError, MismatchError
from facsynth.records import FeatureActivations

__all__ = [
    "Coverage",
    "FoldCoverage",
    "Interval",
    "MissingFeature",
    "SweepPoint",
    "active_features",
    "active_only",
    "bootstrap_interval",
    "coverage_row",
    "coverage_sweep",
    "describe_missing",
    "feature_activation_coverage",
    "firing_counts",
    "frequency_weighted_coverage",
    "k_fold_coverage",
    "magnitude_weighted_coverage",
    "measure_coverage",
    "missing_features",
]

THRESHOLDS = (0.0, 0.5, 1.0, 1.5, 2.0, 4.0)
"""Absolute thresholds of a sweep, in SAE units: the grid of arXiv 2602.10388, Figure 6."""

QUANTILES = (0.25, 0.5, 0.75, 0.9)
"""Thresholds of a sweep as quantiles of the anchor's non-zero activations."""

FOLDS = (1, 2, 3, 5, 10)
"""Seed samples that have to activate a feature in k-fold coverage."""

NEVER_LOST = 40
"""A feature active in more samples is lost by a resample with chance below 1e-17."""


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


@dataclass(frozen=True, slots=True)
class FoldCoverage:
    """Coverage by features that at least `k` seed samples activate."""

    k: int
    n_covered: int
    fac: float
    """A fraction in [0, 1] of the relevant features that the anchor activates at all."""


@dataclass(frozen=True, slots=True)
class Interval:
    """Bootstrap interval of FAC; see `bootstrap_interval`."""

    low: float
    """Lower end after centring on the observed FAC, in [0, 1]."""

    high: float
    resampled_low: float
    """Lower end of the plain percentile interval, which lies too low."""

    resampled_high: float
    resampled_mean: float
    """Mean FAC of the resamples; its distance to FAC is the bias that centring removes."""

    level: float
    n_resamples: int


@dataclass(frozen=True)
class Coverage:
    """FAC of a seed against an anchor, with everything needed to read it."""

    fac: float
    """`n_covered / n_anchor`, in [0, 1]."""

    n_relevant: int
    """Features marked as relevant, active or not."""

    n_anchor: int
    """Relevant features active in the anchor."""

    n_covered: int
    n_missing: int
    """Relevant features active in the anchor and not in the seed."""

    n_seed_only: int
    """Relevant features active in the seed and not in the anchor; FAC leaves them out."""

    threshold: float
    """Activation above which a feature counts as active, in SAE units."""

    frequency_weighted: float
    magnitude_weighted: float
    k_fold: tuple[FoldCoverage, ...]
    sweep: tuple[SweepPoint, ...]
    interval: Interval
    richness: RichnessComparison
    """Holds the numbers of samples and tokens of both sets."""

    representativeness: Representativeness | None
    """None when the seed activates no relevant feature, so that its shares are undefined."""

    controls: Controls


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
    return FeatureActivations(
        n_features=activations.n_features,
        sample_ids=activations.sample_ids,
        n_tokens=activations.n_tokens,
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
    goal = _goal(anchor, relevant)
    return int(np.count_nonzero(goal & seed)) / int(np.count_nonzero(goal))


def frequency_weighted_coverage(
    anchor: FeatureActivations,
    seed: FeatureActivations,
    relevant: Bool[np.ndarray, " n_features"],
    *,
    threshold: float,
) -> float:
    """FAC in which each feature counts as often as it fires in the anchor.

    Σ_{i covered} c_i / Σ_{i relevant} c_i, where c_i is the number of anchor samples that
    activate feature i. The idea is that of arXiv 2602.10388, Table 11, which gives no formula.

    Args:
        anchor: Table of the anchor.
        seed: Table of the seed.
        relevant: Features to count.
        threshold: Activation above which a feature is active, in SAE units.

    Returns:
        A fraction in [0, 1].

    Raises:
        DataError: The anchor activates no relevant feature, or the threshold is negative.
        MismatchError: The tables or the flags differ in their number of features.
    """
    _check_widths(anchor, seed, relevant)
    weights = firing_counts(anchor, threshold=threshold).astype(np.float64)
    return _weighted(weights, active_features(seed, threshold=threshold), relevant)


def magnitude_weighted_coverage(
    anchor: FeatureActivations,
    seed: FeatureActivations,
    relevant: Bool[np.ndarray, " n_features"],
    *,
    threshold: float,
) -> float:
    """FAC in which each feature counts by the sum of its activations in the anchor.

    Σ_{i covered} w_i / Σ_{i relevant} w_i with w_i = Σ_x g_i(x) · 1[g_i(x) > δ] over the anchor
    samples x. The idea is that of arXiv 2602.10388, Table 11, which gives no formula.

    Args:
        anchor: Table of the anchor.
        seed: Table of the seed.
        relevant: Features to count.
        threshold: Activation δ above which a feature is active, in SAE units.

    Returns:
        A fraction in [0, 1].

    Raises:
        DataError: The anchor activates no relevant feature, or the threshold is negative.
        MismatchError: The tables or the flags differ in their number of features.
    """
    _check_widths(anchor, seed, relevant)
    weights = _magnitudes(active_only(anchor, threshold=threshold))
    return _weighted(weights, active_features(seed, threshold=threshold), relevant)


def k_fold_coverage(
    anchor: FeatureActivations,
    seed: FeatureActivations,
    relevant: Bool[np.ndarray, " n_features"],
    *,
    threshold: float,
    folds: tuple[int, ...] = FOLDS,
) -> tuple[FoldCoverage, ...]:
    """FAC that asks for at least k seed samples per feature, for several k.

    The denominator stays that of FAC: relevant features active in at least one anchor sample.

    Args:
        anchor: Table of the anchor.
        seed: Table of the seed.
        relevant: Features to count.
        threshold: Activation above which a feature is active, in SAE units.
        folds: Values of k; k = 1 gives FAC.

    Returns:
        One record per k, falling with k.

    Raises:
        DataError: The anchor activates no relevant feature, or the threshold is negative.
        MismatchError: The tables or the flags differ in their number of features.
    """
    _check_widths(anchor, seed, relevant)
    goal = _goal(active_features(anchor, threshold=threshold), relevant)
    counts = firing_counts(seed, threshold=threshold)[goal]
    covered = {k: int(np.count_nonzero(counts >= k)) for k in folds}
    return tuple(FoldCoverage(k=k, n_covered=n, fac=n / counts.size) for k, n in covered.items())


def coverage_sweep(
    anchor: FeatureActivations,
    seed: FeatureActivations,
    relevant: Bool[np.ndarray, " n_features"],
    *,
    thresholds: tuple[float, ...] = THRESHOLDS,
    quantiles: tuple[float, ...] = QUANTILES,
) -> tuple[SweepPoint, ...]:
    """FAC at several thresholds, absolute and relative to the anchor's activations.

    Both sets use the same threshold at each point; a quantile is taken over all non-zero
    activations of the anchor, one per sample and feature. FAC may rise or fall with the
    threshold, because both of its sets shrink.

    Args:
        anchor: Table of the anchor.
        seed: Table of the seed.
        relevant: Features to count.
        thresholds: Absolute thresholds, in SAE units.
        quantiles: Quantiles in [0, 1]; left out when the anchor has no activations.

    Returns:
        One point per threshold, absolute ones first.

    Raises:
        MismatchError: The tables or the flags differ in their number of features.
    """
    _check_widths(anchor, seed, relevant)
    levels: list[tuple[float, float | None]] = [(float(t), None) for t in thresholds]
    if anchor.values.size:
        found = np.quantile(anchor.values, quantiles)
        levels += [(float(t), float(q)) for t, q in zip(found, quantiles, strict=True)]
    in_anchor, in_seed = _peaks(anchor), _peaks(seed)
    points = []
    for threshold, quantile in levels:
        goal = relevant & (in_anchor > threshold)
        n_anchor = int(np.count_nonzero(goal))
        n_covered = int(np.count_nonzero(goal & (in_seed > threshold)))
        fac = n_covered / n_anchor if n_anchor else None
        points.append(SweepPoint(threshold, quantile, n_anchor, n_covered, fac))
    return tuple(points)


def bootstrap_interval(
    anchor: FeatureActivations,
    seed: FeatureActivations,
    relevant: Bool[np.ndarray, " n_features"],
    *,
    threshold: float,
    n_resamples: int = 200,
    level: float = 0.95,
    rng: np.random.Generator,
) -> Interval:
    """How much FAC depends on which samples the seed happens to hold; the anchor is fixed.

    Seed samples are drawn with replacement, as many as there are. A resample can only lose
    features, so its FAC is never above the observed one and plain percentiles lie too low.
    `low` and `high` are therefore the percentiles moved by (observed FAC - mean of the
    resamples) and cut to [0, 1]: the spread comes from the bootstrap, the centre from the data.
    Read it as the range of the mean FAC of seeds of this size from the same source. It does not
    know features that the seed never activates, so it is somewhat narrow: in a simulation with
    300 independent features and seeds of 40 and 150 samples it held that mean in 91 % and 88 %
    of 150 runs at level 0.95, the plain percentiles in none.

    Args:
        anchor: Table of the anchor.
        seed: Table of the seed, with at least one sample.
        relevant: Features to count.
        threshold: Activation above which a feature is active, in SAE units.
        n_resamples: Resamples of the seed.
        level: Share of the resamples inside the interval, such as 0.95.
        rng: Source of the resamples.

    Returns:
        The centred and the plain interval.

    Raises:
        DataError: The anchor activates no relevant feature, the seed has no samples, or the
            threshold is negative.
        MismatchError: The tables or the flags differ in their number of features.
    """
    _check_widths(anchor, seed, relevant)
    goal = _goal(active_features(anchor, threshold=threshold), relevant)
    n_samples, n_goal = seed.n_tokens.size, int(np.count_nonzero(goal))
    if not n_samples:
        raise DataError("the seed has no samples to resample; check the seed table")
    counts = np.where(goal, firing_counts(seed, threshold=threshold), 0)
    n_safe = int(np.count_nonzero(counts > NEVER_LOST))
    fragile = (counts > 0) & (counts <= NEVER_LOST)
    kept = _above(seed, threshold) & fragile[seed.feature_ids]
    ids = seed.feature_ids[kept]
    rows = np.repeat(np.arange(n_samples), np.diff(seed.row_starts))[kept]
    shares = np.empty(n_resamples)
    for i in range(n_resamples):
        drawn = np.zeros(n_samples, dtype=np.bool_)
        drawn[rng.integers(0, n_samples, n_samples)] = True
        seen = np.zeros(goal.size, dtype=np.bool_)
        seen[ids[drawn[rows]]] = True
        shares[i] = (n_safe + int(np.count_nonzero(seen))) / n_goal
    low, high = np.quantile(shares, [(1 - level) / 2, (1 + level) / 2]).tolist()
    mean = float(shares.mean())
    shift = int(np.count_nonzero(counts)) / n_goal - mean
    return Interval(
        low=max(0.0, low + shift),
        high=min(1.0, high + shift),
        resampled_low=low,
        resampled_high=high,
        resampled_mean=mean,
        level=level,
        n_resamples=n_resamples,
    )


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
    _check_widths(anchor, seed, relevant)
    kept = active_only(anchor, threshold=threshold)
    counts = firing_counts(kept, threshold=0.0)
    absent = ~active_features(seed, threshold=threshold)
    ids = np.flatnonzero(relevant & (counts > 0) & absent)
    return ids[np.lexsort((ids, -_magnitudes(kept)[ids], -counts[ids]))]


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
    means = _magnitudes(kept)[feature_ids] / counts
    rows = (feature_ids, counts, _peaks(kept)[feature_ids], means)
    return tuple(
        MissingFeature(feature_id=i, n_anchor_samples=n, max_activation=peak, mean_activation=mean)
        for i, n, peak, mean in zip(*(row.tolist() for row in rows), strict=True)
    )


def measure_coverage(
    anchor: FeatureActivations,
    seed: FeatureActivations,
    *,
    relevant: Bool[np.ndarray, " n_features"] | None = None,
    threshold: float = 1.0,
    n_resamples: int = 200,
    n_draws: int = 20,
    rng: np.random.Generator | None = None,
) -> Coverage:
    """FAC of a seed against an anchor, with its variants, its uncertainty and its controls.

    Args:
        anchor: Table of the data that stands for the target domain.
        seed: Table of the data to measure.
        relevant: Features a judge marked as relevant; every feature when None.
        threshold: Activation above which (strictly) a feature is active, in SAE units.
        n_resamples: Resamples behind the interval.
        n_draws: Random draws behind each control.
        rng: Source of all draws; a fixed one when None, so that results repeat.

    Returns:
        The measures.

    Raises:
        DataError: A set has no samples, no feature is relevant, the anchor activates no
            relevant feature, or the threshold is negative.
        MismatchError: The tables or the flags differ in their number of features.
    """
    if relevant is None:
        relevant = np.ones(anchor.n_features, dtype=np.bool_)
    _check_widths(anchor, seed, relevant)
    if rng is None:
        rng = np.random.default_rng(0)
    tables = (active_only(anchor, threshold=threshold), active_only(seed, threshold=threshold))
    counts, seed_counts = (firing_counts(table, threshold=0.0) for table in tables)
    in_anchor, in_seed = counts > 0, seed_counts > 0
    fac = feature_activation_coverage(in_anchor, in_seed, relevant)
    fires = bool((in_seed & relevant).any())
    return Coverage(
        fac=fac,
        n_relevant=int(np.count_nonzero(relevant)),
        n_anchor=int(np.count_nonzero(relevant & in_anchor)),
        n_covered=int(np.count_nonzero(relevant & in_anchor & in_seed)),
        n_missing=int(np.count_nonzero(relevant & in_anchor & ~in_seed)),
        n_seed_only=int(np.count_nonzero(relevant & ~in_anchor & in_seed)),
        threshold=float(threshold),
        frequency_weighted=_weighted(counts.astype(np.float64), in_seed, relevant),
        magnitude_weighted=_weighted(_magnitudes(tables[0]), in_seed, relevant),
        k_fold=k_fold_coverage(*tables, relevant, threshold=0.0),
        sweep=coverage_sweep(anchor, seed, relevant),
        interval=bootstrap_interval(
            *tables, relevant, threshold=0.0, n_resamples=n_resamples, rng=rng
        ),
        richness=compare_richness(*tables, relevant, n_draws=n_draws, rng=rng),
        representativeness=(
            measure_representativeness(seed_counts, counts, relevant) if fires else None
        ),
        controls=measure_controls(*tables, relevant, n_draws=n_draws, rng=rng),
    )


def coverage_row(coverage: Coverage) -> dict[str, object]:
    """The measures as plain values that `json.dumps` takes, under stable keys.

    Args:
        coverage: Measures from `measure_coverage`.

    Returns:
        The fields of `Coverage` and of the records inside it, except that the two weighted
        values stand under `weighted`, as `frequency` and `magnitude`, and that the sizes of
        both sets are repeated under `n_samples` and `n_tokens`.
    """
    row = asdict(coverage)
    row["weighted"] = {
        "frequency": row.pop("frequency_weighted"),
        "magnitude": row.pop("magnitude_weighted"),
    }
    for key in ("n_samples", "n_tokens"):
        row[key] = {side: row["richness"][side][key] for side in ("anchor", "seed")}
    return row


def _above(activations: FeatureActivations, threshold: float) -> Bool[np.ndarray, " n_entries"]:
    if not 0 <= threshold <= float(np.finfo(np.float32).max):
        raise DataError(
            f"threshold {threshold} is not a finite number of at least 0; only activations above "
            "0 are stored, so 0 is the smallest threshold"
        )
    kept: Bool[np.ndarray, " n_entries"] = activations.values > np.float32(threshold)
    return kept


def _check_widths(
    anchor: FeatureActivations,
    seed: FeatureActivations,
    relevant: Bool[np.ndarray, " n_features"],
) -> None:
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


def _goal(
    anchor: Bool[np.ndarray, " n_features"], relevant: Bool[np.ndarray, " n_features"]
) -> Bool[np.ndarray, " n_features"]:
    if not relevant.any():
        raise DataError(
            f"none of the {relevant.size} features is marked relevant, so coverage "
            "is undefined; lower `fac relevance --min-score` or check the task text"
        )
    goal: Bool[np.ndarray, " n_features"] = anchor & relevant
    if not goal.any():
        raise DataError(
            f"the anchor activates none of the {int(relevant.sum())} relevant features, so "
            "coverage is undefined; lower --threshold or use an anchor closer to the task"
        )
    return goal


def _magnitudes(activations: FeatureActivations) -> Float64[np.ndarray, " n_features"]:
    sums = np.bincount(
        activations.feature_ids, weights=activations.values, minlength=activations.n_features
    )
    return sums.astype(np.float64, copy=False)  # bincount of nothing gives integers


def _peaks(activations: FeatureActivations) -> Float32[np.ndarray, " n_features"]:
    peaks = np.zeros(activations.n_features, dtype=np.float32)
    np.maximum.at(peaks, activations.feature_ids, activations.values)
    return peaks


def _weighted(
    weights: Float64[np.ndarray, " n_features"],
    seed: Bool[np.ndarray, " n_features"],
    relevant: Bool[np.ndarray, " n_features"],
) -> float:
    goal = _goal(weights > 0, relevant)
    share = float(weights[goal & seed].sum()) / float(weights[goal].sum())
    return min(1.0, share)
