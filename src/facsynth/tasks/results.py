"""What results of tasks share: the headline score, and where they are saved."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from facsynth.data.write import write_json
from facsynth.show import Result, TextTable

__all__ = [
    "Headline",
    "TaskResult",
    "by_part",
    "mean_and_sd",
    "rows_table",
    "save_evaluation",
    "values_table",
]


@dataclass(frozen=True)
class Headline:
    """The score of an evaluation and what it has to beat; rows of `fac task compare`."""

    measure: str
    score: float
    sd: float | None
    """Standard deviation over random seeds; None for a single one."""

    simple: float | None
    """What a rule that learns nothing reaches: a constant, the longer answer, the base model."""

    shuffled: float | None
    """What training on shuffled labels reaches."""


class TaskResult(Result, Protocol):
    """What evaluating a trained task returns."""

    @property
    def near_copies(self) -> tuple[str, ...]:
        """Ids of evaluation samples that are near-copies of training samples."""

    def headline(self) -> Headline:
        """The main score, with what it has to beat."""


def save_evaluation(folder: Path, data: str, result: TaskResult) -> None:
    """Keep a result in the folder of its task, for `fac task compare`."""
    row = {"data": data, "headline": vars(result.headline()), **result.row()}
    write_json(row, folder / f"evaluation-{Path(data).name}.json")


def mean_and_sd(values: Sequence[int | float]) -> tuple[float, float | None]:
    """Mean and sample standard deviation, which is None for a single value."""
    sd = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return float(np.mean(values)), sd


def by_part(
    key: str, names: Sequence[str | None], values: Mapping[str, Any]
) -> tuple[dict[str, Any], ...]:
    """Means of items by the part of the data that they belong to; nothing without parts.

    Args:
        key: What a part is called.
        names: Part of each item; None for none.
        values: Arrays with a number for each item, by their names.
    """
    of = np.array([name or "" for name in names])
    return tuple(
        {
            key: str(name),
            "n": int((of == name).sum()),
            **{what: float(found[of == name].mean()) for what, found in values.items()},
        }
        for name in sorted({*of.tolist()} - {""})
    )


def values_table(title: str, row: Mapping[str, Any], titles: Mapping[str, str]) -> TextTable:
    """Values of a row under titles for people: key by title."""
    return TextTable(
        title, ("measure", "value"), [(name, row[key]) for name, key in titles.items()]
    )


def rows_table(title: str, rows: Sequence[Mapping[str, Any]], *keys: str) -> list[TextTable]:
    """A table of rows that share keys, or none without rows; all keys unless some are named."""
    if not rows:
        return []
    shown = keys or tuple(rows[0])
    return [TextTable(title, shown, [[row[key] for key in shown] for row in rows])]
