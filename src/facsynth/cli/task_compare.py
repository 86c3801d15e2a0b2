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
    """Show what trained folders reached: one row for each DIR and evaluation file.

    Train the same data on several models, a folder each, and the rows are the backbones. Beside the
    score stand what a rule that learns nothing reaches (a constant, the longer answer, random
    vectors) and what training on shuffled labels reaches.
    """
    from facsynth.cli.show import print_json, print_table
    from facsynth.tasks.compare import compare_runs

    rows = compare_runs(folders)
    if as_json:
        print_json({"rows": rows})
        return
    columns = ("model", "task", "data", "measure", "score", "sd", "simple", "shuffled")
    print_table("Trained tasks", columns, [[row[name] for name in columns] for row in rows])
