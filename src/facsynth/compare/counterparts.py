"""Features of two tables that are counterparts: their activations correlate over the same samples.

The best of thousands of partners correlates by chance. So partners are found on one half of the
samples and their correlation is measured on the other. Controls are shuffled samples and, if its
table is given, an SAE of random directions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float64, Int64
from scipy.stats import norm

from facsynth.compare.matching import best_matches, common_features, pair_correlations
from facsynth.compare.settings import TransferSettings
from facsynth.coverage.controls import length_matched_subset
from facsynth.errors import DataError
from facsynth.table.active import ActiveRows

__all__ = ["Share", "Side", "match_features"]

_PAIR_VALUES = 2**20
"""Correlations of resamples held in memory at a time: 8 MiB for each of five sums."""

_LENGTH_GROUPS = 10
"""Length groups within which samples are shuffled."""

_LEVEL = 0.95
"""Level of the intervals."""

Halves = Sequence[Int64[np.ndarray, " _"]]
"""Rows on which partners are found, and rows on which they are checked."""


@dataclass(frozen=True, slots=True)
class Share:
    """A share of features with its interval over resampled samples, the partners held fixed."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Side:
    """The features of one table that have a counterpart in the other."""

    feature_ids: Int64[np.ndarray, " n_compared"]
    """Features that are compared."""

    partners: Int64[np.ndarray, " n_compared"]
    """Best partner of each, found on one half of the samples."""

    correlations: Float64[np.ndarray, " n_compared"]
    """Correlation with that partner on the other half."""

    is_mutual: Bool[np.ndarray, " n_compared"]
    """Whether each is also its partner's best partner."""

    share: Share
    """Share of the features compared whose correlation is above the minimum."""

    mutual_share: Share
    """Share of the features compared that are mutual and above it."""

    shuffled: tuple[float, ...]
    """The share when the samples of B are shuffled, one for each shuffle."""

    shuffled_by_length: tuple[float, ...]
    """The same when they are shuffled within groups of like length."""

    random: float | None = None
    """Share with a counterpart among as many random directions that fire as often."""


def match_features(
    a: ActiveRows,
    b: ActiveRows,
    settings: TransferSettings,
    *,
    random_b: ActiveRows | None = None,
) -> tuple[Side, Side]:
    """Shares of features with a counterpart, from either side, with their controls.

    Raises:
        DataError: The rows are other samples, or too few samples or features remain.
    """
    for other in (b, random_b):
        if other is not None and other.sample_ids != a.sample_ids:
            raise DataError("the tables hold other samples; take those that both have first")
    rng = np.random.default_rng(settings.random_seed)
    halves = np.array_split(rng.permutation(a.n_samples), 2)
    pair = _find_pairs(a, b, settings, halves, halves)
    shuffled: tuple[list[list[float]], ...] = ([], [])
    for kind, groups in [(0, 1), (1, _LENGTH_GROUPS)] * settings.shuffles:
        others = [_shuffle(half, a.n_tokens, groups, rng) for half in halves]
        shuffled[kind].append(_find_pairs(a, b, settings, halves, others).shares())
    random: list[float | None] = [None, None]
    if random_b is not None:
        among = _firing_like(random_b, b.counts[pair.partners[1] >= 0], rng)
        control = _find_pairs(a, random_b, settings, halves, halves, among_b=among)
        random[0] = control.shares()[0]
    n = len(halves[1])
    weights = rng.multinomial(n, np.full(n, 1 / n), settings.resamples).T.astype(np.float64)
    sides = [
        pair.measure(i, weights, [[one[i] for one in kind] for kind in shuffled], random[i])
        for i in (0, 1)
    ]
    return sides[0], sides[1]


@dataclass(frozen=True)
class _Pairs:
    """Partners of the features of two tables (sides 0 and 1), and the samples that check them."""

    partners: tuple[Int64[np.ndarray, " n_features_a"], Int64[np.ndarray, " n_features_b"]]
    """Partner of every feature in the other table; -1 for those that are not compared."""

    checks: tuple[Any, Any]
    """Sparse activations of either side in the samples that check."""

    limit: float
    """Correlation above which a feature has a counterpart."""

    def shares(self) -> list[float]:
        """Share of the compared features of each side that have a counterpart."""
        return [float((self.correlations(i) > self.limit).mean()) for i in (0, 1)]

    def measure(
        self,
        i: int,
        weights: Float64[np.ndarray, "n_samples n_resamples"],
        shuffled: Sequence[Sequence[float]],
        random: float | None,
    ) -> Side:
        """Measure one side, with intervals from resampling weights."""
        ids = self._ids(i)
        partners = self.partners[i][ids]
        mutual = self.partners[1 - i][partners] == ids
        r = self.correlations(i)[:, 0]
        above, drawn = r > self.limit, self.correlations(i, weights) > self.limit
        return Side(
            feature_ids=ids,
            partners=partners,
            correlations=r,
            is_mutual=mutual,
            share=_share(above, drawn),
            mutual_share=_share(above & mutual, drawn & mutual[:, None]),
            shuffled=tuple(shuffled[0]),
            shuffled_by_length=tuple(shuffled[1]),
            random=random,
        )

    def correlations(
        self, i: int, weights: Float64[np.ndarray, "n_samples n_resamples"] | None = None
    ) -> Float64[np.ndarray, "n_pairs n_resamples"]:
        """Correlation of each feature of a side with its partner, with weighted samples."""
        own, other = self.checks[i], self.checks[1 - i]
        weights = np.ones((own.shape[0], 1)) if weights is None else weights
        ids = self._ids(i)
        partners = self.partners[i][ids]
        size = max(1, _PAIR_VALUES // weights.shape[1])
        parts = [
            pair_correlations(own[:, ids[j : j + size]], other[:, partners[j : j + size]], weights)
            for j in range(0, ids.size, size)
        ]
        return np.concatenate(parts)

    def _ids(self, i: int) -> Int64[np.ndarray, " n_compared"]:
        return np.flatnonzero(self.partners[i] >= 0)


def _find_pairs(
    a: ActiveRows,
    b: ActiveRows,
    settings: TransferSettings,
    rows_a: Halves,
    rows_b: Halves,
    *,
    among_b: Bool[np.ndarray, " n_features"] | None = None,
) -> _Pairs:
    """Find partners; features active too rarely in a half, or not `among_b`, have none."""
    # float64: correlations are differences of sums over all samples
    wholes = [rows.matrix.astype(np.float64) for rows in (a, b)]
    finds, checks = (
        (wholes[0][rows], wholes[1][others]) for rows, others in zip(rows_a, rows_b, strict=True)
    )
    usable = [
        common_features(find, settings.min_samples) & common_features(check, settings.min_samples)
        for find, check in zip(finds, checks, strict=True)
    ]
    if among_b is not None:
        usable[1] &= among_b
    for name, flags in zip("AB", usable, strict=True):
        if not flags.any():
            raise DataError(
                f"no feature of {name} is active in {settings.min_samples} samples of each half "
                f"of the {a.n_samples} common ones; use more samples or lower --min-samples"
            )
    partners = best_matches(finds[0], finds[1], (usable[0], usable[1]))
    columns = (sp.csc_array(checks[0]), sp.csc_array(checks[1]))
    return _Pairs(partners, columns, settings.min_correlation)


def _firing_like(
    table: ActiveRows, wanted: Int64[np.ndarray, " n_wanted"], rng: np.random.Generator
) -> Bool[np.ndarray, " n_features"]:
    """Features of a table that match others in the number of samples they are active in."""
    pool = np.flatnonzero(table.counts)
    among = np.zeros(table.n_features, dtype=np.bool_)
    among[pool[length_matched_subset(table.counts[pool], wanted, rng=rng)]] = True
    return among


def _share(
    flags: Bool[np.ndarray, " n_features"], drawn: Bool[np.ndarray, "n_features n_resamples"]
) -> Share:
    """A share with a normal interval from its spread over resamples."""
    value, error = float(flags.mean()), float(drawn.mean(axis=0).std(ddof=1))
    reach = float(norm.ppf((1 + _LEVEL) / 2)) * error
    return Share(value, max(0.0, value - reach), min(1.0, value + reach))


def _shuffle(
    rows: Int64[np.ndarray, " n"],
    lengths: Int64[np.ndarray, " n_samples"],
    n_groups: int,
    rng: np.random.Generator,
) -> Int64[np.ndarray, " n"]:
    """The rows, shuffled within length groups."""
    shuffled = rows.copy()
    for group in np.array_split(np.argsort(lengths[rows], kind="stable"), n_groups):
        shuffled[group] = rows[rng.permutation(group)]
    return shuffled
