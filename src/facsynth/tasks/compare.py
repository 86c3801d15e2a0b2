"""What folders of trained tasks reached, one row for each folder and evaluation.

It answers a question of transfer: does data that was written for one model's features help another
model as well? Each backbone trains in a folder of its own, on the same data.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facsynth.errors import DataError
from facsynth.show import TextTable, as_html
from facsynth.tasks.results import rows_table

__all__ = ["TaskComparison", "compare_runs"]


@dataclass(frozen=True)
class TaskComparison:
    """Scores of trained folders side by side."""

    rows: tuple[dict[str, Any], ...]
    """Each with `folder`, `task`, `model`, `data`, `measure`, `score`, `sd`, `simple` and
    `shuffled`; see `facsynth.tasks.results.Headline`."""

    def row(self) -> dict[str, Any]:
        """The rows under one key."""
        return {"rows": list(self.rows)}

    def tables(self) -> Sequence[TextTable]:
        """One table, without the folders."""
        return rows_table("Trained tasks", self.rows, *(k for k in self.rows[0] if k != "folder"))

    _repr_html_ = as_html


def compare_runs(folders: Sequence[Path]) -> TaskComparison:
    """Compare what `fac task … train` wrote, by every evaluation in it.

    Raises:
        DataError: A folder holds no task or no evaluation.
    """
    rows = []
    for folder in folders:
        if not (folder / "task.json").is_file():
            raise DataError(f"{folder} has no task.json; run `fac task … train -o {folder}` first")
        config = _read(folder / "task.json")
        files = sorted(folder.glob("evaluation-*.json"))
        if not files:
            raise DataError(
                f"{folder} has no evaluation; run `fac task {config['task']} evaluate` first"
            )
        for found in map(_read, files):
            rows.append(
                {
                    "folder": str(folder),
                    "model": Path(config["model"]).name,
                    "task": config["task"],
                    "data": Path(found["data"]).name,
                    **found["headline"],
                }
            )
    return TaskComparison(tuple(rows))


def _read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found
