"""`fac task steering`."""

from dataclasses import replace
from pathlib import Path
from typing import Literal

import click

from facsynth.cli.from_settings import settings_options
from facsynth.cli.options import plot_option
from facsynth.cli.sections import SectionedGroup
from facsynth.cli.task.options import Call, evaluate_command, train_command
from facsynth.tasks.steering.settings import ControlSettings, SteeringSettings

Matching = Literal["given", "other"]


_matching_option = click.option(
    "--matching",
    type=click.Choice(["given", "other"]),
    default="given",
    show_default=True,
    help="Answer that shows the behaviour: the one that FILE calls matching, or the other one, as "
    "in CAA's survival instinct.",
)


@click.group(cls=SectionedGroup)
def steering() -> None:
    """Does a vector steer the answers? Control rate of contrastive activation addition."""


@steering.command()
@click.option(
    "--sae", help="Make the vector of this SAE's features; `default` is the embedded SAE."
)
@_matching_option
@settings_options(SteeringSettings, "settings")
@train_command
def train(call: Call, sae: str | None, matching: Matching, settings: SteeringSettings) -> None:
    """Make steering vectors from the questions with two answers in FILE.

    Rows have `question` with options on lines such as "(A) Yes", `answer_matching_behavior` and
    `answer_not_matching_behavior`. Vectors point to the matching answer; the model is not trained.
    It runs in float32 unless --dtype says otherwise.
    """
    from facsynth.tasks.steering.data import read_items
    from facsynth.tasks.steering.train import train_steering

    items = read_items(call.data, matching=matching, **call.rows)
    features = None
    if sae:
        from facsynth.sae.files import load_sae

        features = load_sae(sae)
    load, progress = _precise(call).load, call.progress
    trained = train_steering(items, load, call.folder, settings, sae=features, progress=progress)
    config = trained.config
    best = "steers the held-out questions best" if config["n_sweep"] else "as given"
    strength = config["strengths"][str(config["layer"])]
    progress.say(f"layer {config['layer']} at strength {strength:g} {best}")


@steering.command()
@click.option(
    "--demonstrations", help="Questions for the prompt-only control, such as the training data."
)
@_matching_option
@settings_options(ControlSettings, "settings")
@plot_option
@evaluate_command("steering")
def evaluate(
    call: Call,
    demonstrations: str | None,
    matching: Matching,
    settings: ControlSettings,
    plot: Path | None,
    allow_overlap: bool,
) -> None:
    """Measure the steering control rate of the vectors in DIR on the questions of FILE.

    It is the share answered with the behaviour in both orders of the options at multiplier +1,
    minus that at -1, at the layer that steered training questions best. A warning says where FILE
    and the training questions seem to call opposite answers matching.
    """
    from facsynth.report.plots import layer_chart, write_chart
    from facsynth.tasks.steering.data import read_items
    from facsynth.tasks.steering.evaluate import evaluate_steering

    result = evaluate_steering(
        call.trained,
        read_items(call.data, matching=matching, **call.rows),
        _precise(call).load,
        settings,
        demonstrations=read_items(demonstrations, matching=matching) if demonstrations else (),
        allow_overlap=allow_overlap,
        progress=call.progress,
    )
    call.finish(result)
    if plot:
        write_chart(layer_chart(result["layers"]), plot)


def _precise(call: Call) -> Call:
    """float32 where no precision is named: in bfloat16, logits of 16 and more differ by 1/8."""
    if call.model.dtype != "auto":
        return call
    return replace(call, model=replace(call.model, dtype="float32"))
