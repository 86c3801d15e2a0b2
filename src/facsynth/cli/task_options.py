"""What the commands of `fac task` share: options, loading, results."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import click

from facsynth.cli.options import json_option, model_options
from facsynth.tasks.tuning import PAPER, LoraSettings, TuneRun, TuneSettings

__all__ = [
    "allow_overlap_option",
    "check_method",
    "evaluate_command",
    "evaluate_options",
    "finish",
    "label_options",
    "label_reading",
    "load_trained_model",
    "print_rows",
    "read_settings",
    "rows_options",
    "seed_option",
    "train_options",
    "tune_options",
    "tune_run",
]

Command = Callable[..., Any]

_HEAD = ("layer", "pooling", "inverse_l2")
_TUNE = (
    "full",
    "control",
    "epochs",
    "learning_rate",
    "batch_size",
    "micro_batch",
    "lora_rank",
    "lora_alpha",
    "lora_dropout",
    "schedule",
    "warmup",
    "weight_decay",
    "save_every",
    "gradient_checkpointing",
)

allow_overlap_option = click.option(
    "--allow-overlap", is_flag=True, help="Go on when evaluation data stand in the training data."
)

seed_option = click.option(
    "--seed",
    "seeds",
    multiple=True,
    type=int,
    default=(42, 43, 44),
    show_default=True,
    help="A model or head for each seed; repeatable.",
)


def rows_options(command: Command) -> Command:
    """How many rows are read, and from where."""
    for option in (
        click.option("--limit", type=int, help="Read only the first so many rows."),
        click.option(
            "--split", default="train", show_default=True, help="Split of a Hub data set."
        ),
    ):
        command = option(command)
    return command


def label_options(command: Command) -> Command:
    """Where text, class and group of a sample stand."""
    for option in (
        click.option("--positive", help="Label of the toxic class, where it is unclear."),
        click.option("--group-field", help="Field with what a sample tests (functionality)."),
        click.option("--label-field", help="Field with the sample's class."),
        click.option("--text-field", help="Read this field as plain text."),
    ):
        command = option(command)
    return command


def label_reading(options: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of `read_labelled` in the options of a command."""
    names = ("positive", "text_field", "label_field", "group_field", "split", "limit")
    return {name: options[name] for name in names}


def tune_options(task: str) -> Callable[[Command], Command]:
    """How the model itself is trained, with the paper's values as defaults."""
    paper = PAPER[task]
    lora = paper.lora or LoraSettings()

    def number(name: str, value: int | float, text: str) -> Callable[[Command], Command]:
        return click.option(name, default=value, show_default=True, help=text)

    def decorate(command: Command) -> Command:
        for option in (
            click.option("--gradient-checkpointing", is_flag=True, help="Less memory, slower."),
            number("--save-every", paper.save_every, "Steps between checkpoints."),
            number("--weight-decay", paper.weight_decay, "Of the optimiser (AdamW)."),
            number("--warmup", paper.warmup, "Share of steps in which the rate rises."),
            click.option(
                "--schedule",
                type=click.Choice(["linear", "cosine"]),
                default=paper.schedule,
                show_default=True,
                help="How the learning rate falls.",
            ),
            number("--lora-dropout", lora.dropout, "Dropout of the adapters."),
            number("--lora-alpha", lora.alpha, "Adapters are scaled by alpha / rank."),
            number("--lora-rank", lora.rank, "Rank of the adapters."),
            number("--micro-batch", paper.micro_batch, "Samples in memory at once."),
            number("--batch-size", paper.batch_size, "Samples of one step."),
            number("--learning-rate", paper.learning_rate, "The highest."),
            number("--epochs", paper.epochs, "Passes over the data."),
            number("--max-tokens", paper.max_tokens, "Texts are cut here."),
            click.option("--control", is_flag=True, help="Also train on shuffled labels."),
            click.option("--full", is_flag=True, help="Train all weights instead of adapters."),
            seed_option,
        ):
            command = option(command)
        return command

    return decorate


def train_options(task: str) -> Callable[[Command], Command]:
    """A head alone, adapters, or all weights."""

    def decorate(command: Command) -> Command:
        command = tune_options(task)(command)
        for option in (
            click.option(
                "--inverse-l2",
                default=1e-3,
                show_default=True,
                help="With --head-only: scikit-learn's C.",
            ),
            click.option(
                "--pooling",
                type=click.Choice(["mean", "last"]),
                default="mean",
                show_default=True,
                help="With --head-only: mean state of the words, or that of the last token.",
            ),
            click.option(
                "--layer",
                type=int,
                help="With --head-only: 0-based decoder layer; the middle one if none.",
            ),
            click.option(
                "--head-only", is_flag=True, help="Train only a head; the model stays frozen."
            ),
        ):
            command = option(command)
        return command

    return decorate


def check_method(options: Mapping[str, Any]) -> None:
    """Refuse options that the chosen way of training would ignore."""
    from click.core import ParameterSource

    context = click.get_current_context()
    ignored, way = (_TUNE, "not with") if options["head_only"] else (_HEAD, "only with")
    for name in ignored:
        if context.get_parameter_source(name) == ParameterSource.COMMANDLINE:
            raise click.UsageError(f"--{name.replace('_', '-')} goes {way} --head-only")


def tune_run(task: str, output: Path, options: Mapping[str, Any]) -> TuneRun:
    """The run that the options of `tune_options` ask for."""
    lora = LoraSettings(options["lora_rank"], options["lora_alpha"], options["lora_dropout"])
    names = [field.name for field in fields(TuneSettings) if field.name in options]
    settings = TuneSettings(
        lora=None if options["full"] else lora,
        cut=PAPER[task].cut,
        **{name: options[name] for name in names},
    )
    return TuneRun(output, settings, options["seeds"], options["control"])


def read_settings(lm: Any, options: Mapping[str, Any], cut: Any) -> Any:
    """What of the model a head reads."""
    from facsynth.tasks.vectors import ReadSettings, middle_layer

    layer = middle_layer(lm) if options["layer"] is None else options["layer"]
    return ReadSettings(layer, options["pooling"], options["max_tokens"], cut)


def load_trained_model(config: Mapping[str, Any], options: dict[str, Any], progress: Any) -> Any:
    """The model that was trained on, unless --model names another place of it."""
    from facsynth.cli.load import load_model

    return load_model({**options, "model": options["model"] or config["model"]}, progress)


def evaluate_command(
    task: str,
    shown: Mapping[str, str],
    tables: Mapping[str, str],
    *,
    read: Callable[[str, Mapping[str, Any]], Any],
    evaluate: Callable[..., dict[str, Any]],
    folder: Path,
    data: str,
    options: dict[str, Any],
) -> None:
    """Read, score, keep and print, which is the same for every task.

    Args:
        task: Whose folder it must be.
        shown: Keys of the result in the first table, by their titles.
        tables: Keys of rows that get a table of their own, by its title.
        read: The data, by the options of the command.
        evaluate: Scores it.
        folder: What was trained.
        data: What is read.
        options: Of the command.
    """
    from facsynth.cli.show import RichProgress
    from facsynth.tasks.folder import open_task

    trained = open_task(folder, task)
    found = read(data, options)
    progress = RichProgress()
    lm = load_trained_model(trained.config, options, progress)
    row = evaluate(trained, found, lm, allow_overlap=options["allow_overlap"], progress=progress)
    finish(row, folder, data, options["as_json"], shown)
    for title, key in tables.items():
        if row[key] and not options["as_json"]:
            print_rows(title, row[key])


def evaluate_options(command: Command) -> Command:
    """Folder and data of an evaluation, and where its model runs."""
    for option in (
        json_option,
        model_options,
        allow_overlap_option,
        rows_options,
        click.argument("data", metavar="FILE"),
        click.argument("folder", metavar="DIR", type=click.Path(path_type=Path)),
    ):
        command = option(command)
    return command


def finish(
    row: dict[str, Any], folder: Path, data: str, as_json: bool, shown: Mapping[str, str]
) -> None:
    """Keep the results in the folder and print them."""
    from facsynth.cli.show import print_json, print_table
    from facsynth.data.write import write_json

    write_json({"data": data, **row}, folder / f"evaluation-{Path(data).name}.json")
    if as_json:
        print_json(row)
    else:
        print_table(data, ("measure", "value"), [(title, row[key]) for title, key in shown.items()])
    if row["overlap"]["n"]:
        click.echo(
            f"Note: {row['overlap']['n']} samples are near-copies of training data", err=True
        )


def print_rows(title: str, rows: Sequence[Mapping[str, Any]]) -> None:
    """A table of rows that share their keys."""
    from facsynth.cli.show import print_table

    print_table(title, tuple(rows[0]), [tuple(row.values()) for row in rows])
