"""How many features a data set would show at another size: rarefaction and unseen features.

The words of ecology map as follows: a species is a feature, a sampling unit is a sample, an
incidence is a sample in which a feature is active.

Unseen features are estimated with Chao2 (incidence data). It is a lower bound of the number of
features that the source of the samples can activate, and it does not know the width of the SAE, so
it may exceed it.
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float64, Int64
from scipy.special import gammaln

from facsynth.coverage.unseen import (
    chao2,
    good_turing_coverage,
    samples_to_reach,
)
from facsynth.errors import DataError
from facsynth.table.active import ActiveRows
from facsynth.table.firing import flag_rows

__all__ = [
    "Richness",
    "RichnessComparison",
    "compare_richness",
    "expected_richness",
    "measure_richness",
    "richness_at_equal_samples",
    "richness_at_token_budget",
]


_CURVE_POINTS = 25


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

    equal_tokens: int | None = None
    """Tokens of the set with fewer tokens; both sets are rarefied to it. None against a profile."""

    anchor_at_equal_tokens: float | None = None
    """Features in random anchor samples of that many tokens, mean over random orders."""

    seed_at_equal_tokens: float | None = None


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
    rows: ActiveRows, *, n_tokens: int, n_draws: int = 20, rng: np.random.Generator
) -> float:
    """Features seen within a budget of tokens, mean over random orders of the samples.

    Whole samples are taken in random order until the next one would go over the budget, so a
    draw holds at most `n_tokens` and on average half a sample less.
    """
    if n_tokens >= int(rows.n_tokens.sum()):
        n_draws = 1
    taken = []
    for _ in range(n_draws):
        order = rng.permutation(rows.n_samples)
        inside = order[np.cumsum(rows.n_tokens[order]) <= n_tokens]
        taken.append(flag_rows(rows.n_samples, inside))
    return float(np.count_nonzero(rows.firing.seen_in(taken)) / n_draws)


def measure_richness(
    counts: Int64[np.ndarray, " n_features"], n_samples: int, n_tokens: int
) -> Richness:
    """Features seen, estimates of those unseen, and the rarefaction curve of one data set."""
    sizes = np.unique(np.linspace(0, n_samples, _CURVE_POINTS).round().astype(np.int64))
    expected = expected_richness(counts, n_samples, sizes)
    return Richness(
        n_samples=n_samples,
        n_tokens=n_tokens,
        n_seen=int(np.count_nonzero(counts)),
        n_once=int(np.count_nonzero(counts == 1)),
        n_twice=int(np.count_nonzero(counts == 2)),
        chao2=chao2(counts, n_samples),
        sample_coverage=good_turing_coverage(counts),
        curve=tuple(zip(sizes.tolist(), expected.tolist(), strict=True)),
        n_more_for_95=samples_to_reach(counts, n_samples),
    )


def compare_richness(
    anchor: ActiveRows, seed: ActiveRows, *, n_draws: int = 20, rng: np.random.Generator
) -> RichnessComparison:
    """Richness of two data sets, each alone and at equal numbers of samples and of tokens."""
    sides = [
        measure_richness(rows.counts, rows.n_samples, int(rows.n_tokens.sum()))
        for rows in (anchor, seed)
    ]
    tokens = min(side.n_tokens for side in sides)
    at_tokens = [
        richness_at_token_budget(rows, n_tokens=tokens, n_draws=n_draws, rng=rng)
        for rows in (anchor, seed)
    ]
    return replace(
        richness_at_equal_samples(anchor.counts, seed.counts, *sides),
        equal_tokens=tokens,
        anchor_at_equal_tokens=at_tokens[0],
        seed_at_equal_tokens=at_tokens[1],
    )


def richness_at_equal_samples(
    anchor_counts: Int64[np.ndarray, " n_features"],
    seed_counts: Int64[np.ndarray, " n_features"],
    anchor: Richness,
    seed: Richness,
) -> RichnessComparison:
    """The part of `compare_richness` that counts tell; what needs the samples is None."""
    size = min(anchor.n_samples, seed.n_samples)
    at = np.array([size])
    return RichnessComparison(
        anchor=anchor,
        seed=seed,
        equal_samples=size,
        anchor_at_equal_samples=float(expected_richness(anchor_counts, anchor.n_samples, at)[0]),
        seed_at_equal_samples=float(expected_richness(seed_counts, seed.n_samples, at)[0]),
    )
