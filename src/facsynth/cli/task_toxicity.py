"""`fac task toxicity`."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import click

from facsynth.cli.options import json_option, model_options, output_option
from facsynth.cli.task_options import (
    check_method,
    evaluate_command,
    evaluate_options,
    label_options,
    label_reading,
    print_rows,
    read_settings,
    rows_options,
    train_options,
    tune_run,
)

_SHOWN = {
    "AUPRC": "auprc",
    "  standard deviation over seeds": "auprc_sd",
    "  of a constant score": "prevalence",
    "  trained on shuffled labels": "shuffled_auprc",
    "AUROC": "auroc",
    "  of the number of words alone": "length_auroc",
    "samples": "n_samples",
}


@click.group()
def toxicity() -> None:
    """Is a text toxic? AUPRC of a head on hidden states, or of a tuned model."""


@toxicity.command("train")
@click.argument("data", metavar="FILE")
@output_option("Folder of what is trained.")
@click.option("--safe", help="Harmless samples to mix in; their labels are not read.")
@click.option("--n-safe", default=1000, show_default=True, help="Safe samples for each seed.")
@click.option("--all-positive", is_flag=True, help="Every sample of FILE is toxic.")
@click.option("--max-per-class", type=int, help="Draw at most so many samples of each class.")
@train_options("toxicity")
@label_options
@rows_options
@model_options
def train_toxicity_model(data: str, output: Path, **options: Any) -> None:
    """Train on the labelled texts of FILE: adapters (LoRA), with --full all weights.

    A training that was stopped goes on when the same command is given again.
    """
    from facsynth.cli.load import load_model
    from facsynth.cli.show import RichProgress
    from facsynth.errors import DataError
    from facsynth.tasks.labelled import read_labelled
    from facsynth.tasks.metrics import check_classes

    check_method(options)
    if options["all_positive"] and not options["safe"]:
        raise DataError("--all-positive leaves no harmless samples; name some with --safe")
    texts = read_labelled(data, **label_reading(options), all_positive=options["all_positive"])
    if not options["safe"]:
        check_classes(texts.positive, data)  # before a model is loaded
    safe = read_labelled(options["safe"], all_positive=True) if options["safe"] else None
    progress = RichProgress()
    load = partial(load_model, options, progress)
    if options["head_only"]:
        _train_heads(texts, safe, load(), output, options, progress)
    else:
        from facsynth.tasks.tune import tune_toxicity

        drawn = {name: options[name] for name in ("n_safe", "max_per_class")}
        run = tune_run("toxicity", output, options)
        tune_toxicity(texts, load, run, safe=safe, **drawn, progress=progress)
    progress.say(f"trained in {output}")


def _train_heads(
    texts: Any, safe: Any, lm: Any, output: Path, options: Mapping[str, Any], progress: Any
) -> None:
    from facsynth.tasks.folder import save_task
    from facsynth.tasks.toxicity import ToxicitySettings, train_toxicity

    settings = ToxicitySettings(
        read=read_settings(lm, options, "end"),
        seeds=options["seeds"],
        n_safe=options["n_safe"],
        max_per_class=options["max_per_class"],
        inverse_l2=options["inverse_l2"],
    )
    save_task(output, train_toxicity(texts, lm, settings, safe=safe, progress=progress))


@toxicity.command("evaluate")
@label_options
@evaluate_options
def evaluate_toxicity_model(folder: Path, data: str, **options: Any) -> None:
    """AUPRC of what was trained in DIR on the labelled texts of FILE."""
    from facsynth.tasks.labelled import read_labelled
    from facsynth.tasks.metrics import check_classes
    from facsynth.tasks.toxicity import evaluate_toxicity

    def read(source: str, asked: Mapping[str, Any]) -> Any:
        texts = read_labelled(source, **label_reading(asked))
        check_classes(texts.positive, source)
        return texts

    evaluate_command(
        "toxicity",
        _SHOWN,
        {"By functionality": "groups"},
        read=read,
        evaluate=evaluate_toxicity,
        folder=folder,
        data=data,
        options=options,
    )


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

    from facsynth.cli.load import load_tables
    from facsynth.cli.show import print_json, print_table
    from facsynth.tasks.detector import evaluate_detector, fit_detector
    from facsynth.tasks.labelled import positive_labels

    one, other = load_tables((train, test))
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
    print_rows("Votes", row["votes"])
