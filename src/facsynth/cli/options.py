"""Options that several commands share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from facsynth.chat.settings import EndpointSettings
from facsynth.cli.from_settings import settings_options
from facsynth.models.settings import ModelSettings

__all__ = [
    "data_options",
    "endpoint_options",
    "json_option",
    "model_options",
    "output_option",
    "plot_option",
    "relevant_option",
    "score_option",
    "threshold_option",
]

Command = Callable[..., Any]

model_options = settings_options(ModelSettings, "model")

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON for machines.")

threshold_option = click.option(
    "--threshold",
    default=1.0,
    show_default=True,
    help="Activation above which a feature is active, in SAE units.",
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


def data_options(command: Command) -> Command:
    """How rows of a data set are read."""
    for option in (
        click.option("--limit", type=int, help="Read only the first so many samples."),
        click.option(
            "--split", default="train", show_default=True, help="Split of a Hub data set."
        ),
        click.option("--label-field", help="Field with the sample's class."),
        click.option("--text-field", help="Read this field as plain text."),
    ):
        command = option(command)
    return command


def endpoint_options(command: Command) -> Command:
    """An LLM at an endpoint, with its prices and its limits (the fields of `Policy`).

    How it is talked to arrives as `endpoint`, an `EndpointSettings`.
    """
    without = ("attempt_timeout_s", "max_attempts", "backoff_s", "grace_s")
    command = settings_options(EndpointSettings, "endpoint", without=without)(command)
    for option in (
        click.option("--dry-run", is_flag=True, help="Print the estimate and ask nothing."),
        click.option(
            "--max-failures",
            type=click.FloatRange(0, 1),
            default=0.5,
            show_default=True,
            help="Stop if a larger share of the replies is unusable.",
        ),
        click.option(
            "--price-out", default=0.0, show_default=True, help="Price of a million reply tokens."
        ),
        click.option(
            "--price-in", default=0.0, show_default=True, help="Price of a million prompt tokens."
        ),
        click.option("--budget-cost", type=float, help="Spending limit; requires prices."),
        click.option(
            "--budget-tokens", type=int, help="Token limit, prompts and replies together."
        ),
        click.option(
            "--budget-calls",
            type=int,
            help="Call limit; earlier runs, repeated and failed calls count too.",
        ),
        click.option(
            "--api-key-env",
            default="OPENAI_API_KEY",
            show_default=True,
            help="Environment variable with the key; may be unset for local servers.",
        ),
        click.option(
            "--api-base",
            default="https://api.openai.com/v1",
            show_default=True,
            help="Address of the endpoint, usually up to /v1.",
        ),
        click.option("--chat-model", help="LLM to ask, at an OpenAI-compatible endpoint."),
    ):
        command = option(command)
    return command
