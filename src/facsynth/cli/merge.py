"""`fac merge`."""

from pathlib import Path

import click

from facsynth.cli.options import json_option, output_option
from facsynth.cli.sections import SectionedCommand


@click.command(cls=SectionedCommand)
@click.argument(
    "shards", metavar="SHARD...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@output_option("Folder of the feature table.")
@json_option
def merge(shards: tuple[Path, ...], output: Path, as_json: bool) -> None:
    """Join the shards of a feature table.

    Each SHARD is a folder that `fac extract --shard I --num-shards N` wrote. In any order they
    make the table that one run would have written. Shards that are missing, or that belong to
    another table, are named. A stopped merge is resumed.
    """
    from facsynth.cli.show import show
    from facsynth.remote import remote_output
    from facsynth.scale.shards import merge_shards

    with remote_output(output) as folder:
        merged = merge_shards(shards, folder)
    show(merged, as_json=as_json)
