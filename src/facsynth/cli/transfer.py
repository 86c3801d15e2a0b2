"""`fac transfer`."""

from pathlib import Path
from statistics import mean
from typing import Any

import click

from facsynth.cli.from_settings import settings_options
from facsynth.cli.options import json_option, plot_option
from facsynth.cli.sections import SectionedCommand
from facsynth.compare.settings import TransferSettings


@click.command(cls=SectionedCommand)
@click.argument("a", metavar="TABLE_A", type=click.Path(path_type=Path))
@click.argument("b", metavar="TABLE_B", type=click.Path(path_type=Path))
@settings_options(TransferSettings, "settings")
@click.option(
    "--random",
    "random_b",
    type=click.Path(path_type=Path),
    help="Control: table of an SAE of random directions in B's model; see `fac sae random`.",
)
@click.option(
    "--spans/--no-spans",
    default=True,
    show_default=True,
    help="Name the shown pairs by the words at their peaks, with an example each.",
)
@click.option("--model-a", help="Model that extracted A, for its tokenizer; else as A names it.")
@click.option("--model-b", help="The same for B.")
@plot_option
@json_option
def transfer(
    a: Path,
    b: Path,
    settings: TransferSettings,
    random_b: Path | None,
    plot: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Show how much feature space two SAEs share.

    Each has read the same samples into a table. The SAEs may belong to two models, two layers or
    one. Features match to the degree that their activations correlate over the samples with the
    same ids. Partners are found on one half of these and their correlation is measured on the
    other; shuffled samples are the control.
    """
    from dataclasses import replace

    from facsynth.cli.show import show
    from facsynth.compare.transfer import common_samples, measure_transfer
    from facsynth.report.plots import write_chart
    from facsynth.table.table import open_table

    common = common_samples(open_table(a), open_table(b))
    control = open_table(random_b) if random_b else None
    found = measure_transfer(common, settings, random_b=control)
    if options["spans"]:
        models = (options["model_a"], options["model_b"])
        found = replace(found, described=_described(found, models))
    show(found, as_json=as_json, notes=found.notes)
    if plot:
        write_chart(_chart(found.row()), plot)


def _described(found: Any, models: tuple[str | None, str | None]) -> Any:
    """The shown pairs in words."""
    from facsynth.cli.load import load_table_tokenizer
    from facsynth.understand.counterparts import describe_counterparts
    from facsynth.understand.spans import ReadTable, extract_settings

    shown = [(i, j) for i, j, _ in found.pairs[: found.settings.top]]
    if not shown:
        return ()
    common = found.common
    read = []
    for table, rows, model in zip(common.tables, common.rows, models, strict=True):
        source = table.manifest.source
        tokenizer = load_table_tokenizer(source, model)
        read.append(ReadTable(common.samples, rows, tokenizer, extract_settings(source)))
    return describe_counterparts(read[0], read[1], shown)


def _chart(row: dict[str, Any]) -> dict[str, Any]:
    """Lines of both sides, and dots for what chance reaches."""
    from facsynth.report.plots import share_chart

    names = {side: f"{side.upper()}: {Path(row[side]['table']).name}" for side in "ab"}
    lines = {name: row[side]["curve"] for side, name in names.items()}
    lines |= {f"mutual, {side.upper()}": row[side]["mutual_curve"] for side in "ab"}
    chance = {"A in random directions": row["a"]["random"]}
    for side in "ab":
        shuffled = row[side]["shuffled_by_length"]
        chance[f"{side.upper()}, samples shuffled"] = mean(shuffled) if shuffled else None
    dots = {name: share for name, share in chance.items() if share is not None}
    return share_chart(lines, dots, min_correlation=row["min_correlation"])
