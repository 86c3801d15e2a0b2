"""Published feature densities as an anchor: weaker than a profile, and said to be so.

Pages such as Neuronpedia publish, for each feature of an SAE, the share of tokens that activate
it (`frac_nonzero`), and SAELens writes it beside the weights. A feature table counts samples. From
shares of tokens p_i a sample of n tokens would activate feature i with the chance 1 - (1 - p_i)^n
if its tokens were independent. They are not: features come in bursts, so that real samples activate
fewer. What random text reaches is therefore only known from above here, and closeness only beside
that assumption.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64
from numpy.typing import NDArray

from facsynth.coverage.fac import active_only, firing_counts, goal_features
from facsynth.coverage.interval import Interval, bootstrap_goal_interval
from facsynth.coverage.representative import hellinger_distance
from facsynth.coverage.richness import Richness, measure_richness
from facsynth.coverage.variants import weighted_coverage
from facsynth.errors import DataError, MismatchError
from facsynth.records import FeatureActivations

__all__ = ["DensityCoverage", "DensityProfile", "measure_densities"]

_COUNT = 2**40
"""Shares are compared as counts; so many make rounding negligible."""


@dataclass(frozen=True)
class DensityProfile:
    """Share of tokens of some general text that activate each feature above 0."""

    densities: Float64[np.ndarray, " n_features"]
    """In [0, 1]; 0 for a feature that is not listed."""

    max_activations: Float64[np.ndarray, " n_features"]
    """Largest activation that is published, 0 where none is."""

    source: str


@dataclass(frozen=True)
class DensityCoverage:
    """FAC of a seed against published densities, with what these allow."""

    fac: float
    """Share of the relevant features of density above 0 that the seed activates, in [0, 1]."""

    n_relevant: int
    n_anchor: int
    n_covered: int
    n_missing: int
    frequency_weighted: float
    """The same with each feature weighted by its density."""

    interval: Interval
    richness: Richness
    """Of the seed alone."""

    hellinger: float
    """Distance between the seed's firing shares and those that independent tokens of these
    densities would give in samples of the seed's lengths (0 best); 1 when the seed activates
    nothing."""

    independent_tokens: float
    """FAC of as many independent tokens as the seed has: more than real text of that size."""

    missing: Int64[np.ndarray, " n_missing"]
    """Missing features, the densest first."""

    warnings: tuple[str, ...]


def measure_densities(
    profile: DensityProfile,
    seed: FeatureActivations,
    *,
    relevant: Bool[np.ndarray, " n_features"] | None = None,
    threshold: float = 0.0,
    n_resamples: int = 200,
    rng: np.random.Generator | None = None,
) -> DensityCoverage:
    """FAC of a seed against the features that published densities say to be alive.

    Args:
        profile: The densities.
        seed: Table of the data to measure, extracted with the SAE that they belong to.
        relevant: Features to count; all when None.
        threshold: Only 0: densities count activations above 0.
        n_resamples: Resamples of the seed behind the interval.
        rng: Source of draws; a fixed one when None, so that results repeat.

    Raises:
        DataError: Another threshold, a seed without samples, or no relevant feature is alive.
        MismatchError: Densities, table and flags differ in their number of features.
    """
    if threshold != 0:
        raise DataError(
            f"published densities count activations above 0, not above {threshold:g}; pass "
            "--threshold 0, or count a profile with `fac sae profile`"
        )
    p = profile.densities
    relevant = np.ones(p.size, dtype=np.bool_) if relevant is None else relevant
    if not p.size == seed.n_features == relevant.size:
        raise MismatchError(
            f"the densities are of {p.size} features, the seed has {seed.n_features} and the "
            f"relevance {relevant.size}; take the densities of the SAE that extracted the seed"
        )
    goal = goal_features(p > 0, relevant)
    fired = firing_counts(seed, threshold=0.0)
    missing = np.flatnonzero(goal & (fired == 0))
    n_anchor = int(np.count_nonzero(goal))
    rng = np.random.default_rng(0) if rng is None else rng
    return DensityCoverage(
        fac=(n_anchor - missing.size) / n_anchor,
        n_relevant=int(np.count_nonzero(relevant)),
        n_anchor=n_anchor,
        n_covered=n_anchor - int(missing.size),
        n_missing=int(missing.size),
        frequency_weighted=weighted_coverage(p, fired > 0, relevant),
        interval=bootstrap_goal_interval(
            goal, active_only(seed, threshold=0.0), n_resamples=n_resamples, rng=rng
        ),
        richness=measure_richness(seed, relevant),
        hellinger=_distance(p[goal], fired[goal], seed.n_tokens),
        independent_tokens=float(_chances(p[goal], int(seed.n_tokens.sum())).mean()),
        missing=missing[np.lexsort((missing, -p[missing]))],
        warnings=(
            "the anchor is published shares of tokens of general text: features alive anywhere in "
            "it, not those of your domain nor of a set of your size",
            "what random text reaches is reckoned with independent tokens; real text activates "
            "fewer features, so FAC below that is no fault, and closeness compares sets only",
        ),
    )


def _chances(
    p: Float64[np.ndarray, " n_features"], n_tokens: int
) -> Float64[np.ndarray, " n_features"]:
    """Chance that at least one of so many independent tokens activates each feature."""
    with np.errstate(divide="ignore"):
        chances: NDArray[np.float64] = -np.expm1(n_tokens * np.log1p(-p))
    return chances


def _distance(
    p: Float64[np.ndarray, " n_goal"],
    fired: Int64[np.ndarray, " n_goal"],
    n_tokens: Int64[np.ndarray, " n_samples"],
) -> float:
    lengths, n_samples = np.unique(n_tokens[n_tokens > 0], return_counts=True)
    if not fired.any():
        return 1.0
    expected = sum(n * _chances(p, int(m)) for m, n in zip(lengths, n_samples, strict=True))
    shares = expected / np.sum(expected)
    return hellinger_distance(fired, np.rint(shares * _COUNT).astype(np.int64))
