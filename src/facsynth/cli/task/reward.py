"""`fac task reward`."""

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
from facsynth.tasks.reward.settings import RewardSettings


@click.group()
def reward() -> None:
    """Which answer is better? Accuracy of a Bradley-Terry head, or of a tuned model."""


@reward.command()
@click.argument("data", metavar="FILE")
@output_option("Folder to write.")
@settings_options(RewardSettings, "settings")
@rows_options
@model_options
def train(
    data: str,
    output: Path,
    settings: RewardSettings,
    split: str,
    limit: int | None,
    **options: Any,
) -> None:
    """Train on the preference pairs of FILE: adapters (LoRA), or all weights with --full.

    FILE has chosen and rejected answers, as in HH-RLHF and RewardBench, or is LLMBar.
    An unfinished training resumes when the same command is run again.
    """
    from facsynth.cli.show import RichProgress
    from facsynth.tasks.reward.data import read_comparisons
    from facsynth.tasks.reward.train import train_reward

    refuse_ignored(settings.train.head_only)
    pairs = read_comparisons(data, split=split, limit=limit)
    progress = RichProgress()
    train_reward(pairs, loader(options, progress), output, settings, progress=progress)
    progress.say(f"trained in {output}")


@reward.command()
@click.option(
    "--subset-field",
    default="subset",
    show_default=True,
    help="Field that names the part of the data.",
)
@evaluate_options
def evaluate(
    folder: Path,
    data: str,
    subset_field: str,
    allow_overlap: bool,
    split: str,
    limit: int | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Measure the accuracy of what was trained in DIR on the preference pairs of FILE."""
    from facsynth.cli.show import RichProgress
    from facsynth.tasks.folder import open_task
    from facsynth.tasks.reward.data import read_comparisons
    from facsynth.tasks.reward.evaluate import evaluate_reward

    trained = open_task(folder, "reward")
    pairs = read_comparisons(data, subset_field=subset_field, split=split, limit=limit)
    progress = RichProgress()
    load = loader(options, progress, trained)
    result = evaluate_reward(trained, pairs, load, allow_overlap=allow_overlap, progress=progress)
    finish(result, folder, data, as_json)
