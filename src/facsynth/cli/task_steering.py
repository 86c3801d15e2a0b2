"""`fac task steering`."""

from pathlib import Path
from typing import Any

import click

from facsynth.cli.options import json_option, model_options, output_option, plot_option


@click.group()
def steering() -> None:
    """Does a vector steer the answers? Control rate of contrastive activation addition."""


@steering.command("train")
@click.argument("data", metavar="FILE")
@output_option("Folder of the vectors.")
@click.option(
    "--layer",
    "layers",
    multiple=True,
    type=int,
    help="0-based decoder layer; repeatable. Without it five, from 3/8 to 7/8 of the depth.",
)
@click.option("--all-layers", is_flag=True, help="A vector for every layer.")
@click.option(
    "--seed",
    "seeds",
    multiple=True,
    type=int,
    default=(42, 43, 44),
    show_default=True,
    help="Vectors for each seed, where there is something to draw; repeatable.",
)
@click.option("--max-items", type=int, help="Draw at most so many questions for each seed.")
@click.option(
    "--scale",
    type=click.Choice(["residual", "difference", "unit"]),
    default="residual",
    show_default=True,
    help="Length at strength 1: of a median state of the layer, of the mean difference, or 1.",
)
@click.option(
    "--strength",
    "strengths",
    multiple=True,
    type=float,
    help="Lengths to try, in units of --scale; repeatable. Without it 0.02 to 0.8 states, or 1.",
)
@click.option(
    "--sweep-items",
    default=20,
    show_default=True,
    help="Questions kept out of the vectors, on which strength and layer are chosen.",
)
@click.option("--sae", help="Make the vector of this SAE's features; `default` is the embedded.")
@click.option(
    "--sae-features", default=10, show_default=True, help="Features that make the vector."
)
@click.option(
    "--both-orders/--given-order",
    default=True,
    show_default=True,
    help="Read questions also with their two answers exchanged.",
)
@click.option("--limit", type=int, help="Read only the first so many rows.")
@model_options
def train_vectors(data: str, output: Path, **options: Any) -> None:
    """Make steering vectors from the questions with two answers in FILE.

    Rows have `question` with options on lines such as "(A) Yes", `answer_matching_behavior` and
    `answer_not_matching_behavior`. Vectors point to the matching answer. Nothing of the model is
    trained. The model runs in float32 unless --dtype says otherwise.
    """
    from facsynth.cli.load import load_model
    from facsynth.cli.show import RichProgress
    from facsynth.sae.files import load_sae
    from facsynth.tasks.folder import save_task
    from facsynth.tasks.items import read_items
    from facsynth.tasks.steering import SteeringSettings, spread_layers, train_steering

    items = read_items(data, limit=options["limit"])
    progress = RichProgress()
    lm = load_model(_precise(options), progress)
    sae = None
    if options["sae"]:
        sae = load_sae(options["sae"], device=lm.device)
    layers = tuple(range(lm.n_layers)) if options["all_layers"] else options["layers"]
    settings = SteeringSettings(
        layers=layers or ((sae.config.layer,) if sae else spread_layers(lm.n_layers)),
        seeds=options["seeds"],
        max_items=options["max_items"],
        scale=options["scale"],
        strengths=options["strengths"],
        n_sweep=options["sweep_items"],
        both_orders=options["both_orders"],
        n_features=options["sae_features"],
    )
    trained = train_steering(items, lm, settings, sae=sae, progress=progress)
    save_task(output, trained)
    found = trained.config
    progress.say(
        f"vectors in {output}; layer {found['layer']} at strength "
        f"{found['strengths'][str(found['layer'])]:g} steers the kept-out questions best"
    )


@steering.command("evaluate")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.argument("data", metavar="FILE")
@click.option(
    "--random",
    "n_random",
    default=3,
    show_default=True,
    help="Random vectors of equal length for each layer.",
)
@click.option(
    "--demonstrations", help="Questions for the prompt-only control, such as those trained on."
)
@click.option("--n-shown", default=4, show_default=True, help="How many of them are shown.")
@click.option("--limit", type=int, help="Read only the first so many rows.")
@click.option(
    "--allow-overlap", is_flag=True, help="Go on when evaluation data stand in the training data."
)
@plot_option
@model_options
@json_option
def evaluate_vectors(
    folder: Path, data: str, plot: Path | None, as_json: bool, **options: Any
) -> None:
    """Steering control rate of the vectors in DIR on the questions of FILE.

    It is the share answered with the behaviour in both orders of the options at multiplier +1,
    minus that at -1, at the layer that steered training questions best.
    """
    from facsynth.cli.show import RichProgress, print_table
    from facsynth.cli.task_options import finish, load_trained_model
    from facsynth.report.plots import layer_chart, write_chart
    from facsynth.tasks.control import EvaluateSettings, evaluate_steering
    from facsynth.tasks.folder import open_task
    from facsynth.tasks.items import read_items

    trained = open_task(folder, "steering")
    items = read_items(data, limit=options["limit"])
    progress = RichProgress()
    lm = load_trained_model(trained.config, _precise(options), progress)
    named = options["demonstrations"]
    row = evaluate_steering(
        trained,
        items,
        lm,
        EvaluateSettings(n_random=options["n_random"], allow_overlap=options["allow_overlap"]),
        shown=read_items(named, limit=options["n_shown"]) if named else (),
        progress=progress,
    )
    finish(row, folder, data, as_json, _ROWS)
    if not as_json:
        base = row["base"]
        click.echo(
            f"Without steering: {base['robust']:.3f} robust, {base['consistent']:.3f} with one "
            f"answer in both orders, {base['letter_mass']:.3f} of the probability on the letters"
        )
        keys = ("layer", "strength", "scr", "scr_sd", "plain_scr", "balanced_scr")
        print_table("Control rate by layer", keys, [[r[k] for k in keys] for r in row["layers"]])
    if plot:
        write_chart(layer_chart(row["layers"]), plot)


_ROWS = {
    "steering control rate": "scr",
    "  standard deviation over seeds": "scr_sd",
    "  of random vectors": "random_scr",
    "  of vectors of shuffled answers": "shuffled_scr",
    "rate in the given order only": "plain_scr",
    "rate without the preference for a letter": "balanced_scr",
    "layer, chosen on training questions": "layer",
}


def _precise(options: dict[str, Any]) -> dict[str, Any]:
    """float32 where no precision is named: in bfloat16, logits of 16 and more differ by 1/8."""
    return {**options, "dtype": "float32" if options["dtype"] == "auto" else options["dtype"]}
