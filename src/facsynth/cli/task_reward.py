"""`fac task reward`."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import click

from facsynth.cli.options import model_options, output_option
from facsynth.cli.task_options import (
    check_method,
    evaluate_command,
    evaluate_options,
    read_settings,
    rows_options,
    train_options,
    tune_run,
)

_SHOWN = {
    "accuracy": "accuracy",
    "  standard deviation over seeds": "accuracy_sd",
    "  of preferring the longer answer": "longer_accuracy",
    "  trained on shuffled pairs": "shuffled_accuracy",
    "pairs": "n_pairs",
}


@click.group()
def reward() -> None:
    """Which answer is better? Accuracy of a Bradley-Terry head, or of a tuned model."""


@reward.command("train")
@click.argument("data", metavar="FILE")
@output_option("Folder of what is trained.")
@click.option("--max-pairs", type=int, help="Draw at most so many pairs for each seed.")
@train_options("reward")
@rows_options
@model_options
def train_reward_model(data: str, output: Path, **options: Any) -> None:
    """Train on the preference pairs of FILE: adapters (LoRA), with --full all weights.

    FILE may hold chosen and rejected answers (HH-RLHF and RewardBench too), or be RM-Bench or
    LLMBar. A training that was stopped goes on when the same command is given again.
    """
    from facsynth.cli.load import load_model
    from facsynth.cli.show import RichProgress
    from facsynth.tasks.comparisons import read_comparisons
    from facsynth.tasks.folder import save_task
    from facsynth.tasks.reward import RewardSettings, train_reward

    check_method(options)
    pairs = read_comparisons(data, split=options["split"], limit=options["limit"])
    progress = RichProgress()
    load = partial(load_model, options, progress)
    if options["head_only"]:
        lm = load()
        settings = RewardSettings(
            read=read_settings(lm, options, "start"),
            seeds=options["seeds"],
            max_pairs=options["max_pairs"],
            inverse_l2=options["inverse_l2"],
        )
        save_task(output, train_reward(pairs, lm, settings, progress=progress))
    else:
        from facsynth.tasks.tune import tune_reward

        run = tune_run("reward", output, options)
        tune_reward(pairs, load, run, max_pairs=options["max_pairs"], progress=progress)
    progress.say(f"trained in {output}")


@reward.command("evaluate")
@click.option("--subset-field", help="Field that names the part; else `subset` or `domain`.")
@evaluate_options
def evaluate_reward_model(folder: Path, data: str, **options: Any) -> None:
    """Accuracy of what was trained in DIR on the preference pairs of FILE."""
    from facsynth.tasks.comparisons import read_comparisons
    from facsynth.tasks.reward import evaluate_reward

    def read(source: str, asked: Mapping[str, Any]) -> Any:
        names = ("subset_field", "split", "limit")
        return read_comparisons(source, **{name: asked[name] for name in names})

    evaluate_command(
        "reward",
        _SHOWN,
        {"By subset": "subsets"},
        read=read,
        evaluate=evaluate_reward,
        folder=folder,
        data=data,
        options=options,
    )
