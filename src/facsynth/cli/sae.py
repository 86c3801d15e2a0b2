"""`fac sae`: train, evaluate, info, convert, profile, random."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from facsynth.cli.from_settings import settings_options
from facsynth.cli.options import (
    data_options,
    json_option,
    model_options,
    output_option,
    score_option,
    unseeded_data_options,
)
from facsynth.cli.sae_profile import max_length_option, profile
from facsynth.cli.sections import SectionedGroup
from facsynth.errors import DataError
from facsynth.models.settings import ModelSettings
from facsynth.sae.formats.options import ReadOptions
from facsynth.sae.train.settings import RECIPES, TrainSettings

if TYPE_CHECKING:
    from contextlib import ExitStack

    from facsynth.models.lm import LanguageModel
    from facsynth.progress import Progress
    from facsynth.sae.train.data import ReadStates
    from facsynth.sae.train.ranks import Ranks

save_dtype_option = click.option(
    "--save-dtype",
    type=click.Choice(["float32", "float64", "bfloat16", "float16"]),
    default="float32",
    show_default=True,
    help="Precision of the saved matrices.",
)


@click.group(cls=SectionedGroup)
def sae() -> None:
    """Train, evaluate, describe and convert sparse autoencoders."""


sae.add_command(profile)


@sae.command()
@click.argument("data", nargs=-1, required=True)
@output_option("Folder of the SAE, its checkpoint and the held-out samples.")
@click.option(
    "--layer", type=int, required=True, help="0-based decoder layer whose output is read."
)
@settings_options(TrainSettings, "settings", presets=RECIPES)
@click.option(
    "--devices",
    help="Read the texts with a process for each GPU (`all`), or for the devices named, or with a "
    "number of processes on the CPU, while the SAE is trained on --device.",
)
@click.option("--holdout", default=0.05, show_default=True, help="Share of samples held out.")
@max_length_option(512)
@save_dtype_option
@model_options
@score_option
@unseeded_data_options
def train(
    data: tuple[str, ...],
    output: Path,
    layer: int,
    settings: TrainSettings,
    model: ModelSettings,
    holdout: float,
    max_length: int,
    **options: Any,
) -> None:
    """Train an SAE on the residual stream that DATA causes at one layer.

    With --devices several processes read the texts for the one that trains. With torchrun each
    process reads a share of the texts and trains, and the result is that of one:
    torchrun --nproc-per-node 2 -m facsynth sae train DATA ...
    """
    from facsynth.cli.load import check_model_layer, check_sources, load_samples

    check_sources(model)
    reading = replace(options["reading"], random_seed=settings.random_seed)
    samples = load_samples(data, reading, output=output)

    from contextlib import ExitStack

    from facsynth.data.write import sample_row, write_jsonl
    from facsynth.folders import hold_folder
    from facsynth.models.lm import named_dtype
    from facsynth.models.tokens import tokenize_samples
    from facsynth.sae.files import save_sae
    from facsynth.sae.train.ranks import open_ranks
    from facsynth.sae.train.train import split_holdout, train_sae

    used, held_out = split_holdout(samples, share=holdout)
    check_model_layer(model, layer)
    with open_ranks() as ranks, ExitStack() as held:
        progress = _first_rank_progress(ranks)
        if ranks.number == 0:
            held.enter_context(hold_folder(output))
        if ranks.number == 0:
            write_jsonl((sample_row(sample) for sample in held_out), output / "heldout.jsonl")
        lm = _load_on_each_rank(model, ranks, progress)
        texts = tokenize_samples(used, lm.tokenizer, score=options["score"], max_length=max_length)
        progress.say(f"{sum(t.n_scored for t in texts):,} tokens in {len(texts):,} samples")
        trained = train_sae(
            lm,
            texts,
            layer=layer,
            settings=settings,
            checkpoints=output,
            ranks=ranks,
            read=_readers(options["devices"], model, lm, layer, ranks, held),
            progress=progress,
        )
        if ranks.number == 0:
            save_sae(trained, output, dtype=named_dtype(options["save_dtype"]))
        progress.say(
            f"SAE written to {output}; measure it: "
            f"fac sae evaluate {output} {output / 'heldout.jsonl'}"
        )


def _readers(
    devices: str | None,
    model: ModelSettings,
    lm: "LanguageModel",
    layer: int,
    ranks: "Ranks",
    held: "ExitStack",
) -> "ReadStates | None":
    """What reads texts in processes of their own, or None; `held` ends them."""
    from facsynth.scale.devices import find_devices
    from facsynth.scale.states import states_from

    if devices is None:
        return None
    if ranks.count > 1:
        raise DataError("--devices and torchrun do not go together; choose one")
    return held.enter_context(states_from(find_devices(devices), model, lm, layer))


def _first_rank_progress(ranks: "Ranks") -> "Progress":
    """Bars of rank 0; the others are silent."""
    from facsynth.cli.show import RichProgress
    from facsynth.progress import SILENT

    return SILENT if ranks.number else RichProgress()


def _load_on_each_rank(
    model: ModelSettings, ranks: "Ranks", progress: "Progress"
) -> "LanguageModel":
    """The language model, by rank 0 first, since that may have to convert or download it."""
    import torch

    from facsynth.cli.load import load_model

    signal = torch.zeros(
        1, device="cuda" if ranks.count > 1 and torch.cuda.is_available() else "cpu"
    )
    if ranks.number:
        ranks.total(signal)
    lm = load_model(model, progress)
    if not ranks.number:
        ranks.total(signal)
    return lm


@sae.command()
@click.argument("folder", metavar="SAE")
@click.argument("data")
@max_length_option(512)
@click.option(
    "--loss-tokens", default=50_000, show_default=True, help="Tokens for the cross-entropies."
)
@model_options
@score_option
@data_options
@json_option
def evaluate(
    folder: str,
    data: str,
    max_length: int,
    loss_tokens: int,
    model: ModelSettings,
    as_json: bool,
    **options: Any,
) -> None:
    """Measure SAE on held-out DATA: variance, sparsity, dead features, loss recovered."""
    from facsynth.cli.load import check_sources, load_pair, load_samples

    check_sources(model, [folder])
    samples = load_samples(data, options["reading"])

    from facsynth.cli.show import RichProgress, show
    from facsynth.models.tokens import tokenize_samples
    from facsynth.sae.evaluate import evaluate_sae

    progress = RichProgress()
    lm, loaded = load_pair(model, folder, progress)
    texts = tokenize_samples(samples, lm.tokenizer, score=options["score"], max_length=max_length)
    quality = evaluate_sae(lm, loaded, texts, max_loss_tokens=loss_tokens, progress=progress)
    show(quality, as_json=as_json, read=samples.report.row())


@sae.command()
@click.argument("source", metavar="SAE", default="default")
@json_option
def info(source: str, as_json: bool) -> None:
    """Show size, gate, layer, model and files of SAE, or of the embedded one.

    SAE is a folder or a file in any format that is read, a Hub repository (owner/name,
    owner/name/folder@revision), saelens:RELEASE/ID, or default.
    """
    from facsynth.cli.show import show
    from facsynth.sae.describe import describe_sae

    show(describe_sae(source), as_json=as_json)


@sae.command()
@click.argument("source", metavar="SAE")
@click.argument("target", metavar="OUT", type=click.Path(path_type=Path))
@settings_options(ReadOptions, "options")
@save_dtype_option
def convert(source: str, target: Path, options: ReadOptions, save_dtype: str) -> None:
    """Convert SAE from another format to OUT, a folder in SAELens' layout.

    Formats are SAELens (all versions), the paper's .pth, sparsify, dictionary_learning, Gemma
    Scope 1 and 2, Llama Scope, Qwen-Scope and Goodfire; pickles are read without executing them.
    SAE is a folder or a file, a Hub repository (owner/name/folder@revision) or
    saelens:RELEASE/ID.
    """
    from facsynth.models.lm import named_dtype
    from facsynth.sae.files import save_sae
    from facsynth.sae.formats.layouts import read_sae
    from facsynth.sae.sources import find_sae

    save_sae(read_sae(find_sae(source), options), target, dtype=named_dtype(save_dtype))
    click.echo(f"SAE written to {target}", err=True)


@sae.command()
@click.argument("source", metavar="SAE")
@output_option("Folder of the control.")
@click.option("--random-seed", default=0, show_default=True, help="Random seed of the directions.")
def random(source: str, output: Path, random_seed: int) -> None:
    """Write a control: an SAE with gate, width and biases of SAE, and random directions.

    SAE is anything that --sae accepts. A finding that the control shares is not due to training.
    `fac transfer --random` reads the control's feature table.
    """
    from facsynth.sae.files import load_sae, save_sae
    from facsynth.sae.random import random_directions

    save_sae(random_directions(load_sae(source), random_seed=random_seed), output)
    click.echo(f"random directions written to {output}", err=True)
