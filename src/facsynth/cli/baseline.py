"""`fac baseline`."""

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import click

from facsynth.baselines.settings import BASELINES, BaselineSettings
from facsynth.cli.from_settings import settings_options
from facsynth.cli.options import (
    generator_options,
    json_option,
    model_options,
    output_option,
    unseeded_data_options,
)
from facsynth.cli.sections import SectionedCommand
from facsynth.data.settings import ReadSettings
from facsynth.models.settings import ModelSettings

if TYPE_CHECKING:
    from facsynth.baselines.settings import Baseline


@click.command(cls=SectionedCommand)
@click.argument("method", type=click.Choice(BASELINES))
@click.argument("data", nargs=-1, required=True)
@output_option("Run folder: synthetic.jsonl, a summary and the replies.")
@click.option(
    "--anchor",
    "anchors",
    multiple=True,
    help="Data that represents the target domain: sets the lengths of what is kept, and is what "
    "anchor-text shows and synalign matches; DATA by default. Repeatable.",
)
@settings_options(BaselineSettings, "settings")
@model_options
@click.option("--generator", "writer", help="Local model that writes; the --model by default.")
@generator_options(without=("model", "replies"))
@unseeded_data_options
@json_option
def baseline(
    method: str,
    data: tuple[str, ...],
    output: Path,
    anchors: tuple[str, ...],
    settings: BaselineSettings,
    model: ModelSettings,
    reading: ReadSettings,
    as_json: bool,
    **options: Any,
) -> None:
    """Write samples by another method, for comparison.

    DATA are the examples of METHOD, which is what features have to beat. Texts pass the same
    filters as those of `fac synthesize`, and the rows have the same form. The --model, which also
    gives the vectors that synalign and prismatic choose by, writes, or the local --generator, or
    the --chat-model at an endpoint. Run it again to resume.
    """
    from facsynth.baselines.run import BaselineRun
    from facsynth.cli.load import load_model, load_samples
    from facsynth.cli.show import RichProgress, show

    # All that needs no model comes first, so that errors are found before one is loaded.
    reading = replace(reading, random_seed=settings.random_seed)
    seeds = [sample for name in data for sample in load_samples(name, reading)]
    anchor = [sample for name in anchors for sample in load_samples(name, reading)]
    run = BaselineRun(cast("Baseline", method), seeds, anchor, settings=settings)
    generator = replace(options["generator"], model=options["writer"])
    expected = run.forecast(generator.policy)
    progress = RichProgress()
    if options["dry_run"]:
        progress.say(f"estimate: {expected}")
        return
    from facsynth.baselines.vectors import local_parts
    from facsynth.chat.budget import Spending
    from facsynth.pipeline import load_generator

    @cache
    def reader() -> Any:
        return load_model(model, progress)

    chat = load_generator(generator, reader, Spending(generator.policy, output / "replies.sqlite"))
    progress.say(f"estimate: {expected}")
    result = run.execute(chat, output, local=local_parts(reader, generator), progress=progress)
    spent = "a limit was reached; raise it and run again to resume"
    show(result, as_json=as_json, notes=[spent] if result.stopped else ())
