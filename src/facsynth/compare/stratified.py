"""Tests in strata: is a feature as frequent in one set of samples as in another, group by group?"""

from dataclasses import dataclass
from functools import reduce

import numpy as np
from jaxtyping import Float64, Int64
from numpy.typing import NDArray
from scipy.special import betaln
from scipy.stats import chi2

__all__ = [
    "N_STRATA",
    "Strata",
    "common_odds",
    "exact_test",
    "length_strata",
    "mantel_haenszel",
    "stratified_test",
]

N_STRATA = 10
"""Length groups: deciles of the pooled lengths."""

_FEW = 10.0
"""Variance of the count below which the normal approximation of its tails is too rough. With one
set of 5 % of the samples, shuffled sets differed in 8 of 20 runs without exact tests."""


@dataclass(frozen=True)
class Strata:
    """Samples of two sets in each stratum, and how many of them fire each feature."""

    x: Int64[np.ndarray, "n_strata n_tested"]
    """Firing samples of the first set."""

    n_x: Int64[np.ndarray, " n_strata"]
    """All its samples."""

    y: Int64[np.ndarray, "n_strata n_tested"]
    n_y: Int64[np.ndarray, " n_strata"]


def stratified_test(strata: Strata) -> Float64[np.ndarray, " n_tested"]:
    """p-values of equal odds: `mantel_haenszel`, and `exact_test` where counts are small."""
    p = mantel_haenszel(strata)
    for feature in np.flatnonzero(_moments(strata)[1] < _FEW):
        p[feature] = exact_test(strata, int(feature))
    return p


def exact_test(strata: Strata, feature: int) -> float:
    """Exact two-sided p-value of a common odds ratio of 1, for the feature in one column.

    With the firing samples of each stratum fixed, the count of the first set is a sum of
    hypergeometric variables; p is the probability of all sums that are no more probable than the
    one seen. With one stratum this is Fisher's exact test.
    """
    x, n_x, n_y = strata.x[:, feature], strata.n_x, strata.n_y
    fires = x + strata.y[:, feature]
    parts = [
        _hypergeometric(int(k), int(n_1), int(n_1 + n_2))
        for k, n_1, n_2 in zip(fires, n_x, n_y, strict=True)
        if k
    ]
    if not parts:
        return 1.0
    chance = reduce(np.convolve, parts)
    least = np.maximum(fires - n_y, 0)[fires > 0].sum()
    seen = chance[int(x.sum() - least)]
    return float(min(1.0, chance[chance <= seen * (1 + 1e-7)].sum()))


def _hypergeometric(n_fires: int, n_drawn: int, n: int) -> NDArray[np.float64]:
    """Chances of each possible count of firing samples among those drawn, the smallest first."""
    k = np.arange(max(0, n_drawn - n + n_fires), min(n_fires, n_drawn) + 1)
    log = -betaln(n_fires - k + 1, k + 1) - betaln(n - n_fires - n_drawn + k + 1, n_drawn - k + 1)
    weights = np.exp(log - log.max())
    chances: NDArray[np.float64] = weights / weights.sum()
    return chances


def length_strata(
    lengths: Int64[np.ndarray, " n_samples"], *, n_strata: int = N_STRATA
) -> Int64[np.ndarray, " n_samples"]:
    """Length group of each sample: equal lengths share a group, groups are about equal in size.

    Samples without tokens get -1.
    """
    groups = np.full(lengths.size, -1, dtype=np.int64)
    used = lengths > 0
    if used.any():
        edges = np.unique(
            np.quantile(lengths[used], np.arange(1, n_strata) / n_strata, method="higher")
        )
        groups[used] = np.searchsorted(edges, lengths[used], side="left")
    return groups


def mantel_haenszel(strata: Strata) -> Float64[np.ndarray, " n_tested"]:
    """p-values of the Cochran-Mantel-Haenszel test of a common odds ratio of 1.

    (|Σ(x - E)| - ½)² / ΣV on one degree of freedom, with hypergeometric means E and variances V in
    each stratum, and the correction omitted where it exceeds the difference (Mantel and Haenszel
    1959; Agresti, Categorical Data Analysis, section 6.3).

    Returns:
        p-values; 1 where the feature fires in all samples or in none of every stratum.
    """
    gap, variance = _moments(strata)
    statistic = np.divide(
        np.square(np.maximum(np.abs(gap) - 0.5, 0.0)),
        variance,
        out=np.zeros_like(variance),
        where=variance > 0,
    )
    p: NDArray[np.float64] = chi2.sf(statistic, df=1)
    return p


def _moments(strata: Strata) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Σ(x - E) and ΣV of each feature."""
    n_1, n_2 = (n[:, None].astype(np.float64) for n in (strata.n_x, strata.n_y))
    total, fires = n_1 + n_2, (strata.x + strata.y).astype(np.float64)
    gap = (strata.x - n_1 * fires / total).sum(axis=0)
    spread = n_1 * n_2 * fires * (total - fires) / (total**2 * np.maximum(total - 1, 1))
    return gap, spread.sum(axis=0)


def common_odds(
    strata: Strata, *, smoothing: float = 0.5
) -> tuple[Float64[np.ndarray, " n_tested"], Float64[np.ndarray, " n_tested"]]:
    """Log of the Mantel-Haenszel common odds ratio, and its standard error.

    log[(Σ ad/n + ε) / (Σ bc/n + ε)] with the error of Robins, Breslow and Greenland (1986,
    Biometrics 42). ε pulls towards equal odds and keeps the ratio finite; for a rare feature and
    sets of equal size it is about ½ sample on either side (Haldane and Anscombe). It is added to
    the sums and not to the cells, because in strata where a feature never fires the latter would
    bring back the very confounding that the strata remove.
    """
    a, b = (n.astype(np.float64) for n in (strata.x, strata.n_x[:, None] - strata.x))
    c, d = (n.astype(np.float64) for n in (strata.y, strata.n_y[:, None] - strata.y))
    total = a + b + c + d
    r, s = a * d / total, b * c / total
    p, q = (a + d) / total, (b + c) / total
    n_1, n_2 = int(strata.n_x.sum()), int(strata.n_y.sum())
    extra = smoothing * np.sqrt(n_1 * n_2) / (n_1 + n_2)
    big_r, big_s = r.sum(axis=0) + extra, s.sum(axis=0) + extra
    # ε counts as one more stratum with r = s = ε and p = q = ½
    variance = (
        ((p * r).sum(axis=0) + extra / 2) / (2 * big_r**2)
        + ((p * s + q * r).sum(axis=0) + extra) / (2 * big_r * big_s)
        + ((q * s).sum(axis=0) + extra / 2) / (2 * big_s**2)
    )
    log_odds: NDArray[np.float64] = np.log(big_r / big_s)
    return log_odds, np.sqrt(variance)
