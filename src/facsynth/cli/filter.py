"""`fac filter`."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from facsynth.cli.from_settings import settings_options
from facsynth.cli.options import json_option, threshold_option
from facsynth.cli.sections import SectionedCommand
from facsynth.select.settings import FilterSettings

if TYPE_CHECKING:
    from facsynth.select.filter import Filtered
    from facsynth.table.table import FeatureTable

N_SHOWN = 3
"""Samples of each group that are shown."""


@click.command(cls=SectionedCommand)
@click.argument("table", type=click.Path(path_type=Path))
@settings_options(FilterSettings, "settings")
@click.option(
    "--topics",
    type=click.Path(path_type=Path),
    help="File that numbers the topics from 0: what `fac look --json` or `fac coverage --json "
    "--controls` printed, or topics.jsonl of a run.",
)
@threshold_option
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Write the samples that stay to this JSONL file, and those that do not beside it, to "
    "NAME.dropped.jsonl. Without it, only show what would happen.",
)
@json_option
def filter(
    table: Path,
    settings: FilterSettings,
    topics: Path | None,
    threshold: float | None,
    output: Path | None,
    as_json: bool,
) -> None:
    """Keep, drop or label samples by the features they activate.

    Shows how many samples each feature or topic has and some of them; with --output the samples
    are written. Nothing is lost: what is dropped has a file of its own.
    """
    from facsynth.cli.load import load_active, load_topics
    from facsynth.cli.show import RichProgress, show
    from facsynth.select.filter import filter_samples

    groups = load_topics(topics) if topics else []
    [opened], [active], notes = load_active([table], threshold=threshold)
    found = filter_samples(active, settings, topics=groups)
    if not as_json:
        _show_samples(opened, found)
    show(found, as_json=as_json, notes=notes)
    if output:
        RichProgress().say(_write(opened, found, output))
    elif not as_json:
        click.echo("Nothing was written; --output FILE writes the samples that stay.")


def _show_samples(table: "FeatureTable", found: "Filtered") -> None:
    from facsynth.records import sample_text
    from facsynth.show import visible_text
    from facsynth.table.columns import read_samples

    for group, hit in zip(found.groups, found.found, strict=True):
        rows = hit.nonzero()[0][:N_SHOWN]
        for sample in read_samples(table, rows):
            text = " ".join(sample_text(sample).split())
            shown = f"{group.name}: {sample.sample_id}: {text[:70]}{'…' * (len(text) > 70)}"
            click.echo(visible_text(shown))


def _write(table: "FeatureTable", found: "Filtered", output: Path) -> str:
    """Write both files; what was written, in words."""
    from dataclasses import replace

    from facsynth.data.write import sample_row, write_jsonl
    from facsynth.table.columns import read_labels, read_samples

    kept = read_samples(table, found.kept)
    if found.action == "label":
        labels = found.labels(read_labels(table))
        kept = [replace(one, label=label) for one, label in zip(kept, labels, strict=True)]
    n_kept = write_jsonl(map(sample_row, kept), output)
    said = f"{n_kept:,} samples written to {output}"
    if not found.dropped.size:
        return said
    rest = output.with_name(f"{output.stem}.dropped.jsonl")
    n_rest = write_jsonl(map(sample_row, read_samples(table, found.dropped)), rest)
    return f"{said}, {n_rest:,} to {rest}"
