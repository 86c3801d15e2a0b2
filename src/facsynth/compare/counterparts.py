"""Features of two tables that are counterparts: their activations correlate over the same samples.

The best of thousands of partners correlates by luck. So partners are found on one half of the
samples and their correlation is measured on the other, and beside the shares stand what shuffled
samples reach and, where its table is given, an SAE of random directions.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float64, Int64
from scipy.stats import norm

from facsynth.compare.matching import Matches, best_matches, common_features, pair_correlations
from facsynth.compare.settings import TransferSettings
from facsynth.coverage.controls import length_matched_subset
from facsynth.errors import DataError
from facsynth.table.active import ActiveRows

__all__ = ["Share", "Side", "match_features"]

_PAIR_VALUES = 2**20
"""Correlations of resamples that exist at once: 8 MiB for each of five sums."""

_LENGTH_GROUPS = 10
"""Groups of like length within which samples are shuffled."""

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
    """What of one table's features has a counterpart in the other."""

    feature_ids: Int64[np.ndarray, " n_compared"]
    """Features compared."""

    partners: Int64[np.ndarray, " n_compared"]
    """Best partner of each, found on one half of the samples."""

    correlations: Float64[np.ndarray, " n_compared"]
    """Correlation with that partner on the other half."""

    is_mutual: Bool[np.ndarray, " n_compared"]
    """Whether each is its partner's best partner, too."""

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

    Args:
        a: Activations of one SAE.
        b: Activations of another on the same samples, rows in the same order.
        settings: What counts as a counterpart.
        random_b: Activations of an SAE of random directions in B's model, same samples.

    Raises:
        DataError: The rows are other samples, or too few samples or features remain.
    """
    for other in (b, random_b):
        if other is not None and other.activations.sample_ids != a.activations.sample_ids:
            raise DataError("the tables hold other samples; take those that both have first")
    rng = np.random.default_rng(settings.random_seed)
    halves = np.array_split(rng.permutation(a.n_samples), 2)
    pair = _Pair.of(a, b, halves, settings)
    shuffled: tuple[list[tuple[float, float]], ...] = ([], [])
    for kind, groups in [(0, 1), (1, _LENGTH_GROUPS)] * settings.shuffles:
        rows = [_shuffle(half, a.activations.n_tokens, groups, rng) for half in halves]
        shuffled[kind].append(_Pair.of(a, b, halves, settings, rows_b=rows).shares())
    random = None
    if random_b is not None:
        among = _firing_like(random_b, b.counts[pair.matches.partner_of_b >= 0], rng)
        random = _Pair.of(a, random_b, halves, settings, among_b=among).shares()[0]
    n = len(halves[1])
    weights = rng.multinomial(n, np.full(n, 1 / n), settings.resamples).T.astype(np.float64)
    by_side = [[tuple(shares[i] for shares in kind) for kind in shuffled] for i in (0, 1)]
    return (
        pair.side(False, weights, shuffled=by_side[0], random=random),
        pair.side(True, weights, shuffled=by_side[1]),
    )


@dataclass(frozen=True)
class _Pair:
    """Two tables on the half that finds partners and the one that checks them."""

    matches: Matches
    check_a: Any
    check_b: Any
    settings: TransferSettings

    @classmethod
    def of(
        cls,
        a: ActiveRows,
        b: ActiveRows,
        halves: Halves,
        settings: TransferSettings,
        *,
        rows_b: Halves | None = None,
        among_b: Bool[np.ndarray, " n_features"] | None = None,
    ) -> "_Pair":
        """Find partners; features active too rarely in a half, or not `among_b`, have none."""
        # float64: correlations are differences of sums over all samples
        wholes = [rows.matrix.astype(np.float64) for rows in (a, b)]
        found, checked = (
            (wholes[0][rows], wholes[1][others])
            for rows, others in zip(halves, rows_b or halves, strict=True)
        )
        usable = [common_features(matrix, settings.min_samples) for matrix in checked]
        if among_b is not None:
            usable[1] &= among_b
        masked = [m @ sp.diags_array(u.astype(float)) for m, u in zip(found, usable, strict=True)]
        for matrix in masked:
            matrix.eliminate_zeros()
        matches = best_matches(*masked, min_samples=settings.min_samples)
        for name, partners in (("A", matches.partner_of_a), ("B", matches.partner_of_b)):
            if (partners < 0).all():
                raise DataError(
                    f"no feature of {name} is active in {settings.min_samples} samples of each "
                    f"half of the {sum(map(len, halves))} common ones; use more samples or lower "
                    "--min-samples"
                )
        return cls(matches, sp.csc_array(checked[0]), sp.csc_array(checked[1]), settings)

    def shares(self) -> tuple[float, float]:
        """Share of the features of A, and of those of B, with a counterpart."""
        weights = np.ones((self.check_a.shape[0], 1))
        limit = self.settings.min_correlation
        found = [
            float((self._correlations(b, weights)[:, 0] > limit).mean()) for b in (False, True)
        ]
        return found[0], found[1]

    def side(
        self,
        from_b: bool,
        weights: Float64[np.ndarray, "n_samples n_resamples"],
        *,
        shuffled: Sequence[tuple[float, ...]],
        random: float | None = None,
    ) -> Side:
        """One side with intervals."""
        ids, partners = self._pairs(from_b)
        r = self._correlations(from_b, np.ones((weights.shape[0], 1)))[:, 0]
        back = self.matches.partner_of_a if from_b else self.matches.partner_of_b
        mutual = back[partners] == ids
        drawn = self._correlations(from_b, weights) > self.settings.min_correlation
        is_above = r > self.settings.min_correlation
        return Side(
            feature_ids=ids,
            partners=partners,
            correlations=r,
            is_mutual=mutual,
            share=_share(is_above, drawn),
            mutual_share=_share(is_above & mutual, drawn & mutual[:, None]),
            shuffled=shuffled[0],
            shuffled_by_length=shuffled[1],
            random=random,
        )

    def _pairs(self, from_b: bool) -> tuple[Any, Any]:
        partners = self.matches.partner_of_b if from_b else self.matches.partner_of_a
        ids = np.flatnonzero(partners >= 0)
        return ids, partners[ids]

    def _correlations(
        self, from_b: bool, weights: Float64[np.ndarray, "n_samples n_resamples"]
    ) -> Float64[np.ndarray, "n_pairs n_resamples"]:
        own, other = (self.check_b, self.check_a) if from_b else (self.check_a, self.check_b)
        ids, partners = self._pairs(from_b)
        size = max(1, _PAIR_VALUES // weights.shape[1])
        parts = [
            pair_correlations(own[:, ids[i : i + size]], other[:, partners[i : i + size]], weights)
            for i in range(0, ids.size, size)
        ]
        return np.concatenate(parts)


def _firing_like(
    table: ActiveRows, wanted: Int64[np.ndarray, " n_wanted"], rng: np.random.Generator
) -> Bool[np.ndarray, " n_features"]:
    """Features of a table that are active in as many samples as others, one for each of them."""
    pool = np.flatnonzero(table.counts)
    among = np.zeros(table.n_features, dtype=np.bool_)
    among[pool[length_matched_subset(table.counts[pool], wanted, rng=rng)]] = True
    return among


def _share(
    flags: Bool[np.ndarray, " n_features"], drawn: Bool[np.ndarray, "n_features n_resamples"]
) -> Share:
    """A share with a normal interval of the spread that it has over resamples."""
    value, error = float(flags.mean()), float(drawn.mean(axis=0).std(ddof=1))
    reach = float(norm.ppf((1 + _LEVEL) / 2)) * error
    return Share(value, max(0.0, value - reach), min(1.0, value + reach))


def _shuffle(
    rows: Int64[np.ndarray, " n"],
    lengths: Int64[np.ndarray, " n_samples"],
    n_groups: int,
    rng: np.random.Generator,
) -> Int64[np.ndarray, " n"]:
    """The rows in a random order within groups of like length."""
    shuffled = rows.copy()
    for group in np.array_split(np.argsort(lengths[rows], kind="stable"), n_groups):
        shuffled[group] = rows[rng.permutation(group)]
    return shuffled
