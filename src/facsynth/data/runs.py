"""What an export takes from a finished run: the samples, and the facts for their data card."""

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from facsynth.data.cards import CardFacts
from facsynth.data.export import TASK_FIELDS, Row
from facsynth.data.read import open_samples
from facsynth.data.report import ReadReport
from facsynth.data.settings import ReadSettings
from facsynth.errors import DataError

__all__ = ["read_run"]


def read_run(
    source: str | Path,
    settings: ReadSettings | None = None,
    *,
    name: str | None = None,
    clean: bool = False,
    sensitive: bool = False,
) -> tuple[list[Row], CardFacts, ReadReport]:
    """Read samples and facts, and say what was read.

    Args:
        source: A run folder of `fac run`, an output folder of `fac synthesize`, or what
            `read_samples` takes.
        settings: How rows are read.
        name: Name of the data set; that of the recipe, the folder or the file by default.
        clean: Whether provenance will be left out.
        sensitive: Whether the card is to warn; it does for a run of a sensitive task in any case.

    Raises:
        DataError: There is no finished synthesis, or a row is no sample.
    """
    settings = settings or ReadSettings()
    path = Path(source)
    run = path if (path / "synthesize").is_dir() else None
    folder = path / "synthesize" if run else path
    if not run and not (folder / "summary.json").is_file():
        rows, report = _read_rows(source, settings)
        shown = name or (path.resolve().name if path.is_dir() else path.name.partition(".")[0])
        return rows, CardFacts(shown, len(rows), not clean, sensitive=sensitive), report
    if not (folder / "summary.json").is_file():
        raise DataError(
            f"{source} holds no finished synthesis (no {folder.name}/summary.json); let `fac run` "
            "end first, or pass a file"
        )
    rows, report = _read_rows(folder / "synthetic.jsonl", settings)
    facts = _facts(folder, run, rows, name=name, clean=clean, sensitive=sensitive)
    return rows, facts, report


def _read_rows(source: str | Path, settings: ReadSettings) -> tuple[list[Row], ReadReport]:
    stream = open_samples(source, settings)
    rows = []
    for placed, reading in stream.rows():
        held = placed.value if isinstance(placed.value, Mapping) else {}
        provenance = held.get("provenance")
        fields = {name: held[name] for name in TASK_FIELDS if held.get(name) is not None}
        origin = provenance if isinstance(provenance, Mapping) else None
        rows.append(Row(reading.sample, origin, fields))
    return rows, stream.report


def _facts(
    folder: Path,
    run: Path | None,
    rows: list[Row],
    *,
    name: str | None,
    clean: bool,
    sensitive: bool,
) -> CardFacts:
    summary, plan = _read(folder / "summary.json"), _read(folder / "plan.json")
    recipe = _read(run / "recipe.json") if run else {}
    before, after = ({}, {})
    if run:
        before, after = (_read(run / "coverage" / f"{when}.json") for when in ("before", "after"))
    pair = (before, after)
    fac = (before["fac"], after["fac"]) if all("fac" in row for row in pair) else summary.get("fac")
    near = [row.get("representativeness") for row in pair]
    distances = [row["hellinger"] for row in near if row]
    filled = summary["n_missing"] - summary["n_filled"]
    return CardFacts(
        name=name or recipe.get("name") or folder.resolve().name,
        n_rows=len(rows),
        has_provenance=not clean,
        command=f"fac run {shlex.quote(recipe['name'] + '.toml')}" if recipe else "",
        generator=summary["generator"],
        anchor=_source(recipe, "anchor"),
        seed=_source(recipe, "seed"),
        model=plan.get("source", {}).get("model_name", ""),
        form=plan.get("settings", {}).get("form", ""),
        prompt_version=str(plan.get("prompt_version", "")),
        fac=(fac[0], fac[1]) if fac else None,
        n_missing=(summary["n_missing"], filled),
        hellinger=(distances[0], distances[1]) if len(distances) == 2 else None,
        outcomes=summary["outcomes"],
        sensitive=sensitive or summary.get("sensitive", False),
    )


def _source(recipe: Mapping[str, Any], name: str) -> str:
    """Name of a data source, without the folders of whoever ran it."""
    source = str(recipe.get(name, {}).get("source", ""))
    return Path(source).name if source.startswith(("/", "~", ".")) else source


def _read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}
