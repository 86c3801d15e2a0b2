"""What the commands of `fac task` share: options, the model to load, the result."""

import functools
from collections.abc import Callable
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from facsynth.cli.from_settings import settings_options
from facsynth.cli.options import json_option, model_options, output_option
from facsynth.data.settings import ReadSettings
from facsynth.models.settings import ModelSettings
from facsynth.tasks.settings import HeadSettings, LoraSettings, OptimizerSettings

if TYPE_CHECKING:
    from facsynth.data.report import ReadReport
    from facsynth.progress import Progress
    from facsynth.tasks.results import TaskResult

__all__ = ["Call", "evaluate_command", "refuse_ignored", "train_command"]

Command = Callable[..., None]

_OWN_FIELDS = ("text_field", "label_field")
"""What a task names by options of its own, if at all."""


@dataclass(frozen=True)
class Call:
    """What every command of a task is asked for."""

    data: str
    folder: Path
    rows: dict[str, Any]
    """How rows are read, where skipped ones go and who is told, for a reader."""

    read: list["ReadReport"]
    """What was read of each file."""

    model: ModelSettings

    progress: "Progress"
    trained: Any = None
    """The `TrainedTask` to evaluate; None while training."""

    as_json: bool = False

    def load(self) -> Any:
        """Load the named model, or else the one that was trained on."""
        from facsynth.cli.load import load_model  # loads torch: after what the user got wrong

        known = self.trained.config["model"] if self.trained else None
        return load_model(replace(self.model, model=self.model.model or known), self.progress)

    def finish(self, result: "TaskResult") -> None:
        """Keep a result in the folder of its task, and print it."""
        from facsynth.cli.show import show
        from facsynth.tasks.results import save_evaluation

        read = self.read[0].row()
        save_evaluation(self.folder, self.data, result, read)
        n_copies = len(result.near_copies)
        notes = [f"{n_copies} samples are near-copies of training data"] if n_copies else []
        show(result, as_json=self.as_json, notes=notes, read=read)


def train_command(command: Command) -> Command:
    """`FILE -o DIR` with rows and model; the command gets them as a `Call`."""

    @click.argument("data", metavar="FILE")
    @output_option("Folder to write.")
    @settings_options(ReadSettings, "reading", without=(*_OWN_FIELDS, "random_seed"))
    @model_options
    @functools.wraps(command)
    def run(data: str, output: Path, **options: Any) -> None:
        from facsynth.data.write import write_json

        settings = options["settings"]
        drawn = getattr(settings, "train", settings).random_seed[0]
        options["reading"] = replace(options["reading"], random_seed=drawn)
        call = _call(data, output, options)
        command(call, **options)
        write_json([report.row() for report in call.read], output / "read.json")
        call.progress.say(f"trained in {output}")

    return run


def evaluate_command(task: str) -> Callable[[Command], Command]:
    """`DIR FILE` with rows and model; the command gets them as a `Call`."""

    def decorate(command: Command) -> Command:
        if task != "steering":
            command = click.option(
                "--base", is_flag=True, help="Also measure the untrained model, asked by prompt."
            )(command)

        @click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
        @click.argument("data", metavar="FILE")
        @settings_options(ReadSettings, "reading", without=_OWN_FIELDS)
        @click.option(
            "--allow-overlap",
            is_flag=True,
            help="Evaluate even if evaluation data are in the training data.",
        )
        @model_options
        @json_option
        @functools.wraps(command)
        def run(folder: Path, data: str, as_json: bool, **options: Any) -> None:
            from facsynth.tasks.folder import open_task

            trained = None if options.get("responses") else open_task(folder, task)
            command(_call(data, folder, options, trained=trained, as_json=as_json), **options)

        return run

    return decorate


def refuse_ignored(head_only: bool) -> None:
    """Raise a usage error for options that the chosen way of training would ignore."""
    tuned = [f.name for record in (OptimizerSettings, LoraSettings) for f in fields(record)]
    head = [f.name for f in fields(HeadSettings)]
    ignored, how = (["control", *tuned], "without") if head_only else (head, "with")
    for name in ignored:
        source = click.get_current_context().get_parameter_source(name)
        if source == ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--{name.replace('_', '-')} only works {how} --head-only")


def _call(data: str, folder: Path, options: dict[str, Any], **more: Any) -> Call:
    """The call, whose options are taken out of those of the command."""
    from facsynth.cli.load import say_report
    from facsynth.cli.show import RichProgress
    from facsynth.data.read import REJECTED_FILE

    read: list[ReadReport] = []

    def on_read(report: "ReadReport") -> None:
        say_report(report)
        read.append(report)

    reading, rejected = options.pop("reading"), folder / REJECTED_FILE
    rows = {"reading": reading, "rejected": rejected, "on_read": on_read}
    return Call(data, folder, rows, read, options.pop("model"), RichProgress(), **more)
