"""What folders of trained tasks reached, and by how much each differs from a reference.

The rows are arms that share a task and evaluation data: other training data, methods or backbones.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from facsynth.compare.paired import paired_differences
from facsynth.data.stored import read_json
from facsynth.errors import DataError
from facsynth.show import TextTable, as_html
from facsynth.tasks.metrics import auprc
from facsynth.tasks.settings import is_control

__all__ = ["TaskComparison", "compare_runs"]

_SCORES_NOTE = (
    "±: standard deviation over random seeds; rule: reached without a model; shuffled: after "
    "training on shuffled labels."
)
_NOTE = (
    "To the reference, on the same items; the interval is over random seeds and items, and one "
    "that holds 0 shows no difference."
)


@dataclass(frozen=True)
class TaskComparison:
    """Scores of trained folders side by side."""

    rows: tuple[dict[str, Any], ...]
    """Each with `folder`, `task`, `model`, `data`, the fields of
    `facsynth.tasks.results.Headline`, and `reference`, `difference`, `low`, `high` and `n_items`,
    which are None where there is no reference."""

    def row(self) -> dict[str, Any]:
        """The rows under one key."""
        return {"rows": list(self.rows)}

    def tables(self) -> Sequence[TextTable]:
        """Scores, then differences, for each task and evaluation data; folders by last names."""
        groups: dict[str, list[dict[str, Any]]] = {}
        for row in self.rows:
            groups.setdefault(f"{row['task']} on {row['data']}", []).append(row)
        tables = []
        for title, rows in groups.items():
            tables.append(_table(f"{title}: {rows[0]['measure']}", rows, _scores, _SCORES_NOTE))
            if any(row["difference"] is not None for row in rows):
                tables.append(_table(f"{title}: differences", rows, _differences, _NOTE))
        return tables

    _repr_html_ = as_html


def _table(
    title: str,
    rows: Sequence[dict[str, Any]],
    cells: Callable[[dict[str, Any]], dict[str, object]],
    note: str,
) -> TextTable:
    """What `cells` makes of each row; a column that would be empty is left out."""
    several = len({row["model"] for row in rows}) > 1
    made = [
        {
            "folder": Path(row["folder"]).name,
            "model": row["model"] if several else None,
            **cells(row),
        }
        for row in rows
    ]
    kept = [key for key in made[0] if any(row[key] is not None for row in made)]
    return TextTable(title, kept, [[row[key] for key in kept] for row in made], note)


def _scores(row: dict[str, Any]) -> dict[str, object]:
    score = f"{row['score']:.3f}" + ("" if row["sd"] is None else f" ± {row['sd']:.3f}")
    others = {"untrained": row["base"], "rule": row["simple"], "shuffled": row["shuffled"]}
    return {"score": score, **others}


def _differences(row: dict[str, Any]) -> dict[str, object]:
    if row["difference"] is None:
        return dict.fromkeys(("difference", "95 % interval", "items"))
    return {
        "difference": f"{row['difference']:+.3f}",
        "95 % interval": f"{row['low']:+.3f} to {row['high']:+.3f}",
        "items": row["n_items"],
    }


def compare_runs(folders: Sequence[Path], *, reference: str | None = None) -> TaskComparison:
    """Compare what `fac task … evaluate` wrote, by every evaluation in the folders.

    Args:
        folders: Folders of any task; ready responses (`--responses`) are one as well.
        reference: The folder that others with the same task and evaluation data are compared with,
            or `base` for the untrained model of each; the first folder when None.

    Raises:
        DataError: A folder holds no evaluation, or the reference is none of the folders.
    """
    names = [str(folder) for folder in folders]
    reference = names[0] if reference is None else reference
    if reference not in ("base", *names):
        raise DataError(f"--reference {reference} is none of the folders, nor `base`")
    found = [one for folder in folders for one in _evaluations(folder)]
    return TaskComparison(
        tuple(
            {
                **{key: one[key] for key in ("folder", "task", "model", "data")},
                **one["headline"],
                **_difference(one, found, reference),
            }
            for one in found
        )
    )


def _evaluations(folder: Path) -> list[dict[str, Any]]:
    """The evaluations in a folder, with the names of the folder, the model and the data."""
    known, files = folder / "task.json", sorted(folder.glob("evaluation-*.json"))
    config = read_json(known) if known.is_file() else {"task": "…", "model": "responses"}
    if not files:
        if not known.is_file():
            raise DataError(f"{folder} has no task.json; run `fac task … train -o {folder}` first")
        raise DataError(
            f"{folder} has no evaluation; run `fac task {config['task']} evaluate` first"
        )
    names = {"folder": str(folder), "model": Path(config["model"]).name}
    rows = map(read_json, files)
    return [{**row, **names, "data": Path(row["data"]).name} for row in rows]


def _difference(
    one: dict[str, Any], found: Sequence[dict[str, Any]], reference: str
) -> dict[str, Any]:
    """How far an evaluation lies from the reference, on the items that both have."""
    absent = dict.fromkeys(("reference", "difference", "low", "high", "n_items"))
    arm, theirs = _seeds(one, base=False), _seeds(one, base=True)
    if reference != "base":
        same = ("task", "data")
        others = [
            o for o in found if o["folder"] == reference and all(o[k] == one[k] for k in same)
        ]
        theirs = _seeds(others[0], base=False) if others and one["folder"] != reference else {}
    shared = [key for key in arm if key in theirs]
    if not shared:
        return absent
    scores = {
        name: np.array([side[key]["scores"] for key in shared]).T
        for name, side in (("arm", arm), (reference, theirs))
    }
    positive = None if one["items"]["positive"] is None else [arm[k]["positive"] for k in shared]
    [record] = paired_differences(
        scores,
        reference,
        measure=None if positive is None else partial(auprc, np.array(positive)),
        strata=None if positive is None else np.array(positive, dtype=np.int64),
    )
    values = asdict(record)
    return {
        "reference": reference,
        "difference": values["mean"],
        **{key: values[key] for key in ("low", "high", "n_items")},
    }


def _seeds(evaluation: dict[str, Any], *, base: bool) -> dict[tuple[str, int], dict[str, Any]]:
    """By item, its class and what it adds to the score of each random seed, or of the base."""
    items = evaluation["items"]
    wanted = [
        scores
        for name, scores in items["scores"].items()
        if (name == "base") == base and not is_control(name)
    ]
    if not wanted:
        return {}
    seen: Counter[str] = Counter()
    found = {}
    classes = items["positive"] or [None] * len(items["ids"])
    for name, positive, *scores in zip(items["ids"], classes, *wanted, strict=True):
        found[name, seen[name]] = {"positive": positive, "scores": scores}
        seen[name] += 1
    return found
