"""`fac task compare`."""

from pathlib import Path

import click

from facsynth.cli.options import json_option
from facsynth.cli.sections import SectionedCommand


@click.command(cls=SectionedCommand)
@click.argument(
    "folders", metavar="DIR...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.option(
    "--reference",
    help="DIR to compare the others with, or `base`, the untrained model; by default the first.",
)
@json_option
def compare(folders: tuple[Path, ...], reference: str | None, as_json: bool) -> None:
    """Compare trained folders: one row for each DIR and evaluation.

    Each is compared with the reference on the same evaluation items; the interval of the difference
    is bootstrapped over random seeds and items. Beside the score stand what a rule without a model
    reaches, the untrained model (evaluated with --base), and training on shuffled labels.
    """
    from facsynth.cli.show import show
    from facsynth.tasks.compare import compare_runs

    show(compare_runs(folders, reference=reference), as_json=as_json)
