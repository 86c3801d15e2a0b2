"""Runs a recipe stage by stage in one folder; run again, it does only what is not done.

```
RUN/recipe.json      what was asked for
RUN/anchor/ seed/    feature tables
RUN/explain/         explanations.jsonl, where the recipe has a table for it
RUN/relevance/       relevance.jsonl
RUN/coverage/        before.json, topics.jsonl, missing.jsonl, after.json
RUN/synthesize/      synthetic.jsonl, table/, summary.json, replies.sqlite, round-*/
RUN/select/          selected.jsonl
RUN/export/          a folder for each form
RUN/task/            data/, a folder for each arm
RUN/report.html      what came of it
RUN/manifest.json    versions, hashes, numbers; written last
```
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facsynth.folders import hold_folder
from facsynth.pipeline.features import explain, judge, name_missing, prepare
from facsynth.pipeline.results import export, finish, measure, report, settle
from facsynth.pipeline.state import Run
from facsynth.pipeline.synthesis import choose, synthesize
from facsynth.pipeline.tables import check, claim, extract
from facsynth.pipeline.task import train_and_test
from facsynth.progress import SILENT, Progress
from facsynth.recipe import Recipe, read_recipe
from facsynth.show import TextTable, as_html

__all__ = ["RunResult", "run_recipe", "run_stages"]

Row = Mapping[str, Any]

_SUBSETS = (
    ("  random anchor subset of that size", "random_subset"),
    ("  and of matched lengths", "length_matched"),
)


@dataclass(frozen=True)
class RunResult:
    """Where a run went and what it found."""

    folder: Path
    before: Row
    """`Coverage.row` of the seed."""

    after: Row
    """`Coverage.row` of the seed with the synthetic samples."""

    n_synthetic: int
    report: Path
    exported: Sequence[str] = ()
    """Folders with the samples in other forms."""

    task: Row | None = None
    """Headline scores of each arm, where the recipe has a task."""

    def row(self) -> dict[str, Any]:
        """The numbers of the run under stable keys."""
        return {
            "run": str(self.folder),
            "n_synthetic": self.n_synthetic,
            "before": self.before,
            "after": self.after,
            "report": str(self.report),
            "exported": list(self.exported),
            "task": self.task,
        }

    def tables(self) -> Sequence[TextTable]:
        """Coverage before and after, with its controls."""
        both = self.before, self.after
        rows = [
            ("closeness: Hellinger distance (0 best)", *map(_distance, both)),
            (_SUBSETS[0][0], *(row["controls"]["random_hellinger"] for row in both)),
            ("FAC (1 best)", *(row["fac"] for row in both)),
            *((words, *(_drawn(row, name) for row in both)) for words, name in _SUBSETS),
            ("covered features", *(row["n_covered"] for row in both)),
            ("missing features", *(row["n_missing"] for row in both)),
            ("samples", *(row["n_samples"]["seed"] for row in both)),
            ("scored tokens", *(row["n_tokens"]["seed"] for row in both)),
        ]
        found = [TextTable(f"Run {self.folder}", ("", "seed", "seed + synthetic"), rows)]
        if self.task:
            keys = ("score", "sd", "simple", "shuffled")
            arms = [(arm, *(one[key] for key in keys)) for arm, one in self.task.items()]
            measure = next(iter(self.task.values()))["measure"]
            columns = ("trained on", measure, "sd", "simple rule", "shuffled labels")
            found.append(TextTable("Task", columns, arms))
        return found

    _repr_html_ = as_html


def _distance(row: Row) -> float | None:
    close = row["representativeness"]
    return close["hellinger"] if close else None


def _drawn(row: Row, name: str) -> float | None:
    draws = row["controls"][name]
    return draws["mean"] if draws else None


def run_recipe(
    path: str | Path, folder: str | Path | None = None, *, progress: Progress = SILENT
) -> RunResult:
    """Run all stages of a recipe.

    Args:
        path: The recipe.
        folder: Run folder; `runs/NAME` by default. One that holds a part of this run is resumed.
        progress: Where bars and lines go.

    Raises:
        DataError: Another process runs into the folder.
        MismatchError: The folder holds a run of another recipe.
        FacsynthError: Any error of a stage.
    """
    recipe = read_recipe(path)
    return run_stages(Run(recipe, _folder(recipe, folder), progress))


def _folder(recipe: Recipe, folder: str | Path | None) -> Path:
    return Path(folder) if folder else Path("runs") / recipe.name


def run_stages(run: Run) -> RunResult:
    """Run the stages of a run that is set up, alone in its folder; errors as in `run_recipe`."""
    with hold_folder(run.folder):
        return _stages(run)


def _stages(run: Run) -> RunResult:
    claim(run)
    check(run)
    anchor, seed = extract(run, "anchor"), extract(run, "seed")
    prepare(run, anchor, seed)
    described = explain(run, anchor)
    relevant = judge(run, anchor, described)
    before = measure(run, "before", anchor, [seed], relevant)
    settle(run, before)
    name_missing(run, anchor, seed, relevant)
    synthetic = synthesize(run, anchor, seed, relevant, described)
    after = measure(run, "after", anchor, [seed, synthetic], relevant)
    page, n_written = run.folder / "report.html", synthetic.manifest.n_samples
    written = choose(run, anchor, seed, synthetic, relevant) if n_written else None
    result = RunResult(
        *(run.folder, before, after, n_written, page),
        exported=export(run, written) if written else (),
        task=train_and_test(run, written),
    )
    if not run.has("manifest.json"):
        report(run, page)
        finish(run, result.row(), {"anchor": anchor, "seed": seed, "synthetic": synthetic})
    return result
