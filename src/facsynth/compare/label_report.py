"""The classes of data sets: lengths, richness, coverage, and whether their labels agree."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64
from numpy.typing import NDArray

from facsynth.compare.labels import (
    Agreement,
    LabelledRows,
    agreement,
    labelled_rows,
    length_cosines,
)
from facsynth.compare.settings import LabelSettings
from facsynth.coverage.controls import length_auc
from facsynth.coverage.hidden import common_scale
from facsynth.coverage.representative import hellinger_distance
from facsynth.coverage.richness import expected_richness
from facsynth.data.pairs import pair_numbers
from facsynth.errors import DataError
from facsynth.show import TextTable, as_html
from facsynth.table.active import ActiveRows
from facsynth.table.columns import has_pairs, read_labels
from facsynth.table.firing import flag_rows
from facsynth.table.table import FeatureTable

__all__ = [
    "ClassMeasures",
    "LabelComparison",
    "LabelReport",
    "compare_labels",
    "label_tables",
    "measure_labels",
]

FEW = 20
"""Samples of a class below which its mean is too noisy for a direction."""

_CLASS_TITLES = {
    "hellinger": "closeness: Hellinger distance to the anchor's class (0 best)",
    "fac": "FAC of the anchor's class (1 best)",
    "n_samples": "samples",
    "mean_tokens": "mean tokens",
    "length_auc": "longer than the others (0.5 equal)",
    "length_cosine": "cosine of its direction with that of length",
    "n_seen": "features seen",
    "seen_at_equal_samples": "features seen at equal samples",
}

_SPACES = {"features": "active features", "hidden": "mean hidden states"}


@dataclass(frozen=True, slots=True)
class ClassMeasures:
    """One class of a data set."""

    name: str
    n_samples: int
    mean_tokens: float
    length_auc: float
    """Chance that a sample of this class is longer than one of the others, in [0, 1]; 0.5 is
    equal."""

    length_cosine: float
    """Cosine of the class's direction with that of longer texts; see `length_cosines`."""

    n_seen: int
    """Features that some sample of the class activates."""

    seen_at_equal_samples: float
    """Features expected in as many random samples as the smallest class has."""

    hellinger: float | None
    """Distance to the firing rates of the anchor's samples of this class (0 best); None without
    an anchor, and when one side activates nothing."""

    fac: float | None
    """Share of the features of the anchor's samples of this class that are covered by this class;
    None without an anchor, and when the anchor's class activates nothing."""


@dataclass(frozen=True, slots=True)
class LabelReport:
    """The label side of one data set."""

    name: str
    classes: tuple[ClassMeasures, ...]
    reliability: float
    """Share of the direction that is not sampling noise; see `LabelledRows.reliability`."""

    n_pairs: int | None
    chosen_longer: float | None
    """Share of pairs whose chosen answer has more tokens, ties count half; None without pairs."""

    n_left_out: int
    """Samples without a label or without scored tokens."""

    agreement: Agreement | None
    """Of the direction with the anchor's; None without an anchor."""

    def tables(self) -> list[TextTable]:
        """Agreement and reliability of the direction, then the classes."""
        found, rows = self.agreement, []
        if found:
            rows += [
                ("agreement with the anchor's direction (1 best)", found.cosine),
                ("  95 % interval", f"{found.low:.3f} to {found.high:.3f}"),
                ("  the most that this noise allows", found.ceiling),
                ("  shuffled labels", f"{found.shuffled_low:.3f} to {found.shuffled_high:.3f}"),
            ]
        rows.append(("reliability of the direction (1 best)", self.reliability))
        if self.n_pairs is not None:
            rows += [("pairs", self.n_pairs), ("chosen is longer", self.chosen_longer)]
        classes = [
            (title, *(getattr(one, key) for one in self.classes))
            for key, title in _CLASS_TITLES.items()
        ]
        classes = [row for row in classes if set(row[1:]) != {None}]
        columns = ("measure", *(one.name for one in self.classes))
        return [
            TextTable(f"Labels of {self.name}", ("measure", "value"), rows),
            TextTable("Classes", columns, classes),
        ]

    @property
    def warnings(self) -> tuple[str, ...]:
        """Caveats of these labels; empty if there are none."""
        warnings, found = [], self.agreement
        furthest = max(self.classes, key=lambda one: abs(one.length_auc - 0.5))
        if abs(furthest.length_auc - 0.5) > 0.1:
            word = "longer" if furthest.length_auc > 0.5 else "shorter"
            chance = max(furthest.length_auc, 1 - furthest.length_auc)
            warnings.append(
                f"samples of {furthest.name!r} are {word} than the others in {chance:.0%} of all "
                "comparisons, so part of the direction is length"
            )
        if self.chosen_longer is not None and not 0.4 <= self.chosen_longer <= 0.6:
            warnings.append(
                f"the chosen answer is the longer one in {self.chosen_longer:.0%} of the pairs; a "
                "reward model can learn that alone"
            )
        if self.reliability < 0.5:
            warnings.append(
                f"only {self.reliability:.0%} of the direction is more than sampling noise; its "
                "cosines are low whatever the labels mean, so add samples"
            )
        few = [one.name for one in self.classes if one.n_samples < FEW]
        if few:
            warnings.append(f"fewer than {FEW} samples in: {', '.join(few[:5])}")
        if self.n_left_out:
            warnings.append(
                f"{self.n_left_out:,} samples without a label or without text were left out"
            )
        if found and found.shuffled_low <= found.cosine <= found.shuffled_high:
            warnings.append(
                f"the agreement ({found.cosine:.2f}) is what shuffled labels give "
                f"({found.shuffled_low:.2f} to {found.shuffled_high:.2f})"
            )
        if found and found.high < 0:
            warnings.append(
                f"the labels contradict the anchor's (cosine {found.cosine:.2f}); check that the "
                "same word means the same class in both"
            )
        return tuple(warnings)


@dataclass(frozen=True, eq=False)
class LabelComparison:
    """The labels of several data sets, and how far their directions agree."""

    sets: tuple[LabelReport, ...]
    names: tuple[str, ...]
    """Names of the sets, then of the anchor if there is one."""

    pairs: Mapping[tuple[int, int], Agreement]
    """Agreement of each pair of them, by position."""

    settings: LabelSettings
    threshold: float
    """δ, in SAE units."""

    @property
    def cosines(self) -> Float64[np.ndarray, "n_sets n_sets"]:
        """Cosines of the directions of every two sets."""
        found = np.eye(len(self.names))
        for (i, j), pair in self.pairs.items():
            found[i, j] = found[j, i] = pair.cosine
        return found

    @property
    def conflicts(self) -> tuple[str, ...]:
        """Messages on sets whose labels contradict each other."""
        return tuple(
            f"{self.names[i]} and {self.names[j]} contradict each other (cosine {p.cosine:.2f}, "
            f"{p.low:.2f} to {p.high:.2f}); training on both mixes opposite labels"
            for (i, j), p in self.pairs.items()
            if p.high < 0
        )

    @property
    def notes(self) -> tuple[str, ...]:
        """Caveats."""
        warnings = (f"{one.name}: {line}" for one in self.sets for line in one.warnings)
        return (*warnings, *self.conflicts)

    def row(self) -> dict[str, Any]:
        """One entry for each data set in `sets`, and the agreement of all pairs of sets."""
        return {
            "sets": [{**asdict(one), "warnings": list(one.warnings)} for one in self.sets],
            "names": list(self.names),
            "cosines": self.cosines.tolist(),
            "pairs": [
                {"a": self.names[i], "b": self.names[j], **asdict(pair)}
                for (i, j), pair in self.pairs.items()
            ],
            "conflicts": list(self.conflicts),
            "space": self.settings.space,
            "threshold": self.threshold,
        }

    def tables(self) -> Sequence[TextTable]:
        """The matrix of cosines, then each data set."""
        found = []
        if len(self.names) > 1:
            title = f"Agreement of label directions (cosine, {_SPACES[self.settings.space]})"
            rows = [
                (name, *cosines)
                for name, cosines in zip(self.names, self.cosines.tolist(), strict=True)
            ]
            found = [TextTable(title, ("", *self.names), rows)]
        found += [table for one in self.sets for table in one.tables()]
        note = (
            "Cosines near 1: the labels mean the same; near 0: unrelated; below 0: contradictory. "
            "`fac select --objective direction` keeps the direction in fewer samples."
        )
        return [*found[:-1], replace(found[-1], note=note)]

    _repr_html_ = as_html


def label_tables(
    tables: Sequence[FeatureTable],
    active: Sequence[ActiveRows],
    settings: LabelSettings,
    *,
    renames: Mapping[str, str] | None = None,
) -> list[LabelledRows]:
    """Rows with the classes that the samples of feature tables have.

    Args:
        tables: The tables, all of the same features.
        active: Their active rows, with hidden states where the space is `hidden`.
        settings: What the vectors hold.
        renames: New names of classes, so that sources with other words compare.

    Raises:
        DataError: A table has fewer than two classes, or the chosen answers of pairs only.
    """
    scale = common_scale(active)
    found = []
    for table, rows in zip(tables, active, strict=True):
        given = read_labels(table)
        if not any(given) and has_pairs(table):
            raise DataError(
                f"{table.folder} holds the chosen answers of preference pairs only; extract the "
                "data again with --both-answers"
            )
        pairs = pair_numbers(rows.sample_ids, given)
        named = [(renames or {}).get(label, label) if label else label for label in given]
        try:
            one = labelled_rows(rows, named, pair_ids=pairs, space=settings.space, scale=scale)
        except DataError as error:
            raise DataError(f"{table.folder}: {error}") from error
        found.append(one)
    return found


def compare_labels(
    sets: Sequence[LabelledRows],
    settings: LabelSettings,
    *,
    names: Sequence[str],
    anchor: LabelledRows | None = None,
) -> LabelComparison:
    """Measure the labels of data sets, and the agreement of every two of their directions.

    Args:
        sets: Data sets with the same classes.
        settings: Resamples behind the intervals.
        names: Names of the sets, then of the anchor if there is one.
        anchor: The target, with the same classes.

    Raises:
        MismatchError: Classes or features differ.
    """
    rng = np.random.default_rng(settings.random_seed)

    def agree(one: LabelledRows, other: LabelledRows) -> Agreement:
        return agreement(one, other, n_resamples=settings.resamples, rng=rng)

    reports = tuple(
        measure_labels(one, name, anchor=anchor, found=agree(one, anchor) if anchor else None)
        for name, one in zip(names, sets, strict=False)
    )
    every = [*sets, anchor] if anchor else list(sets)
    pairs = {(i, j): agree(every[i], every[j]) for i, j in combinations(range(len(every)), 2)}
    return LabelComparison(reports, tuple(names), pairs, settings, sets[0].active.threshold)


def measure_labels(
    rows: LabelledRows,
    name: str,
    *,
    anchor: LabelledRows | None = None,
    found: Agreement | None = None,
) -> LabelReport:
    """Lengths, richness and coverage of each class; relevant features count."""
    counts = [_class_counts(rows, c) for c in range(len(rows.names))]
    smallest = int(rows.sizes().min())
    leaning = length_cosines(rows)
    classes = []
    for c, class_name in enumerate(rows.names):
        inside = rows.class_ids == c
        expected = expected_richness(counts[c], int(inside.sum()), np.array([smallest]))
        distance, share = _against(counts[c], _class_counts(anchor, c)) if anchor else (None, None)
        classes.append(
            ClassMeasures(
                name=class_name,
                n_samples=int(inside.sum()),
                mean_tokens=float(rows.n_tokens[inside].mean()),
                length_auc=length_auc(rows.n_tokens[inside], rows.n_tokens[~inside]),
                length_cosine=float(leaning[c]),
                n_seen=int(np.count_nonzero(counts[c])),
                seen_at_equal_samples=float(expected[0]),
                hellinger=distance,
                fac=share,
            )
        )
    return LabelReport(
        name=name,
        classes=tuple(classes),
        reliability=rows.reliability(),
        n_pairs=None if rows.pair_ids is None else rows.class_ids.size // 2,
        chosen_longer=_chosen_longer(rows),
        n_left_out=rows.n_left_out,
        agreement=found,
    )


def _class_counts(rows: LabelledRows, class_id: int) -> Int64[np.ndarray, " n_features"]:
    """Samples of one class that activate each feature."""
    chosen = flag_rows(rows.active.n_samples, rows.rows[rows.class_ids == class_id])
    counts: NDArray[np.int64] = rows.active.firing.sum_samples([chosen])[0].astype(np.int64)
    return counts


def _against(
    counts: Int64[np.ndarray, " n_features"], target: Int64[np.ndarray, " n_features"]
) -> tuple[float | None, float | None]:
    if not target.any():
        return None, None
    share = int(np.count_nonzero((target > 0) & (counts > 0))) / int(np.count_nonzero(target))
    return (hellinger_distance(counts, target) if counts.any() else None), share


def _chosen_longer(rows: LabelledRows) -> float | None:
    if rows.pair_ids is None:
        return None
    order = np.lexsort((rows.class_ids, rows.pair_ids))
    chosen, rejected = rows.n_tokens[order[::2]], rows.n_tokens[order[1::2]]
    return float((chosen > rejected).mean() + 0.5 * (chosen == rejected).mean())
