"""`fac labels`."""

from pathlib import Path

import click

from facsynth.cli.from_settings import settings_options
from facsynth.cli.options import json_option, plot_option, relevant_option, threshold_option
from facsynth.cli.sections import SectionedCommand
from facsynth.compare.settings import LabelSettings
from facsynth.errors import DataError


@click.command(cls=SectionedCommand)
@click.argument(
    "tables", metavar="TABLE...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@settings_options(LabelSettings, "settings")
@click.option(
    "--anchor",
    type=click.Path(path_type=Path),
    help="Feature table with the same classes: the target, or a held-out part.",
)
@click.option(
    "--rename",
    "renames",
    multiple=True,
    metavar="OLD=NEW",
    help="Rename a class, so that sources with other words compare; repeatable.",
)
@relevant_option
@threshold_option
@plot_option
@json_option
def labels(
    tables: tuple[Path, ...],
    settings: LabelSettings,
    anchor: Path | None,
    renames: tuple[str, ...],
    relevant: Path | None,
    threshold: float | None,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Compare the classes of labelled feature tables.

    A class is a sample's label (`fac extract --label-field`), or the chosen and the rejected side
    of preference pairs (`fac extract --both-answers`). The direction is the difference of the
    class means of the feature vectors; with several tables, or an anchor, the cosines of their
    directions say whether the labels mean the same. Resampling gives the interval, and shuffled
    labels give the cosine that chance reaches.
    """
    from facsynth.cli.load import load_active, table_names
    from facsynth.cli.show import show
    from facsynth.compare.label_report import compare_labels, label_tables
    from facsynth.report.plots import heat_map, write_chart

    new_names = dict(map(_renamed, renames))
    opened, active, notes = load_active(
        tables, threshold=threshold, relevant=relevant, anchor=anchor
    )
    rows = label_tables(opened, active, settings, renames=new_names)
    target = rows.pop() if anchor else None
    names = table_names([*tables, anchor] if anchor else tables)
    found = compare_labels(rows, settings, names=names, anchor=target)
    show(found, as_json=as_json, notes=notes + found.notes)
    if plot:
        chart = heat_map(
            found.cosines.tolist(),
            found.names,
            title="Agreement of label directions (cosine)",
            row_title="",
            column_title="",
            domain=(-1.0, 1.0),
        )
        write_chart(chart, plot)


def _renamed(text: str) -> tuple[str, str]:
    old, equals, new = text.partition("=")
    if not (old and equals and new):
        raise DataError(f"--rename {text!r} is not of the form OLD=NEW")
    return old, new
