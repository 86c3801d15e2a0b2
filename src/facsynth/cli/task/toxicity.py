"""`fac task toxicity`."""

from pathlib import Path
from typing import Any

import click

from facsynth.cli.from_settings import settings_options
from facsynth.cli.options import model_options, output_option
from facsynth.cli.task.options import (
    evaluate_options,
    finish,
    loader,
    refuse_ignored,
    rows_options,
)
from facsynth.tasks.toxicity.settings import LabelFields, ToxicitySettings


@click.group()
def toxicity() -> None:
    """Is a text toxic? AUPRC of a head on hidden states, or of a tuned model."""


@toxicity.command()
@click.argument("data", metavar="FILE")
@output_option("Folder to write.")
@click.option("--safe", help="Harmless samples to mix in; their labels are not read.")
@click.option("--all-positive", is_flag=True, help="Every sample of FILE is toxic.")
@settings_options(ToxicitySettings, "settings")
@settings_options(LabelFields, "fields")
@rows_options
@model_options
def train(
    data: str,
    output: Path,
    safe: str | None,
    all_positive: bool,
    settings: ToxicitySettings,
    fields: LabelFields,
    **options: Any,
) -> None:
    """Train on the labelled texts of FILE: adapters (LoRA), or all weights with --full.

    An unfinished training resumes when the same command is run again.
    """
    from facsynth.cli.show import RichProgress
    from facsynth.tasks.toxicity.data import read_labelled
    from facsynth.tasks.toxicity.train import train_toxicity

    refuse_ignored(settings.train.head_only)
    rows = {name: options.pop(name) for name in ("split", "limit")}
    texts = read_labelled(data, fields, all_positive=all_positive, **rows)
    harmless = read_labelled(safe, all_positive=True) if safe else None
    progress = RichProgress()
    load = loader(options, progress)
    train_toxicity(texts, load, output, settings, safe=harmless, progress=progress)
    progress.say(f"trained in {output}")


@toxicity.command()
@settings_options(LabelFields, "fields")
@evaluate_options
def evaluate(
    folder: Path,
    data: str,
    fields: LabelFields,
    allow_overlap: bool,
    split: str,
    limit: int | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Measure the AUPRC of what was trained in DIR on the labelled texts of FILE."""
    from facsynth.cli.show import RichProgress
    from facsynth.tasks.folder import open_task
    from facsynth.tasks.toxicity.data import read_labelled
    from facsynth.tasks.toxicity.evaluate import evaluate_toxicity

    trained = open_task(folder, "toxicity")
    texts = read_labelled(data, fields, split=split, limit=limit)
    progress = RichProgress()
    load = loader(options, progress, trained)
    result = evaluate_toxicity(trained, texts, load, allow_overlap=allow_overlap, progress=progress)
    finish(result, folder, data, as_json)
