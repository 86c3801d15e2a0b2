"""`fac report`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from facsynth.cli.from_settings import settings_options
from facsynth.cli.options import json_option
from facsynth.cli.sections import SectionedCommand
from facsynth.report.settings import ReportSettings

_TABLE = click.Path(path_type=Path, file_okay=False)
_FILE = click.Path(path_type=Path, exists=True)
_NAMES = ("explanations", "relevance")
"""Options about the features of tables."""


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
    """Write one page to browse features and samples.

    It works offline and can be sent. RUN is a folder of `fac run` or `fac experiment`; several
    stand side by side on the page. It may also be a feature table alone. Without RUN, name the
    tables: --anchor, or --anchor and --seed, with --synthetic for what was written.
    """
    from facsynth.cli.show import RichProgress, print_json, show
    from facsynth.report.experiment import is_experiment, report_experiment
    from facsynth.report.page import write_report
    from facsynth.report.report import report_run, report_tables
    from facsynth.report.sources import is_run

    if refusal := _refusal(what, settings, {k: v for k, v in options.items() if v}):
        raise click.UsageError(refusal)
    progress = RichProgress()
    how: dict[str, Any] = {"settings": settings, "progress": progress}
    if what:
        named = {name: options[name] for name in _NAMES}
        made = []
        for folder in what:
            if is_experiment(folder):
                made.append(report_experiment(folder))
            elif is_run(folder):
                made.append(report_run(folder, **how))
            else:
                made.append(report_tables(folder, **named, **how))
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


def _refusal(
    what: Sequence[Path], settings: ReportSettings, options: Mapping[str, Path]
) -> str | None:
    """What is missing or too much on the command line, with the command that mends it."""
    if what:
        return next((found for one in what if (found := _misplaced(one, settings, options))), None)
    if "anchor" not in options:
        return _without_anchor(options)
    if "synthetic" in options and "seed" not in options:
        return (
            "--synthetic needs the seed that it was written for: `fac report --anchor "
            f"{options['anchor']} --seed SEED --synthetic {options['synthetic']}`"
        )
    return None


def _without_anchor(options: Mapping[str, Path]) -> str:
    """What is missing where neither a run nor a table nor an anchor is named."""
    if "synthetic" in options:
        return (
            "--synthetic needs the sets that it was written for: `fac report --anchor ANCHOR "
            f"--seed {options.get('seed', 'SEED')} --synthetic {options['synthetic']}`"
        )
    if seed := options.get("seed"):
        return (
            f"--seed needs a set to compare it with: `fac report --anchor ANCHOR --seed {seed}`; "
            f"`fac report {seed}` shows it alone"
        )
    if named := next((f" --{name} {options[name]}" for name in _NAMES if name in options), ""):
        return f"name the table of these features: `fac report TABLE{named}`"
    return (
        "name what to show: `fac report RUN` for a folder of `fac run` or `fac experiment`, "
        "`fac report TABLE` for a feature table, or `fac report --anchor ANCHOR --seed SEED`"
    )


def _misplaced(one: Path, settings: ReportSettings, options: Mapping[str, Path]) -> str | None:
    """What does not go with a run, a table or another folder that is named; None if all does."""
    from facsynth.report.experiment import is_experiment
    from facsynth.report.sources import is_run

    sets = [f"--{name}" for name in ("anchor", "seed", "synthetic") if name in options]
    if is_run(one) or is_experiment(one):
        bare = [f"--{name}" for name in _NAMES if name in options]
        bare += [] if settings.threshold is None else ["--threshold"]
        told = [*sets, *bare]
        return f"{one} is a run and brings its own; leave out {', '.join(told)}" if told else None
    if sets == ["--seed"]:
        seed = options["seed"]
        return f"to compare two tables name both: `fac report --anchor {one} --seed {seed}`"
    if sets:
        return f"{one} and {sets[0]} are two pages; leave out one of them"
    if (one / "summary.json").is_file():
        return (
            f"{one} is a folder of `fac synthesize`: `fac report --anchor ANCHOR --seed SEED "
            f"--synthetic {one}`"
        )
    if (one / "recipe.json").is_file() or (one / "arms").is_dir():
        return f"{one} is a run without a result yet; start it again, then report"
    return None
