"""How many features a data set would show at another size: rarefaction and unseen features.

The words of ecology map as follows: a species is a feature, a sampling unit is a sample, an
incidence is a sample in which a feature is active. Every entry of a table handed to this
module counts as active; `facsynth.coverage.fac.active_only` drops those below a threshold.

Unseen features are estimated with Chao2 (incidence data). It is a lower bound of the number of
features that the source of the samples can activate, and it does not know the width of the SAE, so
it may exceed it.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64
from scipy.special import gammaln

from facsynth.coverage.unseen import (
    chao2,
    good_turing_coverage,
    samples_to_reach,
)
from facsynth.errors import DataError
from facsynth.records import FeatureActivations

__all__ = [
    "Richness",
    "RichnessComparison",
    "compare_richness",
    "expected_richness",
    "measure_richness",
    "richness_at_token_budget",
]


@dataclass(frozen=True, slots=True)
class Richness:
    """The relevant features that one data set activates, and an estimate of those unseen."""

    n_samples: int
    n_tokens: int
    """Scored tokens of all samples together."""

    n_seen: int
    """Relevant features active in at least one sample."""

    n_once: int
    """Relevant features active in exactly one sample."""

    n_twice: int
    """Relevant features active in exactly two samples."""

    chao2: float
    """Estimated features in the source of these samples, seen and unseen; see `chao2`."""

    sample_coverage: float
    """Share of the source's firings that belong to features already seen, in [0, 1]."""

    curve: tuple[tuple[int, float], ...]
    """Rarefaction curve: pairs of a number of samples and the expected features seen."""

    n_more_for_95: float | None
    """Further samples of this kind until 95 % of Chao2 is expected to be seen; see
    `samples_to_reach`."""


@dataclass(frozen=True, slots=True)
class RichnessComparison:
    """Richness of anchor and seed, each alone and at an equal size."""

    anchor: Richness
    seed: Richness

    equal_samples: int
    """Samples of the smaller set; both sets are rarefied to it."""

    anchor_at_equal_samples: float
    """Features expected in that many random anchor samples."""

    seed_at_equal_samples: float

    equal_tokens: int
    """Tokens of the set with fewer tokens; both sets are rarefied to it."""

    anchor_at_equal_tokens: float
    """Features in random anchor samples of that many tokens, mean over random orders."""

    seed_at_equal_tokens: float


def expected_richness(
    counts: Int64[np.ndarray, " n_features"],
    n_samples: int,
    sizes: Int64[np.ndarray, " n_sizes"],
) -> Float64[np.ndarray, " n_sizes"]:
    """Features expected in random subsets of the samples (sample-based rarefaction).

    S(n) = Σ_i [1 - C(m - c_i, n) / C(m, n)], the exact mean over all subsets of n of the m
    samples (Hurlbert 1971; Colwell, Mao and Chang 2004).

    Args:
        counts: Samples in which each feature is active, at most `n_samples`.
        n_samples: Number of samples m behind the counts.
        sizes: Subset sizes n, in [0, n_samples].

    Returns:
        A number of features for each size, rising with the size.

    Raises:
        DataError: A size is negative or larger than the number of samples.
    """
    if sizes.size and (sizes.min() < 0 or sizes.max() > n_samples):
        raise DataError(
            f"cannot rarefy {n_samples} samples to {int(sizes.min())}..{int(sizes.max())}; "
            f"ask for sizes between 0 and {n_samples}"
        )
    values, n_features = np.unique(counts[counts > 0], return_counts=True)
    absent = (n_samples - values)[:, None].astype(np.float64)
    size = sizes[None, :].astype(np.float64)
    possible = absent >= size
    spare = np.where(possible, absent - size, 0.0)
    log_unseen = (gammaln(absent + 1) - gammaln(spare + 1) - gammaln(n_samples + 1.0)) + gammaln(
        n_samples - size + 1
    )
    unseen = np.where(possible, np.exp(np.minimum(log_unseen, 0.0)), 0.0)
    seen: Float64[np.ndarray, " n_sizes"] = n_features.astype(np.float64) @ (1.0 - unseen)
    return seen


def richness_at_token_budget(
    activations: FeatureActivations,
    relevant: Bool[np.ndarray, " n_features"],
    *,
    n_tokens: int,
    n_draws: int = 20,
    rng: np.random.Generator,
) -> float:
    """Features seen within a budget of tokens, mean over random orders of the samples.

    Whole samples are taken in random order until the next one would go over the budget, so a
    draw holds at most `n_tokens` and on average half a sample less.

    Args:
        activations: Table in which every entry counts as active.
        relevant: Features to count.
        n_tokens: Budget of scored tokens.
        n_draws: Random orders; when the budget takes all samples, one is enough.
        rng: Source of the orders.

    Returns:
        A mean number of features.
    """
    lengths = np.diff(activations.row_starts)
    if n_tokens >= int(activations.n_tokens.sum()):
        n_draws = 1
    totals = []
    for _ in range(n_draws):
        order = rng.permutation(lengths.size)
        taken = np.zeros(lengths.size, dtype=np.bool_)
        taken[order[np.cumsum(activations.n_tokens[order]) <= n_tokens]] = True
        seen = np.zeros(activations.n_features, dtype=np.bool_)
        seen[activations.feature_ids[np.repeat(taken, lengths)]] = True
        totals.append(int(np.count_nonzero(seen & relevant)))
    return float(np.mean(totals))


def measure_richness(
    activations: FeatureActivations,
    relevant: Bool[np.ndarray, " n_features"],
    *,
    n_curve_points: int = 25,
) -> Richness:
    """Features seen, estimates of those unseen, and the rarefaction curve of one data set.

    Args:
        activations: Table in which every entry counts as active.
        relevant: Features to count.
        n_curve_points: Points of the curve, evenly spaced from 0 to all samples.

    Returns:
        The measures.
    """
    fired = np.bincount(activations.feature_ids, minlength=activations.n_features)
    counts = np.where(relevant, fired, 0)
    n_samples = activations.n_tokens.size
    sizes = np.unique(np.linspace(0, n_samples, n_curve_points).round().astype(np.int64))
    expected = expected_richness(counts, n_samples, sizes)
    return Richness(
        n_samples=n_samples,
        n_tokens=int(activations.n_tokens.sum()),
        n_seen=int(np.count_nonzero(counts)),
        n_once=int(np.count_nonzero(counts == 1)),
        n_twice=int(np.count_nonzero(counts == 2)),
        chao2=chao2(counts, n_samples),
        sample_coverage=good_turing_coverage(counts),
        curve=tuple(zip(sizes.tolist(), expected.tolist(), strict=True)),
        n_more_for_95=samples_to_reach(counts, n_samples),
    )


def compare_richness(
    anchor: FeatureActivations,
    seed: FeatureActivations,
    relevant: Bool[np.ndarray, " n_features"],
    *,
    n_draws: int = 20,
    rng: np.random.Generator,
) -> RichnessComparison:
    """Richness of two data sets, each alone and at equal numbers of samples and of tokens.

    Args:
        anchor: Table in which every entry counts as active.
        seed: The same for the seed.
        relevant: Features to count.
        n_draws: Random orders for the comparison at equal tokens.
        rng: Source of the orders.

    Returns:
        Both measures and the two comparisons.
    """
    samples = min(anchor.n_tokens.size, seed.n_tokens.size)
    tokens = min(int(anchor.n_tokens.sum()), int(seed.n_tokens.sum()))

    def at_samples(table: FeatureActivations) -> float:
        counts = np.bincount(table.feature_ids, minlength=table.n_features)[relevant]
        return float(expected_richness(counts, table.n_tokens.size, np.array([samples]))[0])

    def at_tokens(table: FeatureActivations) -> float:
        return richness_at_token_budget(table, relevant, n_tokens=tokens, n_draws=n_draws, rng=rng)

    return RichnessComparison(
        anchor=measure_richness(anchor, relevant),
        seed=measure_richness(seed, relevant),
        equal_samples=samples,
        anchor_at_equal_samples=at_samples(anchor),
        seed_at_equal_samples=at_samples(seed),
        equal_tokens=tokens,
        anchor_at_equal_tokens=at_tokens(anchor),
        seed_at_equal_tokens=at_tokens(seed),
    )
