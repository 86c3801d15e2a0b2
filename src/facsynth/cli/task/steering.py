"""`fac task steering`."""

from pathlib import Path
from typing import Any

import click

from facsynth.cli.from_settings import settings_options
from facsynth.cli.options import model_options, output_option, plot_option
from facsynth.cli.task.options import evaluate_options, finish, loader, rows_options
from facsynth.tasks.steering.settings import ControlSettings, SteeringSettings


@click.group()
def steering() -> None:
    """Does a vector steer the answers? Control rate of contrastive activation addition."""


@steering.command()
@click.argument("data", metavar="FILE")
@output_option("Folder of the vectors.")
@click.option(
    "--sae", help="Make the vector of this SAE's features; `default` is the embedded SAE."
)
@settings_options(SteeringSettings, "settings")
@rows_options
@model_options
def train(
    data: str,
    output: Path,
    sae: str | None,
    settings: SteeringSettings,
    split: str,
    limit: int | None,
    **options: Any,
) -> None:
    """Make steering vectors from the questions with two answers in FILE.

    Rows have `question` with options on lines such as "(A) Yes", `answer_matching_behavior` and
    `answer_not_matching_behavior`. Vectors point to the matching answer; the model is not trained.
    It runs in float32 unless --dtype says otherwise.
    """
    from facsynth.cli.show import RichProgress
    from facsynth.tasks.steering.data import read_items
    from facsynth.tasks.steering.train import train_steering

    items = read_items(data, split=split, limit=limit)
    features = None
    if sae:
        from facsynth.sae.files import load_sae

        features = load_sae(sae)
    progress = RichProgress()
    load = loader(_precise(options), progress)
    found = train_steering(items, load, output, settings, sae=features, progress=progress).config
    progress.say(
        f"vectors in {output}; layer {found['layer']} at strength "
        f"{found['strengths'][str(found['layer'])]:g} steers the held-out questions best"
    )


@steering.command()
@click.option(
    "--demonstrations", help="Questions for the prompt-only control, such as the training data."
)
@settings_options(ControlSettings, "settings")
@plot_option
@evaluate_options
def evaluate(
    folder: Path,
    data: str,
    demonstrations: str | None,
    settings: ControlSettings,
    plot: Path | None,
    allow_overlap: bool,
    as_json: bool,
    **options: Any,
) -> None:
    """Measure the steering control rate of the vectors in DIR on the questions of FILE.

    It is the share answered with the behaviour in both orders of the options at multiplier +1,
    minus that at -1, at the layer that steered training questions best.
    """
    from facsynth.cli.show import RichProgress
    from facsynth.report.plots import check_plot_path, write_chart
    from facsynth.report.steering_chart import layer_chart
    from facsynth.tasks.folder import open_task
    from facsynth.tasks.steering.data import read_items
    from facsynth.tasks.steering.evaluate import evaluate_steering

    if plot:
        check_plot_path(plot)
    trained = open_task(folder, "steering")
    items = read_items(data, **{name: options.pop(name) for name in ("split", "limit")})
    progress = RichProgress()
    result = evaluate_steering(
        trained,
        items,
        loader(_precise(options), progress, trained),
        settings,
        demonstrations=read_items(demonstrations) if demonstrations else (),
        allow_overlap=allow_overlap,
        progress=progress,
    )
    finish(result, folder, data, as_json)
    if plot:
        write_chart(layer_chart(result.layers), plot)


def _precise(options: dict[str, Any]) -> dict[str, Any]:
    """float32 where no precision is named: in bfloat16, logits of 16 and more differ by 1/8."""
    return {**options, "dtype": "float32" if options["dtype"] == "auto" else options["dtype"]}
