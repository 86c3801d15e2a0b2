"""`fac report`."""

from pathlib import Path
from typing import Any

import click

from facsynth.cli.from_settings import settings_options
from facsynth.cli.options import json_option
from facsynth.cli.sections import SectionedCommand
from facsynth.report.settings import ReportSettings

_TABLE = click.Path(path_type=Path, file_okay=False)
_FILE = click.Path(path_type=Path, exists=True)


@click.command(cls=SectionedCommand)
@click.argument("what", metavar="[RUN...]", nargs=-1, type=_TABLE)
@click.option("--anchor", type=_TABLE, help="Feature table of the anchor.")
@click.option("--seed", type=_TABLE, help="Feature table of the seed.")
@click.option("--synthetic", type=_TABLE, help="Folder of `fac synthesize`, or its table.")
@click.option("--explanations", type=_FILE, help="Names of features, as `fac explain` writes them.")
@click.option("--relevance", type=_FILE, help="Grades of features, as `fac relevance` writes them.")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The page; report.html in the only RUN, else in this folder, by default.",
)
@settings_options(ReportSettings, "settings", without=("random_seed",))
@json_option
def report(
    what: tuple[Path, ...],
    settings: ReportSettings,
    output: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Write one page to browse features and samples; it works offline and can be sent.

    RUN is a folder of `fac run` or `fac experiment`; several stand side by side on the page. It may
    also be a feature table alone. Without RUN, name the tables: --anchor, or --anchor and --seed,
    with --synthetic for what was written.
    """
    from facsynth.cli.show import RichProgress, print_json, show
    from facsynth.report.experiment import is_experiment, report_experiment
    from facsynth.report.page import write_report
    from facsynth.report.report import report_run, report_tables
    from facsynth.report.sources import is_run

    if bool(what) == bool(options["anchor"]):
        raise click.UsageError("name either runs (or tables), or an --anchor")
    progress = RichProgress()
    how: dict[str, Any] = {"settings": settings, "progress": progress}
    if what:
        made = [
            report_experiment(one)
            if is_experiment(one)
            else (report_run if is_run(one) else report_tables)(one, **how)
            for one in what
        ]
    else:
        made = [report_tables(**options, **how)]
    in_run = len(what) == 1 and (is_run(what[0]) or is_experiment(what[0]))
    path = output or (what[0] / "report.html" if in_run else Path("report.html"))
    write_report(made, path)
    if as_json:
        size = path.stat().st_size
        print_json({"page": str(path), "bytes": size, "reports": [one.row() for one in made]})
        return
    for one in made:
        show(one, as_json=False, notes=one.notes)
    click.echo(f"Report:  {path}")
