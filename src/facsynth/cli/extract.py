"""`fac extract`."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import click

from facsynth.cli.from_settings import settings_options
from facsynth.cli.options import data_options, json_option, model_options, output_option
from facsynth.cli.sections import SectionedCommand
from facsynth.data.settings import ReadSettings
from facsynth.errors import DataError
from facsynth.models.settings import ModelSettings
from facsynth.scale.settings import ScaleSettings
from facsynth.settings import Settings
from facsynth.table.settings import ExtractSettings, ShardSettings


@dataclass(frozen=True)
class Work(Settings):
    """Which SAEs read the data, and what is read of preference pairs."""

    sae: tuple[str, ...] = ()
    """Folder of the SAE; by default the embedded one. Repeat it for more SAEs of the same model,
    which share one forward pass."""

    both_answers: bool = False
    """Read both answers of preference pairs, as ID#chosen and ID#rejected with these labels; by
    default the chosen ones."""

    sharding: ShardSettings = field(default_factory=ShardSettings)
    where: ScaleSettings = field(default_factory=ScaleSettings)

    def __post_init__(self) -> None:
        if self.sharding.shard is not None and self.where != ScaleSettings():
            raise DataError("--shard runs in one process; leave out --devices, --engine and --ray")


@click.command(cls=SectionedCommand)
@click.argument("data", nargs=-1, required=True)
@output_option("Folder of the feature table; with several SAEs, of one table per SAE.")
@model_options
@settings_options(Work, "work")
@settings_options(ExtractSettings, "settings", without=("part_samples",))
@data_options
@json_option
def extract(
    data: tuple[str, ...],
    output: Path,
    model: ModelSettings,
    work: Work,
    settings: ExtractSettings,
    reading: ReadSettings,
    as_json: bool,
) -> None:
    """Read data with a model and an SAE into a feature table.

    DATA is a JSONL, JSON, CSV, TSV, Parquet, Arrow or text file, a folder of such files, or a Hub
    data set (owner/name); several become one table. DATA and OUTPUT may be addresses such as
    s3://bucket/name. With one SAE the table is OUTPUT;
    with several, each has its table in a folder of OUTPUT named after it. With --shard, the shard
    is written to a folder of OUTPUT. Work is saved at least
    every 30 seconds; run an interrupted command again to resume it.
    """
    from facsynth.cli.load import check_sources, say_report
    from facsynth.data.files import named_sources
    from facsynth.data.pairs import split_pairs
    from facsynth.data.read import REJECTED_FILE
    from facsynth.data.spool import spool_samples
    from facsynth.remote import remote_output

    names = _sae_names(work.sae)
    check_sources(model, work.sae)
    change = split_pairs if work.both_answers else iter
    with remote_output(output) as folder:
        samples = spool_samples(
            named_sources(data), reading, rejected=folder / REJECTED_FILE, change=change
        )
        say_report(samples.report)

        from facsynth.cli.show import print_json, print_tables, show

        results = _extracted(samples, folder, model, work, settings, names)
    if len(results) == 1:
        show(results[0], as_json=as_json)
    elif as_json:
        print_json({"tables": [table.row() for table in results]})
    else:
        print_tables([summary for table in results for summary in table.tables()])


def _extracted(
    samples: Any,
    output: Path,
    model: ModelSettings,
    work: Work,
    settings: ExtractSettings,
    names: list[str],
) -> list[Any]:
    """One table for each SAE, or the shard of them all."""
    from facsynth.cli.load import load_with_saes
    from facsynth.cli.show import RichProgress
    from facsynth.models.default_model import EMBEDDED_SAE

    progress = RichProgress()
    is_here = work.where == ScaleSettings()
    lm, loaded = load_with_saes(model, work.sae, progress, weights=is_here)
    shared: dict[str, Any] = {"settings": settings, "progress": progress}
    several = len(work.sae) > 1
    called = names if several else [work.sae[0] if work.sae else EMBEDDED_SAE]
    by_name = dict(zip(called, loaded, strict=True))
    if work.sharding.shard is not None:
        from facsynth.scale.shards import extract_shard

        return [extract_shard(samples, lm, by_name, output, work.sharding, **shared)]
    from facsynth.scale.where import extract_where

    of_folder = {output / name if several else output: (sae, name) for name, sae in by_name.items()}
    return list(extract_where(samples, lm, of_folder, work.where, model, **shared))


def _sae_names(saes: Sequence[str]) -> list[str]:
    """A folder name for each SAE: the end of its path, as much of it as tells them apart."""
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
