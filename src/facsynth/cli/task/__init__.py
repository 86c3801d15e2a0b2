"""`fac task`: train and evaluate what the data are for."""

import click

from facsynth.cli.sections import SectionedGroup
from facsynth.cli.task.compare import compare
from facsynth.cli.task.instruction import instruction
from facsynth.cli.task.reward import reward
from facsynth.cli.task.steering import steering
from facsynth.cli.task.toxicity import toxicity

__all__ = ["task"]


@click.group(cls=SectionedGroup)
def task() -> None:
    """Train and evaluate what the data are for.

    There are heads, adapters, whole models and steering vectors.
    """


for _command in (toxicity, reward, instruction, steering, compare):
    task.add_command(_command)
