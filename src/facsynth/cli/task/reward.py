"""`fac task reward`."""

import click

from facsynth.cli.from_settings import settings_options
from facsynth.cli.sections import SectionedGroup
from facsynth.cli.task.options import Call, evaluate_command, refuse_ignored, train_command
from facsynth.tasks.reward.settings import RewardSettings


@click.group(cls=SectionedGroup)
def reward() -> None:
    """Which answer is better? Accuracy of a Bradley-Terry head, or of a tuned model."""


@reward.command()
@settings_options(RewardSettings, "settings")
@train_command
def train(call: Call, settings: RewardSettings) -> None:
    """Train on the preference pairs of FILE: adapters (LoRA), or all weights with --full.

    FILE has chosen and rejected answers, as in HH-RLHF and RewardBench, or is LLMBar. An unfinished
    training resumes when the same command is run again.
    """
    from facsynth.tasks.reward.data import read_comparisons
    from facsynth.tasks.reward.train import train_reward

    refuse_ignored(settings.train.head_only)
    pairs = read_comparisons(call.data, **call.rows)
    train_reward(pairs, call.load, call.folder, settings, progress=call.progress)


@reward.command()
@click.option(
    "--subset-field",
    default="subset",
    show_default=True,
    help="Field that names the part of the data.",
)
@evaluate_command("reward")
def evaluate(call: Call, subset_field: str, **options: bool) -> None:
    """Measure the accuracy of what was trained in DIR on the preference pairs of FILE.

    With --base the untrained model prefers the answer that it finds likelier.
    """
    from facsynth.tasks.reward.data import read_comparisons
    from facsynth.tasks.reward.evaluate import evaluate_reward

    pairs = read_comparisons(call.data, subset_field=subset_field, **call.rows)
    call.finish(evaluate_reward(call.trained, pairs, call.load, **options, progress=call.progress))
