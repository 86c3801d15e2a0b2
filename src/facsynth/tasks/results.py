"""What evaluating a task returns: one record for all tasks, which is shown, saved and compared."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64

from facsynth.data.write import write_json
from facsynth.show import TextTable, as_html
from facsynth.tasks.metrics import Estimate
from facsynth.tasks.settings import is_control

__all__ = [
    "Headline",
    "Items",
    "TaskResult",
    "by_part",
    "estimate_row",
    "mean_and_sd",
    "rows_table",
    "save_evaluation",
]


@dataclass(frozen=True)
class Headline:
    """The score of an evaluation and what it has to beat; rows of `fac task compare`."""

    measure: str
    score: float
    sd: float | None
    """Standard deviation over random seeds; None for a single one."""

    simple: float | None
    """What a rule without a model reaches: a constant, the longer answer, a random vector."""

    base: float | None
    """What the untrained model reaches, where it was asked."""

    shuffled: float | None
    """What training on shuffled labels reaches."""


@dataclass(frozen=True)
class Items:
    """What the main score of each model is made of, so that two trainings can be paired."""

    ids: tuple[str, ...]
    scores: Mapping[str, Float64[np.ndarray, " n_items"]]
    """By model, a number for each item, whose mean is the main score."""

    positive: Bool[np.ndarray, " n_items"] | None = None
    """Class of each item, where the main score is the AUPRC of the numbers."""

    def row(self) -> dict[str, Any]:
        """Plain values under the names of the fields."""
        scores = {name: found.tolist() for name, found in self.scores.items()}
        positive = None if self.positive is None else self.positive.tolist()
        return {"ids": list(self.ids), "scores": scores, "positive": positive}


@dataclass(frozen=True)
class TaskResult:
    """What the models of a task reach; `result["auprc"]` is a value of `row()`."""

    task: str
    measure: str
    """Key of the main score."""

    models: Sequence[dict[str, Any]]
    """Each with `model` and its scores; those trained on shuffled labels are `shuffled-…`."""

    items: Items
    values: Mapping[str, Any]
    """What else is measured, by its key."""

    titles: Mapping[str, str]
    """Keys that people see, by their titles."""

    base: dict[str, Any] | None = None
    """Scores of the untrained model, where it was asked."""

    simple: str | None = None
    """Key of what a rule without a model reaches."""

    near_copies: tuple[str, ...] = ()
    """Ids of evaluation samples that are near-copies of training samples."""

    parts: Sequence[TextTable] = ()
    """Tables of parts of the data."""

    note: str = ""
    """What people should know of a score that is absent."""

    def __getitem__(self, key: str) -> Any:
        """A value of `row()`."""
        return self.row()[key]

    def row(self) -> dict[str, Any]:
        """Means over random seeds with their deviations (`…_sd`), other values, and each model."""
        controls = [row[self.measure] for row in self.models if is_control(row["model"])]
        return {
            "task": self.task,
            **_means([row for row in self.models if not is_control(row["model"])]),
            f"shuffled_{self.measure}": float(np.mean(controls)) if controls else None,
            f"base_{self.measure}": (self.base or {}).get(self.measure),
            **self.values,
            "models": list(self.models),
            "base": self.base,
            "near_copies": list(self.near_copies),
        }

    def headline(self) -> Headline:
        """The main score, with what it has to beat."""
        row, name = self.row(), self.measure
        simple = row[self.simple] if self.simple else None
        others = (row[f"base_{name}"], row[f"shuffled_{name}"])
        return Headline(name, row[name], row[f"{name}_sd"], simple, *others)

    def tables(self) -> Sequence[TextTable]:
        """Measures, then parts of the data."""
        row, name = self.row(), self.measure
        titles = list(self.titles.items())
        titles[1:1] = [
            ("  standard deviation over random seeds", f"{name}_sd"),
            ("  of the untrained model", f"base_{name}"),
            ("  trained on shuffled labels", f"shuffled_{name}"),
        ]
        shown = [(title, row[key]) for title, key in titles if row[key] is not None]
        name = row.get("benchmark", self.task).capitalize()
        return [TextTable(name, ("measure", "value"), shown, self.note), *self.parts]

    _repr_html_ = as_html


def save_evaluation(
    folder: Path, data: str, result: TaskResult, read: Mapping[str, Any] | None = None
) -> None:
    """Keep a result in the folder of its task, for `fac task compare`, and what was read."""
    row = {"data": data, "read": read, "headline": asdict(result.headline()), **result.row()}
    path = folder / f"evaluation-{Path(data).name}.json"
    write_json(row | {"items": result.items.row()}, path)


def estimate_row(name: str, estimate: Estimate) -> dict[str, Any]:
    """A score and its interval, as they stand in the row of a model."""
    return {name: estimate.value, f"{name}_interval": [estimate.low, estimate.high]}


def mean_and_sd(values: Sequence[int | float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation, which is None for a single value."""
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return float(np.mean(values)), sd


def by_part(
    key: str, names: Sequence[str | None], values: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """Means of items by the part of the data that they belong to; nothing without parts."""
    of = np.array([name or "" for name in names])
    return [
        {
            key: str(name),
            "n": int((of == name).sum()),
            **{what: float(found[of == name].mean()) for what, found in values.items()},
        }
        for name in sorted({*of.tolist()} - {""})
    ]


def rows_table(title: str, rows: Sequence[Mapping[str, Any]], *keys: str) -> list[TextTable]:
    """A table of rows that share keys, or none without rows; all keys unless some are named."""
    if not rows:
        return []
    shown = keys or tuple(rows[0])
    return [TextTable(title, shown, [[row[key] for key in shown] for row in rows])]


def _means(models: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Mean and deviation of every number; None where a model lacks it."""
    found: dict[str, Any] = {}
    for key, first in models[0].items():
        if isinstance(first, str | list):
            continue
        values = [row[key] for row in models]
        if None in values:
            found |= {key: None, f"{key}_sd": None}
            continue
        mean, found[f"{key}_sd"] = mean_and_sd(values)
        found[key] = first if values == [first] * len(values) else mean  # counts stay whole
    return found
