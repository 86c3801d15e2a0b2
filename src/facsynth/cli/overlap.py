"""`fac overlap`."""

from pathlib import Path

import click

from facsynth.cli.from_settings import settings_options
from facsynth.cli.options import json_option, plot_option, relevant_option, threshold_option
from facsynth.cli.sections import SectionedCommand
from facsynth.compare.settings import OverlapSettings


@click.command(cls=SectionedCommand)
@click.argument(
    "tables", metavar="TABLE...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@settings_options(OverlapSettings, "settings")
@relevant_option
@threshold_option
@plot_option
@json_option
def overlap(
    tables: tuple[Path, ...],
    settings: OverlapSettings,
    relevant: Path | None,
    threshold: float | None,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Show which features of each table the others have too.

    The control of a share is that between random parts of equal size and matched lengths; its
    diagonal compares two parts of one set. Redundancy is the number of samples, chosen greedily,
    that keep a set's features.
    """
    from facsynth.cli.load import load_active, table_names
    from facsynth.cli.show import show
    from facsynth.compare.overlap import measure_overlap
    from facsynth.report.plots import heat_map, write_chart

    _, rows, notes = load_active(tables, threshold=threshold, relevant=relevant)
    found = measure_overlap(rows, settings, names=table_names(tables))
    show(found, as_json=as_json, notes=notes + found.notes)
    if plot:
        chart = heat_map(
            found.shares.tolist(),
            found.names,
            title="Share of the row's features that the column has",
            row_title="features of",
            column_title="found in",
        )
        write_chart(chart, plot)
