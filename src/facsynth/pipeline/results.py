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
from facsynth.report.collect import collect_report
from facsynth.report.page import write_report
from facsynth.table.table import FeatureTable

__all__ = ["export", "finish", "measure", "report"]

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


def report(run: Run, path: Path, rows: Sequence[Row], anchor: FeatureTable, n_seed: int) -> None:
    """Write the report.

    Args:
        run: The run.
        path: The page.
        rows: `Coverage.row` before and after.
        anchor: Table of the anchor.
        n_seed: Samples of the seed.
    """
    recipe, source = run.recipe, anchor.manifest.source
    facts = (
        ("Model", source.model_name),
        ("SAE", f"{source.sae_name} ({source.n_features:,} features, layer {source.layer})"),
        ("Scored", {"all": "all messages"}.get(source.score, f"{source.score} messages")),
        ("Threshold δ", f"{recipe.synthesize.threshold:g}"),
        ("Anchor", f"{recipe.anchor.name}, {anchor.manifest.n_samples:,} samples"),
        ("Seed", f"{recipe.seed.name}, {n_seed:,} samples"),
        ("facsynth", __version__),
        ("Date", datetime.now(UTC).date().isoformat()),
    )
    before, after = map(dict, rows)
    write_report(collect_report(run.folder, recipe.name, facts, before, after), path)


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
