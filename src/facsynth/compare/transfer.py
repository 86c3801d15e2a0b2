"""How much feature space two SAEs share, from what they read in the same texts.

The SAEs may belong to two models, to two layers, or to one. Tokenizers differ between models, so
the unit is the sample: a feature is the vector of its activations over the common samples, and two
features match as far as these correlate (Pearson).

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
from facsynth.coverage.controls import length_matched_subset
from facsynth.errors import DataError
from facsynth.records import FeatureActivations

__all__ = ["Share", "Side", "Transfer", "TransferSettings", "common_rows", "measure_transfer"]

_PAIR_VALUES = 2**20
"""Correlations of resamples that exist at once: 8 MiB for each of five sums."""

_LENGTH_GROUPS = 10
"""Groups of like length within which samples are shuffled."""


@dataclass(frozen=True)
class TransferSettings:
    """What counts as a match, and how it is tested."""

    min_correlation: float = 0.5
    """A feature has a counterpart when its partner's held-out correlation is above this."""

    min_samples: int = 10
    """Features compared are active in at least so many samples of either half."""

    n_shuffles: int = 3
    """Shuffles of the samples, each over all samples and within groups of like length."""

    n_resamples: int = 200
    """Bootstrap resamples of the samples behind the intervals."""

    level: float = 0.95
    """Level of the intervals."""

    seed: int = 0
    """Seed of the halves, the shuffles and the resamples."""

    def __post_init__(self) -> None:
        if not 0 <= self.min_correlation < 1:
            raise DataError(f"--min-correlation is {self.min_correlation}; it must be in [0, 1)")
        if self.min_samples < 2 or self.n_shuffles < 0 or self.n_resamples < 2:
            raise DataError("--min-samples must be 2 or more, and --shuffles 0 or more")


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


@dataclass(frozen=True)
class Transfer:
    """What two tables share, seen from either of them."""

    a: Side
    b: Side
    n_found: int
    """Samples on which partners were found."""

    n_checked: int
    """Samples on which their correlations were measured."""


def common_rows(
    a: FeatureActivations, b: FeatureActivations
) -> tuple[Int64[np.ndarray, " n_common"], Int64[np.ndarray, " n_common"]]:
    """Rows of the samples that both tables have, in the order of A.

    Raises:
        DataError: A table has a sample id twice.
    """
    places: list[dict[str, int]] = []
    for table in (a, b):
        places.append({sample_id: row for row, sample_id in enumerate(table.sample_ids)})
        if len(places[-1]) < len(table.sample_ids):
            raise DataError("a table has a sample id twice, so its samples cannot be paired")
    both = [sample_id for sample_id in a.sample_ids if sample_id in places[1]]
    rows = [np.array([place[i] for i in both], dtype=np.int64) for place in places]
    return rows[0], rows[1]


def measure_transfer(
    a: FeatureActivations,
    b: FeatureActivations,
    settings: TransferSettings | None = None,
    *,
    random_b: FeatureActivations | None = None,
) -> Transfer:
    """Shares of features with a counterpart, from either side, with their controls.

    Args:
        a: Activations of one SAE.
        b: Activations of another on the same samples, rows in the same order.
        settings: What counts as a match.
        random_b: Activations of an SAE of random directions in B's model, same samples.

    Raises:
        DataError: The rows are other samples, or too few samples or features remain.
    """
    settings = settings or TransferSettings()
    for other in (b, random_b):
        if other is not None and other.sample_ids != a.sample_ids:
            raise DataError("the tables hold other samples; take those that both have first")
    rng = np.random.default_rng(settings.seed)
    order = rng.permutation(len(a.sample_ids))
    halves = np.array_split(order, 2)
    pair = _Halves.of(a, b, halves, settings)
    shuffled: tuple[list[tuple[float, float]], ...] = ([], [])
    for kind, groups in [(0, 1), (1, _LENGTH_GROUPS)] * settings.n_shuffles:
        rows = [_shuffle(half, a.n_tokens, groups, rng) for half in halves]
        shuffled[kind].append(_Halves.of(a, b, halves, settings, rows_b=rows).shares())
    random = None
    if random_b is not None:
        counts = np.bincount(b.feature_ids, minlength=b.n_features)
        among = _firing_like(random_b, counts[pair.matches.partner_of_b >= 0], rng)
        random = _Halves.of(a, random_b, halves, settings, among_b=among).shares()[0]
    n = len(halves[1])
    weights = rng.multinomial(n, np.full(n, 1 / n), settings.n_resamples).T.astype(np.float64)
    by_side = [[tuple(shares[i] for shares in kind) for kind in shuffled] for i in (0, 1)]
    return Transfer(
        a=pair.side(False, weights, shuffled=by_side[0], random=random),
        b=pair.side(True, weights, shuffled=by_side[1]),
        n_found=len(halves[0]),
        n_checked=n,
    )


@dataclass(frozen=True)
class _Halves:
    """Two tables on the half that finds partners and the one that checks them."""

    matches: Matches
    check_a: Any
    check_b: Any
    settings: TransferSettings

    @classmethod
    def of(
        cls,
        a: FeatureActivations,
        b: FeatureActivations,
        halves: Sequence[Int64[np.ndarray, " _"]],
        settings: TransferSettings,
        *,
        rows_b: Sequence[Int64[np.ndarray, " _"]] | None = None,
        among_b: Bool[np.ndarray, " n_features"] | None = None,
    ) -> "_Halves":
        """Find partners; features active too rarely in a half, or not `among_b`, have none."""
        found, checked = (
            (_matrix(a)[rows], _matrix(b)[others])
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
                    f"half of the {sum(map(len, halves))} common ones; take more samples or lower "
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
        level = self.settings.level
        return Side(
            feature_ids=ids,
            partners=partners,
            correlations=r,
            is_mutual=mutual,
            share=_share(is_above, drawn, level),
            mutual_share=_share(is_above & mutual, drawn & mutual[:, None], level),
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
    table: FeatureActivations, wanted: Int64[np.ndarray, " n_wanted"], rng: np.random.Generator
) -> Bool[np.ndarray, " n_features"]:
    """Features of a table that are active in as many samples as others, one for each of them."""
    counts = np.bincount(table.feature_ids, minlength=table.n_features)
    pool = np.flatnonzero(counts)
    among = np.zeros(table.n_features, dtype=np.bool_)
    among[pool[length_matched_subset(counts[pool], wanted, rng=rng)]] = True
    return among


def _share(
    flags: Bool[np.ndarray, " n_features"],
    drawn: Bool[np.ndarray, "n_features n_resamples"],
    level: float,
) -> Share:
    """A share with a normal interval of the spread that it has over resamples."""
    value, error = float(flags.mean()), float(drawn.mean(axis=0).std(ddof=1))
    reach = float(norm.ppf((1 + level) / 2)) * error
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


def _matrix(table: FeatureActivations) -> Any:
    shape = (len(table.sample_ids), table.n_features)
    ids = table.feature_ids.astype(np.int64)
    return sp.csr_array((table.values.astype(np.float64), ids, table.row_starts), shape=shape)
