"""What the commands of `fac task` share: options, the model to load, the result."""

from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from facsynth.cli.options import json_option, model_options
from facsynth.tasks.settings import HeadSettings, LoraSettings, OptimizerSettings

if TYPE_CHECKING:
    from facsynth.progress import Progress
    from facsynth.tasks.folder import TrainedTask
    from facsynth.tasks.results import TaskResult

__all__ = ["evaluate_options", "finish", "loader", "refuse_ignored", "rows_options"]

Command = Callable[..., Any]


def rows_options(command: Command) -> Command:
    """How many rows are read, and from which split."""
    for option in (
        click.option("--limit", type=int, help="Read at most N rows."),
        click.option(
            "--split", default="train", show_default=True, help="Split of a Hub data set."
        ),
    ):
        command = option(command)
    return command


def evaluate_options(command: Command) -> Command:
    """Folder and data of an evaluation, and where its model runs."""
    for option in (
        json_option,
        model_options,
        click.option(
            "--allow-overlap",
            is_flag=True,
            help="Evaluate even if evaluation data are in the training data.",
        ),
        rows_options,
        click.argument("data", metavar="FILE"),
        click.argument("folder", metavar="DIR", type=click.Path(path_type=Path)),
    ):
        command = option(command)
    return command


def refuse_ignored(head_only: bool) -> None:
    """Raise a usage error for options that the chosen way of training would ignore."""
    tuned = [f.name for record in (OptimizerSettings, LoraSettings) for f in fields(record)]
    head = [f.name for f in fields(HeadSettings)]
    ignored, how = (["control", *tuned], "without") if head_only else (head, "with")
    for name in ignored:
        source = click.get_current_context().get_parameter_source(name)
        if source == ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--{name.replace('_', '-')} only works {how} --head-only")


def loader(
    options: dict[str, Any], progress: "Progress", trained: "TrainedTask | None" = None
) -> Callable[[], Any]:
    """Loads the model of `model_options`; by default that of a trained task."""

    def load() -> Any:
        from facsynth.cli.load import load_model  # loads torch: after what the user got wrong

        known = trained.config["model"] if trained else None
        return load_model({**options, "model": options["model"] or known}, progress)

    return load


def finish(result: "TaskResult", folder: Path, data: str, as_json: bool) -> None:
    """Keep a result in the folder of its task, and print it."""
    from facsynth.cli.show import show
    from facsynth.tasks.results import save_evaluation

    save_evaluation(folder, data, result)
    n_copies = len(result.near_copies)
    notes = [f"{n_copies} samples are near-copies of training data"] if n_copies else []
    show(result, as_json=as_json, notes=notes)
