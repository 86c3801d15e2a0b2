"""How closely the features of a seed fire in the proportions of the anchor.

Coverage asks whether a feature fires at all; representativeness asks whether it fires as often
as in the anchor. All measures compare firing shares p_i = c_i / Σ_j c_j, where c_i is the
number of samples that activate feature i. Dividing by the sum of all firings, not by the number
of samples, takes out most of the effect of longer samples, which activate more features.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

__all__ = [
    "FiringShift",
    "Representativeness",
    "firing_correlation",
    "hellinger_distance",
    "log_odds",
    "measure_representativeness",
]


@dataclass(frozen=True, slots=True)
class FiringShift:
    """One feature that fires more, or less, in the seed than in the anchor."""

    feature_id: int
    n_seed_samples: int
    """Seed samples that activate the feature."""

    n_anchor_samples: int
    log_odds: float
    """Smoothed log-odds ratio of seed against anchor, in nats; above 0 fires more in the seed."""

    z: float
    """The log-odds ratio divided by its approximate standard error; ranks, does not test."""

    name: str | None = None
    """Words at its peaks; None where it was not named."""

    example: str | None = None
    """The strongest text span, its peak marked; None where it was not named."""


@dataclass(frozen=True, slots=True)
class Representativeness:
    """Distance between the firing shares of seed and anchor, over the relevant features."""

    hellinger: float
    """In [0, 1], best 0; see `hellinger_distance`. A small seed cannot reach 0: compare it
    with a random part of the anchor of the same size (`Controls.random_hellinger`)."""

    correlation: float | None
    """In [-1, 1], best 1; see `firing_correlation`. None when a vector is constant."""

    n_compared: int
    """Relevant features that fire in at least one of the two sets."""

    over_fired: tuple[FiringShift, ...]
    """Features that fire more in the seed, largest z first."""

    under_fired: tuple[FiringShift, ...]
    """Features that fire less in the seed, most negative z first."""


def hellinger_distance(
    seed_counts: Int64[np.ndarray, " n_features"],
    anchor_counts: Int64[np.ndarray, " n_features"],
) -> float:
    """Hellinger distance between the firing shares: √(½ Σ_i (√p_i - √q_i)²).

    Returns:
        A distance in [0, 1]; 0 for equal shares (best), 1 when no feature fires in both, as where
        one of the sets activates none.
    """
    if not seed_counts.any() or not anchor_counts.any():
        return 1.0
    roots = np.sqrt(seed_counts / seed_counts.sum()) - np.sqrt(anchor_counts / anchor_counts.sum())
    return min(1.0, float(np.sqrt(0.5 * np.square(roots).sum())))


def firing_correlation(
    seed_counts: Int64[np.ndarray, " n_features"],
    anchor_counts: Int64[np.ndarray, " n_features"],
) -> float | None:
    """Pearson correlation of firing counts, over features that fire in at least one set.

    Scale-free, so counts, rates and shares give the same number. Features that are frequent
    everywhere dominate it.

    Returns:
        A correlation in [-1, 1], best 1; None when it is undefined because one of the vectors
        is constant or fewer than two features fire.
    """
    either = (seed_counts > 0) | (anchor_counts > 0)
    x = seed_counts[either].astype(np.float64)
    y = anchor_counts[either].astype(np.float64)
    if x.size < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return None
    x, y = x - x.mean(), y - y.mean()
    return float(np.clip((x @ y) / np.sqrt((x @ x) * (y @ y)), -1.0, 1.0))


def log_odds(
    seed_counts: Int64[np.ndarray, " n_features"],
    anchor_counts: Int64[np.ndarray, " n_features"],
) -> tuple[Float64[np.ndarray, " n_features"], Float64[np.ndarray, " n_features"]]:
    """Smoothed log-odds ratio of seed against anchor for each feature, and its z-score.

    With y_i firings of feature i out of n = Σ y, every count raised by ½:
    δ_i = log[(y_i + ½) / (n - y_i + ½)] in the seed minus the same in the anchor,
    z_i = δ_i / √(1 / (y_i^seed + ½) + 1 / (y_i^anchor + ½)). This is the form of Monroe,
    Colaresi and Quinn (2008, Political Analysis 16, section 3.3) with plain ½ smoothing in
    place of their informative prior. Firings of one sample are not independent, so |z| > 2 is
    a way to rank features and not a significance test.

    Returns:
        Log-odds ratios in nats and z-scores; positive where the seed fires more.
    """
    seed, anchor = seed_counts + 0.5, anchor_counts + 0.5
    rest_seed = int(seed_counts.sum()) - seed_counts + 0.5
    rest_anchor = int(anchor_counts.sum()) - anchor_counts + 0.5
    delta = np.log(seed / rest_seed) - np.log(anchor / rest_anchor)
    return delta, delta / np.sqrt(1.0 / seed + 1.0 / anchor)


def measure_representativeness(
    seed_counts: Int64[np.ndarray, " n_features"],
    anchor_counts: Int64[np.ndarray, " n_features"],
    *,
    n_shifts: int = 20,
) -> Representativeness | None:
    """Distances between the firing shares of seed and anchor, and the features behind them.

    Returns:
        The measures; None when one of the sets activates no feature.
    """
    if not seed_counts.any() or not anchor_counts.any():
        return None
    compared = np.flatnonzero((seed_counts > 0) | (anchor_counts > 0))
    seed, anchor = seed_counts[compared], anchor_counts[compared]
    delta, z = log_odds(seed, anchor)
    order = np.argsort(-z, kind="stable")

    def shifts(positions: Int64[np.ndarray, " n_positions"]) -> tuple[FiringShift, ...]:
        columns = (compared, seed, anchor, delta, z)
        rows = zip(*(column[positions].tolist() for column in columns), strict=True)
        return tuple(FiringShift(*row) for row in rows)

    lowest = np.argsort(z, kind="stable")
    return Representativeness(
        hellinger=hellinger_distance(seed, anchor),
        correlation=firing_correlation(seed, anchor),
        n_compared=int(compared.size),
        over_fired=shifts(order[z[order] > 0][:n_shifts]),
        under_fired=shifts(lowest[z[lowest] < 0][:n_shifts]),
    )
