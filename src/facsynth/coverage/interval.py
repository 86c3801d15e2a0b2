"""How much FAC depends on which samples are in the seed."""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from facsynth.coverage.unseen import chao2, extrapolated_richness
from facsynth.errors import DataError
from facsynth.table.active import ActiveRows
from facsynth.table.firing import FiringRows

__all__ = ["Interval", "bootstrap_interval", "spread_scale"]

LEVEL = 0.95
"""Share of the resamples inside the interval."""

NEVER_LOST = 40
"""A feature active in more samples is lost by a resample with chance below 1e-17."""


@dataclass(frozen=True, slots=True)
class Interval:
    """Bootstrap interval of FAC; see `bootstrap_interval`."""

    low: float
    """Lower end after centring on the observed FAC and widening, in [0, 1]."""

    high: float
    resampled_low: float
    """Lower end of the plain percentile interval, which is too low."""

    resampled_high: float
    resampled_mean: float
    """Mean FAC of the resamples; its distance to FAC is the bias that centring removes."""

    level: float
    n_resamples: int
    scale: float
    """By how much the spread of the resamples was widened, at least 1; see `spread_scale`."""


def bootstrap_interval(
    goal: Bool[np.ndarray, " n_features"],
    seed: ActiveRows,
    *,
    n_resamples: int = 200,
    rng: np.random.Generator,
) -> Interval:
    """How much FAC depends on which samples are in the seed; the anchor is fixed.

    Seed samples are drawn with replacement, as many as there are. A resample can only lose
    features, so its FAC is never above the observed one and plain percentiles are too low; it also
    has no features that the seed never activates, so it varies too little. `low` and
    `high` are therefore the percentiles, taken from their mean, widened by `spread_scale`, put
    around the observed FAC and cut to [0, 1]. Read them as the range of the mean FAC of seeds of
    this size from the same source. docs/log.md (2026-11-22) reports how often they contain it in a
    simulation; studies/interval/simulate.py repeats it.

    Raises:
        DataError: The seed has no samples.
    """
    if not seed.n_samples:
        raise DataError("the seed has no samples to resample; check the seed table")
    counts, n_goal = np.where(goal, seed.counts, 0), int(np.count_nonzero(goal))
    shares = _resampled_coverage(seed.firing, counts, n_resamples, rng) / n_goal
    low, high = np.quantile(shares, [(1 - LEVEL) / 2, (1 + LEVEL) / 2]).tolist()
    mean = float(shares.mean())
    fac = int(np.count_nonzero(counts)) / n_goal
    scale = spread_scale(counts[goal], seed.n_samples)
    return Interval(
        low=max(0.0, fac + scale * (low - mean)),
        high=min(1.0, fac + scale * (high - mean)),
        resampled_low=low,
        resampled_high=high,
        resampled_mean=mean,
        level=LEVEL,
        n_resamples=n_resamples,
        scale=scale,
    )


def spread_scale(counts: Int64[np.ndarray, " n_features"], n_samples: int) -> float:
    """How much more coverage varies between data sets than between resamples of one.

    If features fire independently with probabilities p_i, the number seen in m samples has the
    variance Σ (1 - p_i)^m - (1 - p_i)^2m, which is what m more samples would add to it: it is
    estimated by the extrapolation S(2m) - S(m) of Colwell et al. (2012, equation 18, Chao2 for the
    unseen, at most the features that were not seen). Resamples have the same sum with p_i = c_i / m
    and without unseen features. The ratio of the two is applied to the resamples, whose spread
    holds what features have in common.

    Returns:
        The square root of that ratio, at least 1.
    """
    seen = counts[counts > 0]
    log_lost = n_samples * np.log1p(-np.minimum(seen / n_samples, 1 - 1e-12))
    resampled = float((np.exp(log_lost) - np.exp(2 * log_lost)).sum())
    if resampled == 0.0:
        return 1.0
    unseen = min(chao2(counts, n_samples) - seen.size, float(counts.size - seen.size))
    more = extrapolated_richness(counts, n_samples, n_samples, unseen=unseen) - seen.size
    return max(1.0, float(np.sqrt(more / resampled)))


def _resampled_coverage(
    seed: FiringRows,
    counts: Int64[np.ndarray, " n_features"],
    n_resamples: int,
    rng: np.random.Generator,
) -> Float64[np.ndarray, " n_resamples"]:
    """Goal features that each resample of the seed activates, given how many samples do."""
    n_samples = seed.shape[0]
    n_safe = int(np.count_nonzero(counts > NEVER_LOST))
    fragile = (counts > 0) & (counts <= NEVER_LOST)
    entries = np.flatnonzero(fragile[seed.feature_ids])
    ids = seed.feature_ids[entries]
    rows = np.searchsorted(seed.row_starts, entries, side="right") - 1
    covered = np.empty(n_resamples)
    for i in range(n_resamples):
        drawn = np.zeros(n_samples, dtype=np.bool_)
        drawn[rng.integers(0, n_samples, n_samples)] = True
        seen = np.zeros(counts.size, dtype=np.bool_)
        seen[ids[drawn[rows]]] = True
        covered[i] = n_safe + int(np.count_nonzero(seen))
    return covered
