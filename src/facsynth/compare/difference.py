"""Which features fire more in one data set than in another, with tests at equal text length.

Longer texts activate more features, so two sets of different length differ in almost every
feature. By default samples are therefore compared within tenths of the pooled lengths (Cochran,
Mantel and Haenszel). Every entry of a table handed to this module counts as active;
`facsynth.coverage.fac.active_only` drops the others.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64
from numpy.typing import NDArray
from scipy.stats import chi2, false_discovery_control, fisher_exact

from facsynth.coverage.fac import check_widths
from facsynth.errors import DataError
from facsynth.records import FeatureActivations

__all__ = ["DifferenceTests", "common_odds", "length_strata", "mantel_haenszel", "compare_features"]

N_STRATA = 10
"""Length groups: tenths of the pooled lengths."""

Z95 = 1.959963984540054


@dataclass(frozen=True)
class DifferenceTests:
    """One test for each feature that fires in at least one of two data sets, in feature order."""

    feature_ids: Int64[np.ndarray, " n_tested"]
    n_a: Int64[np.ndarray, " n_tested"]
    """Samples of the first set that activate the feature."""

    n_b: Int64[np.ndarray, " n_tested"]
    log_odds: Float64[np.ndarray, " n_tested"]
    """Log of the common odds ratio, first set against second, in nats; above 0 the feature fires
    more in the first. Pulled towards 0 by about half a sample; see `common_odds`."""

    low: Float64[np.ndarray, " n_tested"]
    """Lower end of its 95 % interval, for this feature alone."""

    high: Float64[np.ndarray, " n_tested"]
    p_value: Float64[np.ndarray, " n_tested"]
    q_value: Float64[np.ndarray, " n_tested"]
    """Smallest false discovery rate at which the feature counts as different (Benjamini and
    Hochberg 1995)."""

    n_strata: int
    """Length groups with samples of both sets; 1 when lengths play no part."""

    n_compared: tuple[int, int]
    """Samples of each set in these groups; the others have no partner of their length."""

    def order(self) -> Int64[np.ndarray, " n_tested"]:
        """Positions by evidence: smallest p first, ties by the larger effect, then by id."""
        return np.lexsort((self.feature_ids, -np.abs(self.log_odds), self.p_value))


def compare_features(
    a: FeatureActivations,
    b: FeatureActivations,
    relevant: Bool[np.ndarray, " n_features"],
    *,
    by_length: bool = True,
) -> DifferenceTests:
    """Test every relevant feature for firing in different shares of two data sets.

    By length: the Cochran-Mantel-Haenszel test with continuity correction over length groups.
    Otherwise Fisher's exact test. Samples count as independent, so copies make p too small.

    Args:
        a: The first set, every entry active.
        b: The second set.
        relevant: Features to test; those that fire in neither set are left out.
        by_length: Compare samples of similar length only.

    Raises:
        DataError: A set has no samples with text, no relevant feature fires, or no length group
            holds samples of both sets.
        MismatchError: The tables or the flags differ in their number of features.
    """
    check_widths(a, b, relevant)
    groups_a, groups_b = _groups(a, b, by_length)
    shared = np.intersect1d(np.unique(groups_a[groups_a >= 0]), np.unique(groups_b[groups_b >= 0]))
    if not shared.size:
        raise DataError(
            "the two data sets share no length: no group of similar lengths has samples of both; "
            "compare without length groups (--length none) and read the result as one of length"
        )
    counts_a, sizes_a = _stratified(a, groups_a, shared)
    counts_b, sizes_b = _stratified(b, groups_b, shared)
    ids = np.flatnonzero(relevant & ((counts_a + counts_b).sum(axis=0) > 0))
    if not ids.size:
        raise DataError(
            "no relevant feature fires in either data set, so there is nothing to compare; lower "
            "--threshold"
        )
    x, y = counts_a[:, ids], counts_b[:, ids]
    if by_length:
        p = mantel_haenszel(x, sizes_a, y, sizes_b)
    else:
        p = _fisher(x[0], int(sizes_a[0]), y[0], int(sizes_b[0]))
    log_odds, error = common_odds(x, sizes_a, y, sizes_b)
    return DifferenceTests(
        feature_ids=ids,
        n_a=np.bincount(a.feature_ids, minlength=a.n_features)[ids],
        n_b=np.bincount(b.feature_ids, minlength=b.n_features)[ids],
        log_odds=log_odds,
        low=log_odds - Z95 * error,
        high=log_odds + Z95 * error,
        p_value=p,
        q_value=np.asarray(false_discovery_control(p)),
        n_strata=int(shared.size),
        n_compared=(int(sizes_a.sum()), int(sizes_b.sum())),
    )


def length_strata(
    lengths: Int64[np.ndarray, " n_samples"], *, n_strata: int = N_STRATA
) -> Int64[np.ndarray, " n_samples"]:
    """Group of each sample by length: equal lengths share a group, groups are about equally large.

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


def mantel_haenszel(
    x: Int64[np.ndarray, "n_strata n_tested"],
    n_x: Int64[np.ndarray, " n_strata"],
    y: Int64[np.ndarray, "n_strata n_tested"],
    n_y: Int64[np.ndarray, " n_strata"],
) -> Float64[np.ndarray, " n_tested"]:
    """p-values of the Cochran-Mantel-Haenszel test of a common odds ratio of 1.

    (|Σ(x - E)| - ½)² / ΣV on one degree of freedom, with hypergeometric means E and variances V in
    each stratum, and the correction left out where it exceeds the difference (Mantel and Haenszel
    1959; Agresti, Categorical Data Analysis, section 6.3).

    Args:
        x: Firing samples of the first set in each stratum.
        n_x: Its samples in each stratum.
        y: The same two for the second set.
        n_y: Its samples in each stratum.

    Returns:
        p-values; 1 where the feature fires in all samples or in none of every stratum.
    """
    n_1, n_2 = n_x[:, None].astype(np.float64), n_y[:, None].astype(np.float64)
    total, fires = n_1 + n_2, (x + y).astype(np.float64)
    gap = np.abs((x - n_1 * fires / total).sum(axis=0))
    spread = n_1 * n_2 * fires * (total - fires) / (total**2 * np.maximum(total - 1, 1))
    variance = spread.sum(axis=0)
    statistic = np.divide(
        np.square(np.maximum(gap - 0.5, 0.0)),
        variance,
        out=np.zeros_like(variance),
        where=variance > 0,
    )
    p: NDArray[np.float64] = chi2.sf(statistic, df=1)
    return p


def common_odds(
    x: Int64[np.ndarray, "n_strata n_tested"],
    n_x: Int64[np.ndarray, " n_strata"],
    y: Int64[np.ndarray, "n_strata n_tested"],
    n_y: Int64[np.ndarray, " n_strata"],
    *,
    smoothing: float = 0.5,
) -> tuple[Float64[np.ndarray, " n_tested"], Float64[np.ndarray, " n_tested"]]:
    """Log of the Mantel-Haenszel common odds ratio, and its standard error.

    log[(Σ ad/n + ε) / (Σ bc/n + ε)] with the error of Robins, Breslow and Greenland (1986,
    Biometrics 42). ε pulls towards equal odds and keeps the ratio finite; for a rare feature and
    sets of equal size it is about ½ sample on either side (Haldane and Anscombe). It is added to
    the sums and not to the cells, because in strata where a feature never fires the latter would
    bring back the very confounding that the strata remove.

    Args:
        x: Firing samples of the first set in each stratum.
        n_x: Its samples in each stratum.
        y: The same two for the second set.
        n_y: Its samples in each stratum.
        smoothing: ε = smoothing · √(n_x n_y) / (n_x + n_y) with the sizes of the whole sets.
    """
    a, b = x.astype(np.float64), (n_x[:, None] - x).astype(np.float64)
    c, d = y.astype(np.float64), (n_y[:, None] - y).astype(np.float64)
    total = a + b + c + d
    r, s = a * d / total, b * c / total
    p, q = (a + d) / total, (b + c) / total
    n_1, n_2 = int(n_x.sum()), int(n_y.sum())
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


def _fisher(
    x: Int64[np.ndarray, " n_tested"], n_x: int, y: Int64[np.ndarray, " n_tested"], n_y: int
) -> Float64[np.ndarray, " n_tested"]:
    """Two-sided exact p-values; equal counts are tested once."""
    pairs, where = np.unique(np.stack([x, y], axis=1), axis=0, return_inverse=True)
    found = [fisher_exact([[i, n_x - i], [j, n_y - j]]).pvalue for i, j in pairs.tolist()]
    p: NDArray[np.float64] = np.minimum(np.array(found), 1.0)[where.ravel()]
    return p


def _groups(
    a: FeatureActivations, b: FeatureActivations, by_length: bool
) -> tuple[Int64[np.ndarray, " n_a"], Int64[np.ndarray, " n_b"]]:
    lengths = np.concatenate([a.n_tokens, b.n_tokens])
    for name, table in (("first", a), ("second", b)):
        if not (table.n_tokens > 0).any():
            raise DataError(f"the {name} data set has no sample with scored tokens")
    groups = length_strata(lengths, n_strata=N_STRATA if by_length else 1)
    return groups[: a.n_tokens.size], groups[a.n_tokens.size :]


def _stratified(
    table: FeatureActivations, groups: Int64[np.ndarray, " n_samples"], shared: NDArray[np.int64]
) -> tuple[Int64[np.ndarray, "n_strata n_features"], Int64[np.ndarray, " n_strata"]]:
    """Firing samples of each feature, and samples, in each of the shared groups."""
    owner = np.repeat(groups, np.diff(table.row_starts))
    counts = np.stack(
        [
            np.bincount(table.feature_ids[owner == group], minlength=table.n_features)
            for group in shared
        ]
    )
    sizes = np.array([np.count_nonzero(groups == group) for group in shared], dtype=np.int64)
    return counts, sizes
