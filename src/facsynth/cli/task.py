"""`fac task`: train and evaluate what the data are for."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

from facsynth.cli.options import json_option, model_options, output_option
from facsynth.cli.task_compare import compare
from facsynth.cli.task_steering import steering

Command = Callable[..., Any]


@click.group()
def task() -> None:
    """Train and evaluate heads and steering vectors on a frozen model."""


@task.group()
def toxicity() -> None:
    """Is a text toxic? AUPRC of a linear head on hidden states."""


@task.group()
def reward() -> None:
    """Which answer is better? Accuracy of a linear Bradley-Terry head on hidden states."""


task.add_command(steering)
task.add_command(compare)


def _head_options(max_tokens: int) -> Callable[[Command], Command]:
    def decorate(command: Command) -> Command:
        for option in (
            click.option("--inverse-l2", default=1e-3, show_default=True, help="scikit-learn's C."),
            click.option(
                "--seed",
                "seeds",
                multiple=True,
                type=int,
                default=(42, 43, 44),
                show_default=True,
                help="A head for each seed, where there is something to draw; repeatable.",
            ),
            click.option(
                "--max-tokens", default=max_tokens, show_default=True, help="Texts are cut here."
            ),
            click.option(
                "--pooling",
                type=click.Choice(["mean", "last"]),
                default="mean",
                show_default=True,
                help="Mean state of the words, or state of the last token.",
            ),
            click.option(
                "--layer", type=int, help="0-based decoder layer; the middle one if none."
            ),
            click.option(
                "--head-only", is_flag=True, help="Train only a head; the model stays frozen."
            ),
        ):
            command = option(command)
        return command

    return decorate


def _rows_options(command: Command) -> Command:
    for option in (
        click.option("--limit", type=int, help="Read only the first so many rows."),
        click.option(
            "--split", default="train", show_default=True, help="Split of a Hub data set."
        ),
    ):
        command = option(command)
    return command


def _label_options(command: Command) -> Command:
    for option in (
        click.option("--positive", help="Label of the toxic class, where it is unclear."),
        click.option("--group-field", help="Field with what a sample tests (functionality)."),
        click.option("--label-field", help="Field with the sample's class."),
        click.option("--text-field", help="Read this field as plain text."),
    ):
        command = option(command)
    return command


_allow_overlap = click.option(
    "--allow-overlap", is_flag=True, help="Go on when evaluation data stand in the training data."
)


@toxicity.command("train")
@click.argument("data", metavar="FILE")
@output_option("Folder of the heads.")
@click.option("--safe", help="Harmless samples to mix in; their labels are not read.")
@click.option("--n-safe", default=1000, show_default=True, help="Safe samples for each seed.")
@click.option("--all-positive", is_flag=True, help="Every sample of FILE is toxic.")
@click.option("--max-per-class", type=int, help="Draw at most so many samples of each class.")
@_head_options(512)
@_label_options
@_rows_options
@model_options
def train_toxicity_heads(data: str, output: Path, **options: Any) -> None:
    """Fit heads on the labelled texts of FILE."""
    from facsynth.cli.load import load_model
    from facsynth.cli.show import RichProgress
    from facsynth.errors import DataError
    from facsynth.tasks.folder import save_task
    from facsynth.tasks.labelled import read_labelled
    from facsynth.tasks.metrics import check_classes
    from facsynth.tasks.toxicity import ToxicitySettings, train_toxicity

    _check_head_only(options)
    if options["all_positive"] and not options["safe"]:
        raise DataError("--all-positive leaves no harmless samples; name some with --safe")
    texts = read_labelled(data, **_label_reading(options), all_positive=options["all_positive"])
    if not options["safe"]:
        check_classes(texts.positive, data)  # before a model is loaded
    safe = read_labelled(options["safe"], all_positive=True) if options["safe"] else None
    progress = RichProgress()
    lm = load_model(options, progress)
    settings = ToxicitySettings(
        read=_read_settings(lm, options, "end"),
        seeds=options["seeds"],
        n_safe=options["n_safe"],
        max_per_class=options["max_per_class"],
        inverse_l2=options["inverse_l2"],
    )
    save_task(output, train_toxicity(texts, lm, settings, safe=safe, progress=progress))
    progress.say(f"heads in {output}")


@toxicity.command("evaluate")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.argument("data", metavar="FILE")
@_label_options
@_rows_options
@_allow_overlap
@model_options
@json_option
def evaluate_toxicity_heads(folder: Path, data: str, as_json: bool, **options: Any) -> None:
    """AUPRC of the heads in DIR on the labelled texts of FILE."""
    from facsynth.cli.show import RichProgress
    from facsynth.tasks.folder import open_task
    from facsynth.tasks.labelled import read_labelled
    from facsynth.tasks.metrics import check_classes
    from facsynth.tasks.toxicity import evaluate_toxicity

    trained = open_task(folder, "toxicity")
    texts = read_labelled(data, **_label_reading(options))
    check_classes(texts.positive, data)
    progress = RichProgress()
    lm = load_trained_model(trained.config, options, progress)
    row = evaluate_toxicity(
        trained, texts, lm, allow_overlap=options["allow_overlap"], progress=progress
    )
    finish(row, folder, data, as_json, _TOXICITY_ROWS)
    if not as_json and row["groups"]:
        _print_rows("By functionality", row["groups"])


@toxicity.command("detect")
@click.argument("train", metavar="TRAIN_TABLE", type=click.Path(path_type=Path))
@click.argument("test", metavar="TEST_TABLE", type=click.Path(path_type=Path))
@click.option("--features", "n_features", default=10, show_default=True, help="Features that vote.")
@click.option("--threshold", default=1.0, show_default=True, help="A feature is active above this.")
@click.option("--positive", help="Label of the toxic class, where it is unclear.")
@json_option
def detect(train: Path, test: Path, as_json: bool, **options: Any) -> None:
    """A readable baseline: a few features of labelled feature tables vote.

    The features go with the toxic class of TRAIN_TABLE, and weigh by their log-odds ratios there.
    Tables with labels come from `fac extract --label-field`.
    """
    import numpy as np

    from facsynth.cli.show import print_json, print_table
    from facsynth.store.table import check_same_features, open_table
    from facsynth.tasks.detector import evaluate_detector, fit_detector
    from facsynth.tasks.labelled import positive_labels

    one, other = open_table(train), open_table(test)
    check_same_features(one, other)
    flags = [
        positive_labels(table.samples(), str(table.folder), positive=options["positive"])
        for table in (one, other)
    ]
    detector = fit_detector(
        one.activations(),
        flags[0],
        threshold=options["threshold"],
        n_features=options["n_features"],
    )
    row = evaluate_detector(detector, other.activations(), flags[1], rng=np.random.default_rng(0))
    if as_json:
        print_json(row)
        return
    keys = ("auprc", "auroc", "f1", "precision", "recall", "prevalence", "n_samples")
    print_table(f"Detector on {test}", ("measure", "value"), [(k, row[k]) for k in keys])
    _print_rows("Votes", row["votes"])


@reward.command("train")
@click.argument("data", metavar="FILE")
@output_option("Folder of the heads.")
@click.option("--max-pairs", type=int, help="Draw at most so many pairs for each seed.")
@_head_options(1024)
@_rows_options
@model_options
def train_reward_heads(data: str, output: Path, **options: Any) -> None:
    """Fit heads on the preference pairs of FILE.

    FILE may hold chosen and rejected answers (HH-RLHF and RewardBench too), or be RM-Bench or
    LLMBar.
    """
    from facsynth.cli.load import load_model
    from facsynth.cli.show import RichProgress
    from facsynth.tasks.comparisons import read_comparisons
    from facsynth.tasks.folder import save_task
    from facsynth.tasks.reward import RewardSettings, train_reward

    _check_head_only(options)
    pairs = read_comparisons(data, split=options["split"], limit=options["limit"])
    progress = RichProgress()
    lm = load_model(options, progress)
    settings = RewardSettings(
        read=_read_settings(lm, options, "start"),
        seeds=options["seeds"],
        max_pairs=options["max_pairs"],
        inverse_l2=options["inverse_l2"],
    )
    save_task(output, train_reward(pairs, lm, settings, progress=progress))
    progress.say(f"heads in {output}")


@reward.command("evaluate")
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path))
@click.argument("data", metavar="FILE")
@click.option("--subset-field", help="Field that names the part; else `subset` or `domain`.")
@_rows_options
@_allow_overlap
@model_options
@json_option
def evaluate_reward_heads(folder: Path, data: str, as_json: bool, **options: Any) -> None:
    """Accuracy of the heads in DIR on the preference pairs of FILE."""
    from facsynth.cli.show import RichProgress
    from facsynth.tasks.comparisons import read_comparisons
    from facsynth.tasks.folder import open_task
    from facsynth.tasks.reward import evaluate_reward

    trained = open_task(folder, "reward")
    pairs = read_comparisons(
        data,
        subset_field=options["subset_field"],
        split=options["split"],
        limit=options["limit"],
    )
    progress = RichProgress()
    lm = load_trained_model(trained.config, options, progress)
    row = evaluate_reward(
        trained, pairs, lm, allow_overlap=options["allow_overlap"], progress=progress
    )
    finish(row, folder, data, as_json, _REWARD_ROWS)
    if not as_json and row["subsets"]:
        _print_rows("By subset", row["subsets"])


_TOXICITY_ROWS = {
    "AUPRC": "auprc",
    "  standard deviation over seeds": "auprc_sd",
    "  of a constant score": "prevalence",
    "  of heads trained on shuffled labels": "shuffled_auprc",
    "AUROC": "auroc",
    "  of the number of words alone": "length_auroc",
    "samples": "n_samples",
}
_REWARD_ROWS = {
    "accuracy": "accuracy",
    "  standard deviation over seeds": "accuracy_sd",
    "  of preferring the longer answer": "longer_accuracy",
    "  of heads trained on shuffled pairs": "shuffled_accuracy",
    "pairs": "n_pairs",
}


def _check_head_only(options: Mapping[str, Any]) -> None:
    from facsynth.errors import DataError

    if not options["head_only"]:
        raise DataError("only heads on a frozen model are trained so far; pass --head-only")


def _read_settings(lm: Any, options: Mapping[str, Any], cut: Any) -> Any:
    from facsynth.tasks.vectors import ReadSettings, middle_layer

    layer = middle_layer(lm) if options["layer"] is None else options["layer"]
    return ReadSettings(layer, options["pooling"], options["max_tokens"], cut)


def _label_reading(options: Mapping[str, Any]) -> dict[str, Any]:
    names = ("positive", "text_field", "label_field", "group_field", "split", "limit")
    return {name: options[name] for name in names}


def load_trained_model(config: Mapping[str, Any], options: dict[str, Any], progress: Any) -> Any:
    """The model that was trained on, unless --model names another place of it."""
    from facsynth.cli.load import load_model

    return load_model({**options, "model": options["model"] or config["model"]}, progress)


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


def _print_rows(title: str, rows: list[dict[str, Any]]) -> None:
    from facsynth.cli.show import print_table

    print_table(title, tuple(rows[0]), [tuple(row.values()) for row in rows])
