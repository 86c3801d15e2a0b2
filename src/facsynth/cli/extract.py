"""`fac extract`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from facsynth.cli.from_settings import settings_options
from facsynth.cli.options import data_options, json_option, model_options, output_option
from facsynth.cli.sections import SectionedCommand
from facsynth.data.settings import ReadSettings
from facsynth.models.settings import ModelSettings
from facsynth.scale.settings import RaySettings
from facsynth.table.settings import ExtractSettings, ShardSettings


@click.command(cls=SectionedCommand)
@click.argument("data", nargs=-1, required=True)
@output_option("Folder of the feature table; with several SAEs, of one table per SAE.")
@model_options
@click.option(
    "--sae",
    "saes",
    multiple=True,
    help="Folder of the SAE; by default the embedded one. Repeat it for more SAEs of the same "
    "model, which share one forward pass.",
)
@settings_options(ExtractSettings, "settings", without=("part_samples",))
@settings_options(ShardSettings, "sharding")
@settings_options(RaySettings, "cluster")
@click.option(
    "--both-answers",
    is_flag=True,
    help="Read both answers of preference pairs, as ID#chosen and ID#rejected with these labels; "
    "by default the chosen ones.",
)
@data_options
@json_option
def extract(
    data: tuple[str, ...],
    output: Path,
    saes: tuple[str, ...],
    model: ModelSettings,
    settings: ExtractSettings,
    sharding: ShardSettings,
    cluster: RaySettings,
    both_answers: bool,
    reading: ReadSettings,
    as_json: bool,
) -> None:
    """Read DATA with a model and an SAE into a feature table.

    DATA is a JSONL, JSON, CSV, TSV, Parquet, Arrow or text file, a folder of such files, or a Hub
    data set (owner/name); several become one table. With one SAE the table is OUTPUT;
    with several, each has its table in a folder of OUTPUT named after it. With --shard, the shard
    is written to a folder of OUTPUT. Work is saved at least
    every 30 seconds; run an interrupted command again to resume it.
    """
    from facsynth.cli.load import check_sources, load_with_saes, say_report
    from facsynth.data.files import named_sources
    from facsynth.data.pairs import split_pairs
    from facsynth.data.read import REJECTED_FILE
    from facsynth.data.spool import spool_samples

    names = _sae_names(saes)
    check_sources(model, saes)
    change = split_pairs if both_answers else iter
    samples = spool_samples(
        named_sources(data), reading, rejected=output / REJECTED_FILE, change=change
    )
    say_report(samples.report)

    from facsynth.cli.show import RichProgress, print_json, print_tables, show
    from facsynth.models.default_model import EMBEDDED_SAE
    from facsynth.scale.shards import extract_shard
    from facsynth.table.extract import extract_table, extract_tables

    progress = RichProgress()
    lm, loaded = load_with_saes(model, saes, progress)
    shared: dict[str, Any] = {"settings": settings, "progress": progress}
    name = saes[0] if saes else EMBEDDED_SAE
    if sharding.shard is not None:
        by_name = dict(zip(names if len(saes) > 1 else [name], loaded, strict=True))
        shard = extract_shard(samples, lm, by_name, output, sharding, **shared)
        show(shard, as_json=as_json)
        return
    if cluster.ray is not None:
        from facsynth.scale.ray import extract_on_ray

        inside = {output / one: one for one in names} if len(saes) > 1 else {output: name}
        of_folder = {
            folder: (sae, called)
            for (folder, called), sae in zip(inside.items(), loaded, strict=True)
        }
        tables = extract_on_ray(samples, lm, of_folder, cluster, model, **shared)
    elif len(saes) < 2:
        tables = [extract_table(samples, lm, loaded[0], output, sae_name=name, **shared)]
    else:
        named = dict(zip(names, loaded, strict=True))
        tables = list(extract_tables(samples, lm, named, output, **shared).values())
    if len(tables) == 1:
        show(tables[0], as_json=as_json)
    elif as_json:
        print_json({"tables": [table.row() for table in tables]})
    else:
        print_tables([summary for table in tables for summary in table.tables()])


def _sae_names(saes: Sequence[str]) -> list[str]:
    """A folder name for each SAE: the end of its path, as much of it as tells them apart."""
    from facsynth.errors import DataError

    if len(set(saes)) < len(saes):
        raise DataError(f"the same --sae is given twice: {', '.join(saes)}")
    paths = [[word for word in Path(sae).parts if word not in ("/", ".", "..")] for sae in saes]
    for n_words in range(1, max(map(len, paths), default=0) + 1):
        names = ["-".join(words[-n_words:]).replace(":", "-") for words in paths]
        if len(set(names)) == len(names):
            return names
    if paths:
        raise DataError(f"these --sae cannot be told apart by their paths: {', '.join(saes)}")
    return []
