"""Which features fire more in one data set than in another, with tests at equal text length.

Longer texts activate more features, so two sets of different length differ in almost every
feature. By default samples are therefore compared within deciles of the pooled lengths (Cochran,
Mantel and Haenszel).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import blake2b
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64
from numpy.typing import NDArray
from scipy.stats import false_discovery_control

from facsynth.compare.settings import DiffSettings
from facsynth.compare.stratified import (
    N_STRATA,
    Strata,
    common_odds,
    length_strata,
    stratified_test,
)
from facsynth.coverage.controls import length_auc
from facsynth.errors import DataError
from facsynth.show import TextTable, as_html
from facsynth.table.active import ActiveRows, check_same_width

__all__ = ["Difference", "compare_features", "shared_texts"]

Z95 = 1.959963984540054


@dataclass(frozen=True, eq=False)
class Difference:
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
    """Length groups with samples of both sets; 1 without length groups."""

    n_compared: tuple[int, int]
    """Samples of each set in these groups; the others have no counterpart of their length."""

    n_samples: tuple[int, int]
    mean_tokens: tuple[float, float]
    threshold: float
    """δ, in SAE units."""

    settings: DiffSettings
    notes: tuple[str, ...]
    """Caveats."""

    sets: tuple[str, str] = ("A", "B")
    """Names of the two data sets."""

    names: Mapping[int, tuple[str, str | None]] = field(default_factory=dict)
    """Name and strongest example of features, where known."""

    def more_in(self, side: int) -> list[int]:
        """Positions of the features that fire more in a set (0 or 1), the strongest evidence first.

        Smallest p first, ties by the larger effect, then by id.
        """
        order = np.lexsort((self.feature_ids, -np.abs(self.log_odds), self.p_value))
        sign = 1 if side == 0 else -1
        wanted = (self.q_value <= self.settings.fdr) & (sign * self.log_odds > 0)
        return [int(i) for i in order if wanted[i]]

    def row(self) -> dict[str, Any]:
        """All features that differ, `more_in_a` and `more_in_b`; names for those shown."""
        sides = [[self._feature_row(i) for i in self.more_in(side)] for side in (0, 1)]
        return {
            **_by_set(self.sets),
            "n_samples": _by_set(self.n_samples),
            "mean_tokens": _by_set(self.mean_tokens),
            "n_tested": int(self.feature_ids.size),
            "n_different": self._n_different(),
            "n_length_groups": self.n_strata,
            "n_compared": _by_set(self.n_compared),
            "fdr": self.settings.fdr,
            "threshold": self.threshold,
            "more_in_a": sides[0],
            "more_in_b": sides[1],
            "warnings": list(self.notes),
        }

    def tables(self) -> Sequence[TextTable]:
        """Sizes and the count of different features, then the features of either side."""
        title = (
            f"{self._n_different():,} of {self.feature_ids.size:,} features differ at a false "
            f"discovery rate of {self.settings.fdr:g}, compared within {self.n_strata} length "
            "groups"
        )
        sizes = zip("AB", self.sets, self.n_samples, self.mean_tokens, strict=True)
        examples = [
            (str(feature), example) for feature, (_, example) in self.names.items() if example
        ]
        found = [
            TextTable(title, ("", "set", "samples", "mean tokens"), [*sizes]),
            *(self._side_table(side) for side in (0, 1)),
        ]
        if examples:
            found.append(TextTable("Examples", ("feature", "strongest example"), examples))
        note = (
            "A feature with log odds above 0 fires in a larger share of A's samples. "
            "`fac explain` says in words what these features mean."
        )
        return [*found[:-1], replace(found[-1], note=note)]

    _repr_html_ = as_html

    def _n_different(self) -> int:
        return int(np.count_nonzero(self.q_value <= self.settings.fdr))

    def _feature_row(self, i: int) -> dict[str, Any]:
        fields = ("n_a", "n_b", "log_odds", "low", "high", "p_value", "q_value")
        feature = int(self.feature_ids[i])
        name, example = self.names.get(feature, (None, None))
        values = {key: getattr(self, key)[i].item() for key in fields}
        return {"feature_id": feature, **values, "name": name, "example": example}

    def _side_table(self, side: int) -> TextTable:
        every = self.more_in(side)
        rows = [
            (
                str(one["feature_id"]),
                one["n_a"],
                one["n_b"],
                f"{one['log_odds']:+.2f}",
                f"{one['low']:+.1f} to {one['high']:+.1f}",
                f"{one['q_value']:.0e}",
                one["name"],
            )
            for one in map(self._feature_row, every[: self.settings.top])
        ]
        columns = ("feature", "in A", "in B", "log odds", "95 %", "q", "name")
        width = len(columns) - (not self.names)
        title = f"More in {'AB'[side]}: {len(every):,} features"
        title += f", first {self.settings.top}" if len(every) > self.settings.top else ""
        return TextTable(title, columns[:width], [row[:width] for row in rows])


def compare_features(
    a: ActiveRows, b: ActiveRows, settings: DiffSettings | None = None
) -> Difference:
    """Test every relevant feature for firing in different shares of two data sets.

    A test over length groups, or over one group of all lengths: Cochran-Mantel-Haenszel with
    continuity correction, or the exact test where a feature is rare. Samples count as independent,
    so copies make p too small.

    Args:
        a: The first set.
        b: The second set. Features that fire in neither are left out.
        settings: Whether to compare at equal lengths, and the rate of false discoveries.

    Raises:
        DataError: A set has no samples with text, no relevant feature fires, or no length group
            holds samples of both sets.
        MismatchError: The tables differ in their number of features.
    """
    settings = settings or DiffSettings()
    check_same_width(a, b)
    by_length = settings.length == "matched"
    every = _strata(a, b, by_length)
    ids = np.flatnonzero((every.x + every.y).any(axis=0))
    if not ids.size:
        raise DataError(
            "no relevant feature fires in either data set, so there is nothing to compare; lower "
            "--threshold"
        )
    strata = replace(every, x=every.x[:, ids], y=every.y[:, ids])
    p = stratified_test(strata)
    log_odds, error = common_odds(strata)
    n_compared = (int(strata.n_x.sum()), int(strata.n_y.sum()))
    lengths = [rows.n_tokens for rows in (a, b)]
    return Difference(
        feature_ids=ids,
        n_a=a.counts[ids],
        n_b=b.counts[ids],
        log_odds=log_odds,
        low=log_odds - Z95 * error,
        high=log_odds + Z95 * error,
        p_value=p,
        q_value=np.asarray(false_discovery_control(p)),
        n_strata=int(strata.n_x.size),
        n_compared=n_compared,
        n_samples=(a.n_samples, b.n_samples),
        mean_tokens=(float(lengths[0].mean()), float(lengths[1].mean())),
        threshold=a.threshold,
        settings=settings,
        notes=_length_notes(lengths, sum(n_compared), by_length),
    )


def shared_texts(sets: Sequence[Iterable[str]]) -> tuple[str, ...]:
    """Notes on texts that are in both data sets, and on copies within one."""
    n_texts, texts = 0, list[set[bytes]]()
    for of_set in sets:
        texts.append(set())
        for text in of_set:
            n_texts += 1
            texts[-1].add(blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest())
    notes = []
    if n_shared := len(texts[0] & texts[1]):
        notes.append(
            f"{n_shared:,} texts are in both sets, which hides differences; compare the rows that "
            "differ to see what changed"
        )
    if n_copies := n_texts - sum(map(len, texts)):
        notes.append(f"{n_copies:,} samples are copies within their set; p-values are too small")
    return tuple(notes)


def _by_set(values: tuple[Any, Any]) -> dict[str, Any]:
    return dict(zip("ab", values, strict=True))


def _length_notes(
    lengths: Sequence[NDArray[np.int64]], n_compared: int, by_length: bool
) -> tuple[str, ...]:
    notes = []
    auc = length_auc(lengths[0], lengths[1])
    if not by_length and not 0.4 <= auc <= 0.6:
        word = "longer" if auc > 0.5 else "shorter"
        notes.append(
            f"samples of A are {word} than those of B in {max(auc, 1 - auc):.0%} of all "
            "comparisons, and longer texts activate more features; use --length matched"
        )
    if n_lost := sum(one.size for one in lengths) - n_compared:
        notes.append(
            f"{n_lost:,} samples were left out: they have no text, or a length that the other set "
            "does not have"
        )
    return tuple(notes)


def _strata(a: ActiveRows, b: ActiveRows, by_length: bool) -> Strata:
    """Firing samples of each feature and all samples, of either set, in each shared group."""
    lengths = [rows.n_tokens for rows in (a, b)]
    for name, tokens in zip(("first", "second"), lengths, strict=True):
        if not (tokens > 0).any():
            raise DataError(f"the {name} data set has no sample with scored tokens")
    groups = length_strata(np.concatenate(lengths), n_strata=N_STRATA if by_length else 1)
    groups_a, groups_b = groups[: a.n_samples], groups[a.n_samples :]
    shared = np.intersect1d(groups_a[groups_a >= 0], groups_b[groups_b >= 0])
    if not shared.size:
        raise DataError(
            "the two data sets share no length: no group of similar lengths has samples of both; "
            "compare without length groups (--length none) and read the result as one of length"
        )
    return Strata(*_in_groups(a, groups_a, shared), *_in_groups(b, groups_b, shared))


def _in_groups(
    rows: ActiveRows, groups: Int64[np.ndarray, " n_samples"], shared: NDArray[np.int64]
) -> tuple[Int64[np.ndarray, "n_strata n_features"], Int64[np.ndarray, " n_strata"]]:
    members = [groups == group for group in shared]
    sizes = np.array([np.count_nonzero(member) for member in members], dtype=np.int64)
    return rows.firing.sum_samples(members).astype(np.int64), sizes
