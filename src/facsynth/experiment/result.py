"""What came of an experiment: one row for each arm, size, task and backbone, and what they show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from facsynth.coverage.threshold import ChosenThreshold
from facsynth.show import TextTable, as_html

__all__ = ["ExperimentResult"]

_MEASURES = {
    "fac_gain": "FAC gain",
    "closeness": "closeness",
    "fill_rate": "fill rate",
    "novelty": "novelty",
    "words": "words",
    "tokens": "tokens written",
}


@dataclass(frozen=True)
class ExperimentResult:
    """Scores of all arms with their paired differences to the reference."""

    name: str
    folder: Path
    reference: str
    rows: tuple[Mapping[str, Any], ...]
    """One for each `task`, `backbone`, `view` (`samples` or `tokens`), `size` and `arm`: `score`
    and `sd` over random seeds, `difference` to the reference with `low` and `high` (95 %), the same
    after training on shuffled labels (`shuffled`, `shuffled_low`, `shuffled_high`), `n_samples`,
    `fac_gain`, `closeness`, `fill_rate`, `novelty`, `words`, `length_auc`, and `calls`, `tokens`,
    `cost` and `seconds` of a random seed, in proportion to the samples used."""

    spent: Mapping[str, Any]
    """`calls`, `tokens`, `cost` and `seconds` of all arms together."""

    threshold: ChosenThreshold
    """δ of all measures, and how it was chosen."""

    notes: tuple[str, ...] = ()
    """What is missing, such as arms with too few samples."""

    def row(self) -> dict[str, Any]:
        """The rows, what was spent and what was shown under stable keys."""
        return {
            "experiment": self.name,
            "folder": str(self.folder),
            "reference": self.reference,
            "rows": [dict(row) for row in self.rows],
            "spent": dict(self.spent),
            **self.threshold.row(),
            "shown": self.shown,
            "notes": list(self.notes),
        }

    @property
    def shown(self) -> str:
        """What was shown and what was not, in one line."""
        compared = [r for r in self.rows if r["low"] is not None and r["size"]]
        above = [r for r in compared if r["low"] > 0]
        below = [r for r in compared if r["high"] < 0]
        false = [r for r in above if not r["shuffled_low"] <= 0 <= r["shuffled_high"]]
        n = len(compared)
        if not n:
            return "Nothing was compared: no task, or nothing beside the reference."
        said = [
            f"Of {n} comparisons with {self.reference}, {len(above)} are shown to be better "
            f"({_named(above)}), {len(below)} worse ({_named(below)}), and {n - len(above)}"
            f" not better; with 95 % intervals about {n * 0.025:.1f} of {n} would be on each side "
            "by chance."
        ]
        if false:
            said.append(
                f"Of those shown to be better {len(false)} differ after training on shuffled "
                f"labels, too; take these as noise ({_named(false)})."
            )
        n_seeds = min(r["n_seeds"] for r in compared)
        if n_seeds < 5:
            said.append(
                f"Random seeds of the writers: {n_seeds}, which is few: the intervals see little "
                "of how much writers vary."
            )
        return " ".join(said)

    def tables(self) -> Sequence[TextTable]:
        """For each task, backbone and view the scores, then what the added samples are."""
        groups = groupby(self.rows, key=lambda r: (r["task"], r["backbone"], r["view"]))
        tables = [t for key, rows in groups for t in self._tables(*key, list(rows)) if t.rows]
        spent = [(name, value) for name, value in self.spent.items()]
        return [*tables, TextTable("Spent by all arms", ("what", "amount"), spent, self.shown)]

    _repr_html_ = as_html

    def _tables(
        self, task: str | None, backbone: str, view: str, rows: Sequence[Mapping[str, Any]]
    ) -> tuple[TextTable, TextTable]:
        """Each at most 80 columns wide with short names of arms."""
        title = f"{task} ({rows[0]['measure']}), {backbone}, equal {view}"
        columns = ("size", "arm", "score", "sd", f"− {self.reference}", "95 %")
        scores = [
            (
                *(row[name] for name in ("size", "arm", "score", "sd")),
                _signed(row["difference"]),
                _interval(row),
            )
            for row in rows
            if row["task"]
        ]
        added = [
            (row["size"], row["arm"], *(row[name] for name in _MEASURES))
            for row in rows
            if row["words"] is not None
        ]
        return (
            TextTable(title, columns, scores),
            TextTable("What these samples are", ("size", "arm", *_MEASURES.values()), added),
        )


def _named(rows: Sequence[Mapping[str, Any]]) -> str:
    """Arms with their sizes: `cover at 12, 24; undirected at 12`."""
    sizes: dict[str, list[str]] = {}
    for row in rows:
        size = f"{row['size']:,}" + (" tokens" if row["view"] == "tokens" else "")
        sizes.setdefault(row["arm"], []).append(size)
    named = [f"{arm} at {', '.join(dict.fromkeys(at))}" for arm, at in sizes.items()]
    return "; ".join(named) or "none"


def _signed(value: float | None) -> str | None:
    return None if value is None else f"{value:+.3f}"


def _interval(row: Mapping[str, Any]) -> str | None:
    if row["low"] is None:
        return None
    return f"{row['low']:+.3f} to {row['high']:+.3f}"
