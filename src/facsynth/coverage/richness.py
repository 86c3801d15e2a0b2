"""How many features a data set would show at another size: rarefaction and unseen features.

The words of ecology map as follows: a species is a feature, a sampling unit is a sample, an
incidence is a sample in which a feature is active. Every entry of a table handed to this
module counts as active; `facsynth.coverage.fac.active_only` drops those below a threshold.

The headline estimate is Chao2 (incidence data). Chao1 is given beside it for readers who treat
firing counts as abundances. Both are lower bounds of the number of features that the source of
the samples can activate, and neither knows the width of the SAE, so they may exceed it.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64
from scipy.special import gammaln

from facsynth.errors import DataError
from facsynth.records import FeatureActivations

__all__ = [
    "Richness",
    "RichnessComparison",
    "chao1",
    "chao2",
    "compare_richness",
    "expected_richness",
    "good_turing_coverage",
    "ice",
    "measure_richness",
    "richness_at_token_budget",
]

INFREQUENT = 10
"""ICE calls a feature infrequent when at most this many samples activate it."""


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

    chao1: float
    """The same from firing counts read as abundances; see `chao1`."""

    ice: float
    """Incidence coverage estimator of the same number; see `ice`."""

    sample_coverage: float
    """Share of the source's firings that belong to features already seen, in [0, 1]."""

    curve: tuple[tuple[int, float], ...]
    """Rarefaction curve: pairs of a number of samples and the expected features seen."""


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


def chao2(counts: Int64[np.ndarray, " n_features"], n_samples: int) -> float:
    """Lower bound of the number of features in the source, from incidence data.

    S + (m - 1)/m · Q1² / (2 Q2), and S + (m - 1)/m · Q1 (Q1 - 1) / 2 when Q2 = 0, where Q1 and
    Q2 features are active in exactly one and two of the m samples (Chao 1987, Biometrics 43;
    the factor (m - 1)/m as in Chao and Colwell 2017).

    Args:
        counts: Samples in which each feature is active.
        n_samples: Number of samples m.

    Returns:
        A number of features, at least the number seen.
    """
    factor = (n_samples - 1) / n_samples if n_samples else 0.0
    return _seen_and_unseen(counts, factor)


def chao1(counts: Int64[np.ndarray, " n_features"]) -> float:
    """Lower bound of the number of features, from firing counts read as abundances.

    S + (n - 1)/n · f1² / (2 f2), and S + (n - 1)/n · f1 (f1 - 1) / 2 when f2 = 0, where n is
    the sum of all counts and f1 and f2 features have a count of one and two (Chao 1984,
    Scandinavian Journal of Statistics 11). The counts of this library are incidences, for
    which `chao2` is the right name; the two differ only in the leading factor.

    Args:
        counts: Firing count of each feature.

    Returns:
        A number of features, at least the number seen.
    """
    total = int(counts.sum())
    return _seen_and_unseen(counts, (total - 1) / total if total else 0.0)


def ice(
    counts: Int64[np.ndarray, " n_features"], n_samples: int, n_infrequent_samples: int
) -> float:
    """Incidence coverage estimator of the number of features in the source.

    S_freq + S_inf / C + Q1 / C · γ², with C = 1 - Q1 / Σ_{k≤10} k Q_k and
    γ² = max(S_inf / C · m_inf / (m_inf - 1) · Σ_{k≤10} k (k - 1) Q_k / (Σ_{k≤10} k Q_k)² - 1, 0)
    (Lee and Chao 1994, Biometrics 50; features active in at most 10 samples are infrequent).
    When every infrequent feature is active only once, C is 0 and `chao2` is returned instead.

    Args:
        counts: Samples in which each feature is active.
        n_samples: Number of samples.
        n_infrequent_samples: Samples that activate at least one infrequent feature (m_inf).

    Returns:
        A number of features, at least the number seen.
    """
    infrequent = counts[(counts > 0) & (counts <= INFREQUENT)].astype(np.float64)
    n_frequent = int(np.count_nonzero(counts > INFREQUENT))
    n_once = int(np.count_nonzero(counts == 1))
    total = float(infrequent.sum())
    if total == 0.0:
        return float(n_frequent)
    if n_once == total:
        return chao2(counts, n_samples)
    covered = 1.0 - n_once / total
    spread = float((infrequent * (infrequent - 1.0)).sum()) / total**2
    correction = n_infrequent_samples / (n_infrequent_samples - 1)
    variation = max(infrequent.size / covered * correction * spread - 1.0, 0.0)
    return n_frequent + infrequent.size / covered + n_once / covered * variation


def good_turing_coverage(counts: Int64[np.ndarray, " n_features"]) -> float:
    """Share of the source's firings that belong to features already seen.

    1 - Q1 / Σ_i c_i (Good 1953, Biometrika 40). Near 1, more samples of the same source bring
    few new features.

    Args:
        counts: Samples in which each feature is active.

    Returns:
        A fraction in [0, 1]; 0 when nothing is active.
    """
    total = int(counts.sum())
    return 1.0 - int(np.count_nonzero(counts == 1)) / total if total else 0.0


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
        The measures; Chao2 is the one to report.
    """
    ids = activations.feature_ids
    counts = np.where(relevant, np.bincount(ids, minlength=activations.n_features), 0)
    n_samples = activations.n_tokens.size
    infrequent = (counts > 0) & (counts <= INFREQUENT)
    entries = np.concatenate([[0], np.cumsum(infrequent[ids])])[activations.row_starts]
    sizes = np.unique(np.linspace(0, n_samples, n_curve_points).round().astype(np.int64))
    expected = expected_richness(counts, n_samples, sizes)
    return Richness(
        n_samples=n_samples,
        n_tokens=int(activations.n_tokens.sum()),
        n_seen=int(np.count_nonzero(counts)),
        n_once=int(np.count_nonzero(counts == 1)),
        n_twice=int(np.count_nonzero(counts == 2)),
        chao2=chao2(counts, n_samples),
        chao1=chao1(counts),
        ice=ice(counts, n_samples, int(np.count_nonzero(np.diff(entries)))),
        sample_coverage=good_turing_coverage(counts),
        curve=tuple(zip(sizes.tolist(), expected.tolist(), strict=True)),
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


def _seen_and_unseen(counts: Int64[np.ndarray, " n_features"], factor: float) -> float:
    n_seen = int(np.count_nonzero(counts))
    once = int(np.count_nonzero(counts == 1))
    twice = int(np.count_nonzero(counts == 2))
    unseen = once * once / (2 * twice) if twice else once * (once - 1) / 2
    return n_seen + factor * unseen
