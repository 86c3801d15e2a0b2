"""`fac task`: train and evaluate what the data are for."""

import click

from facsynth.cli.task_compare import compare
from facsynth.cli.task_instruction import instruction
from facsynth.cli.task_reward import reward
from facsynth.cli.task_steering import steering
from facsynth.cli.task_toxicity import toxicity

__all__ = ["task"]


@click.group()
def task() -> None:
    """Train and evaluate what the data are for: heads, adapters, models, steering vectors."""


for _command in (toxicity, reward, instruction, steering, compare):
    task.add_command(_command)
