"""What folders of trained tasks reached, one row for each folder and evaluation file.

The question behind it is transfer: does data that was written for one model's features help another
model as well? Each backbone trains in a folder of its own, on the same data.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from facsynth.errors import DataError

__all__ = ["MEASURES", "compare_runs"]

MEASURES = {
    "toxicity": ("auprc", "auprc_sd", "prevalence", "shuffled_auprc"),
    "reward": ("accuracy", "accuracy_sd", "longer_accuracy", "shuffled_accuracy"),
    "steering": ("scr", "scr_sd", "random_scr", "shuffled_scr"),
}
"""By task: the score, its standard deviation over seeds, what a rule that learns nothing reaches
(a constant, the longer answer, random vectors), and what training on shuffled labels reaches."""


def compare_runs(folders: Sequence[Path]) -> list[dict[str, Any]]:
    """Rows with `folder`, `task`, `model`, `data`, `measure`, `score`, `sd`, `simple`, `shuffled`.

    Args:
        folders: What `fac task … train` wrote, each with at least one evaluation.

    Raises:
        DataError: A folder holds no task, no evaluation, or a task that has no single score.
    """
    rows = []
    for folder in folders:
        config = _read(folder / "task.json", f"{folder} holds no task.json; train there first")
        task = config["task"]
        if task not in MEASURES:
            raise DataError(f"{folder} holds the task {task!r}; compared are {', '.join(MEASURES)}")
        files = sorted(folder.glob("evaluation-*.json"))
        if not files:
            raise DataError(f"{folder} was not evaluated; run `fac task {task} evaluate` first")
        for file in files:
            found = _read(file, f"{file} is gone")
            score, sd, simple, shuffled = MEASURES[task]
            rows.append(
                {
                    "folder": str(folder),
                    "task": task,
                    "model": Path(config["model"]).name,
                    "data": Path(found["data"]).name,
                    "measure": score,
                    "score": found[score],
                    "sd": found.get(sd),
                    "simple": found.get(simple),
                    "shuffled": found.get(shuffled),
                }
            )
    return rows


def _read(path: Path, missing: str) -> dict[str, Any]:
    if not path.is_file():
        raise DataError(missing)
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found
