"""The last stages: coverage before and after, files for other tools, the report, the manifest."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from facsynth import __version__
from facsynth.coverage.measure import measure_coverage
from facsynth.data.cards import data_card, read_run
from facsynth.data.export import export_samples
from facsynth.data.write import write_json
from facsynth.pipeline.state import Run
from facsynth.report.collect import make_report
from facsynth.report.page import write_report
from facsynth.report.paint import Painter
from facsynth.report.sets import Reader
from facsynth.report.sources import inputs_of_run
from facsynth.table.table import FeatureTable

__all__ = ["export", "finish", "measure", "report", "settle"]

Row = Mapping[str, Any]


def measure(
    run: Run, when: str, anchor: FeatureTable, parts: Sequence[FeatureTable], relevant: Any
) -> Row:
    """Coverage of the anchor by tables that together are the seed."""
    name = f"coverage/{when}.json"
    if not run.has(name):
        run.progress.say(f"coverage {when}: measuring, with controls")
        coverage = measure_coverage(anchor, parts, relevant=relevant, settings=run.recipe.coverage)
        write_json(coverage.row(), run.folder / name)
    return dict(run.read(name))


def settle(run: Run, before: Row) -> None:
    """Have the later stages take δ of the first coverage, where the recipe names none."""
    if before["threshold_rule"]:
        run.progress.say(f"threshold {before['threshold']:g}: {before['threshold_rule']}")
    run.recipe = run.recipe.at(before["threshold"])


def export(run: Run, written: Path) -> list[str]:
    """Folders with the samples in each form that the recipe asks for."""
    stage = run.recipe.export
    folders = []
    for form in stage.formats if stage else ():
        assert stage is not None
        folder = run.folder / "export" / form
        folders.append(str(folder))
        if folder.is_dir():
            continue
        everything = written.parent.name == "synthesize"
        rows, facts, _ = read_run(run.folder if everything else written, clean=stage.clean)
        done = export_samples(
            rows, folder, form, name=run.recipe.name, card=data_card(facts), clean=stage.clean
        )
        run.progress.say(f"export: {done.n_rows:,} samples as {form}")
        for reason, n in done.left_out.items():
            run.progress.say(f"export: {form} leaves out {n:,} {reason}")
    return folders


def report(run: Run, path: Path) -> None:
    """Write the report, its texts painted by the model."""
    reader = Reader(
        run.lm.tokenizer,
        run.sae.directions,
        Painter(run.lm, run.sae, run.recipe.extract.gate, run.progress),
    )
    inputs = inputs_of_run(run.folder).read_by(reader)
    write_report(make_report(inputs, progress=run.progress), path)


def finish(run: Run, row: Row, tables: Mapping[str, FeatureTable]) -> None:
    """Write the manifest, which says that the run is complete."""
    write_json(
        {
            "schema_version": 1,
            "facsynth_version": __version__,
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "recipe": asdict(run.recipe),
            "tables": {name: table.manifest.row() for name, table in tables.items()},
            "fac_before": row["before"]["fac"],
            "fac_after": row["after"]["fac"],
            "task": row["task"],
        },
        run.folder / "manifest.json",
    )
