"""Which features several data sets share, and how few samples of one keep its features.

Overlap is not symmetric: a small set lies inside a large one more than the other way round (as
Qwen-Scope shows for benchmarks). A share also grows with the size and the text length of the
second set. The control is the same share between random parts of equal size and matched lengths;
its diagonal is what two parts of one set share.
"""

from bisect import bisect_left
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from itertools import product
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64
from numpy.typing import NDArray

from facsynth.compare.settings import OverlapSettings
from facsynth.coverage.controls import length_matched_subset
from facsynth.coverage.richness import expected_richness
from facsynth.errors import DataError
from facsynth.select.greedy import covering_rows
from facsynth.show import TextTable, as_html
from facsynth.table.active import ActiveRows, check_same_width
from facsynth.table.firing import flag_rows

__all__ = [
    "MatchedOverlap",
    "Needed",
    "Overlap",
    "Redundancy",
    "matched_overlap",
    "measure_overlap",
    "measure_redundancy",
    "overlap_matrix",
]

SHARES = (0.5, 0.8, 0.9, 0.95, 0.99, 1.0)
"""Shares of a set's features for which the fewest samples are asked."""

_FEW = 20
"""Samples of a matched part below which its shares say little."""

_AT_ONCE = 2
"""Sets that are searched for few samples at once; each takes a gigabyte a million samples."""

_LENGTHS_AGREE = (0.8, 1.25)
"""Ratios of mean lengths between which two parts compare."""


@dataclass(frozen=True)
class MatchedOverlap:
    """Overlap between random parts of equal size and lengths; see `matched_overlap`."""

    shares: Float64[np.ndarray, "n_sets n_sets"]
    """Mean share of the features of a part of set i that a part of set j has as well; of two
    parts of the same set in the diagonal: the most to expect."""

    length_ratios: Float64[np.ndarray, "n_sets n_sets"]
    """Mean tokens of the part of set j over those of the part of set i; 1 is a perfect match."""

    n_samples: int
    """Samples of each part: half of the smallest set."""

    n_draws: int


@dataclass(frozen=True, slots=True)
class Needed:
    """How many samples keep a share of the features."""

    share: float
    greedy: int
    """Fewest samples found."""

    random: int
    """How many random samples do."""


@dataclass(frozen=True)
class Redundancy:
    """How few samples keep the features of a data set."""

    name: str
    n_samples: int
    mean_tokens: float
    n_features: int
    """Features that the whole set activates."""

    needed: tuple[Needed, ...]
    """One for each of several shares of the features."""

    greedy_order: tuple[str, ...]
    """Ids of samples: each adds the most features not yet seen."""

    n_kept: tuple[int, ...]
    """Features that the first so many of them activate."""


@dataclass(frozen=True, eq=False)
class Overlap:
    """What data sets share, and how redundant each of them is."""

    sets: tuple[Redundancy, ...]
    shares: Float64[np.ndarray, "n_sets n_sets"]
    """See `overlap_matrix`."""

    matched: MatchedOverlap
    threshold: float
    """δ, in SAE units."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the sets."""
        return tuple(one.name for one in self.sets)

    def row(self) -> dict[str, Any]:
        """Matrices of shares, and for each set its size, redundancy and greedy order."""
        matched = {
            name: value.tolist() if isinstance(value, np.ndarray) else value
            for name, value in vars(self.matched).items()
        }
        return {
            "names": list(self.names),
            "shares": self.shares.tolist(),
            "matched": matched,
            "sets": [asdict(one) for one in self.sets],
            "threshold": self.threshold,
            "warnings": list(self.notes),
        }

    def tables(self) -> Sequence[TextTable]:
        """The shares, the same between matched parts, and redundancy."""
        found = []
        if len(self.sets) > 1:
            found = [
                self._matrix("Share of the row's features that the column has", self.shares),
                self._matrix(
                    f"The same for parts of {self.matched.n_samples:,} samples with matched "
                    "lengths (diagonal: two parts of one set)",
                    self.matched.shares,
                ),
            ]
        rows: list[tuple[object, ...]] = [
            ("samples", *(one.n_samples for one in self.sets)),
            ("mean tokens", *(one.mean_tokens for one in self.sets)),
            ("features", *(one.n_features for one in self.sets)),
        ]
        for of_sets in zip(*(one.needed for one in self.sets), strict=True):
            cells = (f"{need.greedy:,} / {need.random:,}" for need in of_sets)
            rows.append((f"for {of_sets[0].share:.0%} of the features", *cells))
        title = "Redundancy: samples that keep a share of the features, chosen / random"
        note = (
            "A matched share below the diagonal means other features, not fewer samples. "
            "`fac diff` names them; `fac select` chooses the samples that keep the features."
        )
        return [*found, TextTable(title, ("", *self.names), rows, note=note)]

    _repr_html_ = as_html

    @property
    def notes(self) -> tuple[str, ...]:
        """Caveats."""
        low, high = _LENGTHS_AGREE
        notes = [
            f"{self.names[j]} has too few samples of the lengths of {self.names[i]}: its matched "
            f"parts are {ratio:.2f} times as long, so their share is no fair comparison"
            for (i, j), ratio in np.ndenumerate(self.matched.length_ratios)
            if i != j and not low <= ratio <= high
        ]
        if self.matched.n_samples < _FEW:
            notes.append(f"matched parts have {self.matched.n_samples} samples only")
        return tuple(notes)

    def _matrix(self, title: str, shares: Float64[np.ndarray, "n_sets n_sets"]) -> TextTable:
        rows = [(name, *found) for name, found in zip(self.names, shares.tolist(), strict=True)]
        return TextTable(title, ("features of", *self.names), rows)


def measure_overlap(
    tables: Sequence[ActiveRows],
    settings: OverlapSettings | None = None,
    *,
    names: Sequence[str] = (),
) -> Overlap:
    """Measure which features data sets share, and how redundant each is.

    Args:
        tables: Data sets, each with at least two samples.
        settings: Random parts behind the matched shares.
        names: A name for each set; numbers by default.

    Raises:
        DataError: A set has fewer than two samples or activates no relevant feature.
        MismatchError: The tables differ in their number of features.
    """
    settings = settings or OverlapSettings()
    rng = np.random.default_rng(settings.random_seed)
    names = names or [f"set {i}" for i in range(1, len(tables) + 1)]
    with ThreadPoolExecutor(_AT_ONCE) as threads:
        sets = tuple(threads.map(measure_redundancy, tables, names))
    return Overlap(
        shares=overlap_matrix(tables),
        matched=matched_overlap(tables, n_draws=settings.draws, rng=rng),
        sets=sets,
        threshold=tables[0].threshold,
    )


def overlap_matrix(tables: Sequence[ActiveRows]) -> Float64[np.ndarray, "n_sets n_sets"]:
    """Share of the relevant features of set i that set j has as well: |Fi ∩ Fj| / |Fi|.

    Raises:
        DataError: A set activates no relevant feature.
        MismatchError: The tables differ in their number of features.
    """
    _check(tables)
    active = np.stack([one.features for one in tables]).astype(np.float64)
    shares: NDArray[np.float64] = (active @ active.T) / active.sum(axis=1)[:, None]
    return shares


def matched_overlap(
    tables: Sequence[ActiveRows], *, n_draws: int, rng: np.random.Generator
) -> MatchedOverlap:
    """Overlap of random parts, all of half the size of the smallest set, with lengths matched.

    From set i a random part is drawn, from set j a part of as many samples with the lengths of the
    former; within one set the two parts share no sample. So sets of any size compare, with each
    other and with the diagonal.

    Raises:
        DataError: A set has fewer than two samples or activates no relevant feature.
        MismatchError: The tables differ in their number of features.
    """
    _check(tables)
    smallest = min(one.n_samples for one in tables)
    if smallest < 2:
        raise DataError(
            "a data set has a single sample, so no part of it can be compared; leave it out"
        )
    size, n_sets = smallest // 2, len(tables)
    shares, ratios = np.full((2, n_draws, n_sets, n_sets), np.nan)
    parts: list[list[NDArray[np.bool_]]] = [[] for _ in tables]
    for draw in range(n_draws):
        drawn, ratios[draw] = _draw_parts([one.n_tokens for one in tables], size, rng)
        parts = [[*before, *more] for before, more in zip(parts, drawn, strict=True)]
    seen = [one.firing.seen_in(found) for one, found in zip(tables, parts, strict=True)]
    for draw, i, j in product(range(n_draws), range(n_sets), range(n_sets)):
        first = draw * (1 + n_sets)
        inside, matched = seen[i][first], seen[j][first + 1 + i]
        if inside.any():
            both = np.count_nonzero(inside & matched)
            shares[draw, i, j] = int(both) / int(np.count_nonzero(inside))
    if np.isnan(shares).all(axis=0).any():
        raise DataError("random parts of a data set activate nothing; lower --threshold")
    return MatchedOverlap(
        shares=np.nanmean(shares, axis=0),
        length_ratios=np.nanmean(ratios, axis=0),
        n_samples=size,
        n_draws=n_draws,
    )


def _draw_parts(
    lengths: Sequence[Int64[np.ndarray, " _"]], size: int, rng: np.random.Generator
) -> tuple[list[list[NDArray[np.bool_]]], Float64[np.ndarray, "n_sets n_sets"]]:
    """A random part of each set, and one of each set with the lengths of each of the former.

    Returns:
        For each set flags of its samples: of its own part, then of those that match the part of
        each set; and the length ratios.
    """
    parts: list[list[NDArray[np.bool_]]] = [[np.zeros(0, dtype=np.bool_)] for _ in lengths]
    ratios = np.ones((len(lengths), len(lengths)))
    for i, own in enumerate(lengths):
        chosen = rng.choice(own.size, size, replace=False)
        parts[i][0] = flag_rows(own.size, chosen)
        tokens = max(1.0, float(own[chosen].mean()))
        for j, others in enumerate(lengths):
            pool = np.flatnonzero(~parts[i][0]) if i == j else np.arange(others.size)
            near = pool[length_matched_subset(others[pool], own[chosen], rng=rng)]
            ratios[i, j] = float(others[near].mean()) / tokens
            parts[j].append(flag_rows(others.size, near))
    return parts, ratios


def measure_redundancy(rows: ActiveRows, name: str) -> Redundancy:
    """Greedy order of the samples by new features, until all features are seen.

    Raises:
        DataError: The set activates no relevant feature.
    """
    _check([rows])
    total = int(np.count_nonzero(rows.features))
    order = covering_rows(rows)
    chosen = rows.firing.take(order)
    # A feature is new with the first chosen sample that activates it.
    _, first = np.unique(chosen.feature_ids, return_index=True)
    owner = np.searchsorted(chosen.row_starts, first, side="right") - 1
    n_kept = np.cumsum(np.bincount(owner, minlength=order.size))

    def expected(n_samples: int) -> float:
        return float(expected_richness(rows.counts, rows.n_samples, np.array([n_samples]))[0])

    def needed(share: float) -> Needed:
        goal = share * total - 1e-6
        greedy = int(np.searchsorted(n_kept, goal)) + 1
        return Needed(share, greedy, bisect_left(range(rows.n_samples + 1), goal, key=expected))

    return Redundancy(
        name=name,
        n_samples=rows.n_samples,
        mean_tokens=float(rows.n_tokens.mean()),
        n_features=total,
        needed=tuple(map(needed, SHARES)),
        greedy_order=tuple(rows.sample_ids[i] for i in order),
        n_kept=tuple(n_kept.tolist()),
    )


def _check(tables: Sequence[ActiveRows]) -> None:
    check_same_width(*tables)
    for number, table in enumerate(tables, start=1):
        if not table.features.any():
            raise DataError(
                f"data set {number} activates none of the {int(table.relevant.sum())} relevant "
                "features, so its overlap is undefined; lower --threshold or leave it out"
            )
