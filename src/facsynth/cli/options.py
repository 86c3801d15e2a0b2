"""Options that several commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from facsynth.chat.settings import Generator
from facsynth.cli.from_settings import settings_options
from facsynth.data.settings import ReadSettings
from facsynth.models.settings import ModelSettings

__all__ = [
    "data_options",
    "endpoint_options",
    "example_option",
    "generator_options",
    "json_option",
    "model_options",
    "output_option",
    "plot_option",
    "relevant_option",
    "score_option",
    "threshold_option",
    "unseeded_data_options",
]

Command = Callable[..., Any]

model_options = settings_options(ModelSettings, "model")

data_options = settings_options(ReadSettings, "reading")
"""How rows of a data set are read."""

unseeded_data_options = settings_options(ReadSettings, "reading", without=("random_seed",))
"""The same for commands whose `--random-seed` serves the reading, too."""

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")

threshold_option = click.option(
    "--threshold",
    type=float,
    help="Activation above which a feature is active, in SAE units; by default the lowest quantile "
    "of the anchor's activations at which random samples leave room, or of the tables' where there "
    "is no anchor.",
)

relevant_option = click.option(
    "--relevant",
    type=click.Path(path_type=Path, exists=True),
    help="Features that count: ids, or rows with feature_id, one per line.",
)


def _checked_plot(_context: click.Context, _option: click.Parameter, path: Path | None) -> Any:
    """The path as it is; refuses an ending that no chart has, before anything is measured."""
    if path:
        from facsynth.report.plots import check_plot_path

        check_plot_path(path)
    return path


plot_option = click.option(
    "--plot",
    type=click.Path(path_type=Path, dir_okay=False),
    callback=_checked_plot,
    help="Write the chart to this .html, .svg or .png file.",
)


def example_option(text: Callable[[], str]) -> Callable[[Command], Command]:
    """`--example`: print a recipe and stop, before any argument is asked for."""

    def print_example(context: click.Context, _option: click.Parameter, wanted: bool) -> None:
        if wanted:
            click.echo(text(), nl=False)
            context.exit()

    return click.option(
        "--example",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=print_example,
        help="Print a commented recipe and stop.",
    )


score_option = click.option(
    "--score",
    type=click.Choice(["all", "user", "assistant"]),
    default="all",
    show_default=True,
    help="Whose words are scored; the template never is.",
)


def output_option(what: str) -> Callable[[Command], Command]:
    """`-o`, with what is written there."""
    return click.option("-o", "--output", type=click.Path(path_type=Path), required=True, help=what)


_RARE = ("attempt_timeout_s", "max_attempts", "backoff_s", "grace_s")
"""Settings of an endpoint that recipes have and commands do not."""


def generator_options(*, without: tuple[str, ...]) -> Callable[[Command], Command]:
    """An LLM with its prices and limits, which the command gets as `generator`, and `--dry-run`."""
    dry_run = click.option("--dry-run", is_flag=True, help="Print the estimate and ask nothing.")
    rare = tuple(f"endpoint.{name}" for name in _RARE)
    options = settings_options(Generator, "generator", without=(*without, *rare))
    return lambda command: options(dry_run(command))


endpoint_options = generator_options(without=("model", "batch_size"))
"""Options of commands that only ask at endpoints."""
