"""`fac task compare`."""

from pathlib import Path

import click

from facsynth.cli.options import json_option


@click.command()
@click.argument(
    "folders", metavar="DIR...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@json_option
def compare(folders: tuple[Path, ...], as_json: bool) -> None:
    """Compare trained folders: one row for each DIR and evaluation.

    Train the same data on several models, a folder each, and the rows are the backbones. Beside the
    score are two controls: what a rule that learns nothing reaches (a constant, the longer answer,
    random vectors, the untrained model), and what training on shuffled labels reaches.
    """
    from facsynth.cli.show import show
    from facsynth.tasks.compare import compare_runs

    show(compare_runs(folders), as_json=as_json)
