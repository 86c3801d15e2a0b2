"""`fac sae`: train, evaluate, info."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from facsynth.cli.options import (
    data_options,
    json_option,
    model_options,
    output_option,
    score_option,
)
from facsynth.cli.sae_profile import profile
from facsynth.cli.sae_random import random_sae

if TYPE_CHECKING:
    from facsynth.models.lm import LanguageModel
    from facsynth.progress import Progress
    from facsynth.sae.train.ranks import Ranks


save_dtype_option = click.option(
    "--save-dtype",
    type=click.Choice(["float32", "float64", "bfloat16", "float16"]),
    default="float32",
    show_default=True,
    help="Of the saved matrices.",
)


@click.group()
def sae() -> None:
    """Train, evaluate and look at sparse autoencoders."""


sae.add_command(profile)
sae.add_command(random_sae)


@sae.command()
@click.argument("data")
@output_option("Folder of the SAE, its checkpoint and the held-out samples.")
@click.option(
    "--layer", type=int, required=True, help="0-based decoder layer whose output is read."
)
@click.option(
    "--architecture",
    type=click.Choice(["topk", "batchtopk"]),
    default="topk",
    show_default=True,
    help="Keep k features of each token, or k on average over a batch.",
)
@click.option("--features", "n_features", default=4096, show_default=True, help="Width of the SAE.")
@click.option("--k", default=32, show_default=True, help="Features active per token.")
@click.option("--epochs", default=3, show_default=True, help="Passes over the tokens.")
@click.option("--batch-tokens", default=4096, show_default=True, help="Tokens per step.")
@click.option("--learning-rate", default=4e-3, show_default=True, help="Peak rate of Adam.")
@click.option("--encoder-norm", default=0.3, show_default=True, help="Of its rows at the start.")
@click.option(
    "--k-start", default=1.0, show_default=True, help="Start with so many times k, for 10 %."
)
@click.option(
    "--memory-gb",
    default=8.0,
    show_default=True,
    help="For activations of later epochs, per process.",
)
@click.option("--random-seed", default=0, show_default=True, help="Weights and shuffles.")
@click.option("--holdout", default=0.05, show_default=True, help="Share of samples kept out.")
@click.option("--max-length", default=512, show_default=True, help="Longer samples are cut here.")
@save_dtype_option
@model_options
@score_option
@data_options
def train(
    data: str, output: Path, layer: int, holdout: float, max_length: int, score: Any, **options: Any
) -> None:
    """Train an SAE on the residual stream that DATA causes at one layer.

    With several processes each reads a share of the texts, and the result is that of one:
    torchrun --nproc-per-node 2 -m facsynth sae train DATA ...
    """
    from facsynth.cli.load import load_samples
    from facsynth.data.write import sample_row, write_jsonl
    from facsynth.models.lm import named_dtype
    from facsynth.models.tokens import tokenize_samples
    from facsynth.sae.files import save_sae
    from facsynth.sae.train.ranks import open_ranks
    from facsynth.sae.train.train import TrainSettings, split_holdout, train_sae

    settings = TrainSettings(
        architecture=options["architecture"],
        n_features=options["n_features"],
        k=options["k"],
        epochs=options["epochs"],
        batch_tokens=options["batch_tokens"],
        learning_rate=options["learning_rate"],
        encoder_norm=options["encoder_norm"],
        k_start=options["k_start"],
        memory_gb=options["memory_gb"],
        seed=options["random_seed"],
    )
    saved_as = named_dtype(options["save_dtype"])
    used, held_out = split_holdout(load_samples(data, options), share=holdout)
    with open_ranks() as ranks:
        progress = _first_rank_progress(ranks)
        if ranks.number == 0:
            write_jsonl((sample_row(sample) for sample in held_out), output / "heldout.jsonl")
        lm = _load_on_each_rank(options, ranks, progress)
        texts = tokenize_samples(used, lm.tokenizer, score=score, max_length=max_length)
        progress.say(f"{sum(t.n_scored for t in texts):,} tokens in {len(texts):,} samples")
        trained = train_sae(
            lm,
            texts,
            layer=layer,
            settings=settings,
            checkpoints=output,
            ranks=ranks,
            progress=progress,
        )
        if ranks.number == 0:
            save_sae(trained, output, dtype=saved_as)
        progress.say(
            f"SAE written to {output}; measure it: "
            f"fac sae evaluate {output} {output / 'heldout.jsonl'}"
        )


def _first_rank_progress(ranks: "Ranks") -> "Progress":
    """Bars of rank 0; the others are silent."""
    from facsynth.cli.show import RichProgress
    from facsynth.progress import SILENT

    return SILENT if ranks.number else RichProgress()


def _load_on_each_rank(
    options: dict[str, Any], ranks: "Ranks", progress: "Progress"
) -> "LanguageModel":
    """The language model, by rank 0 first, since that may have to convert or download it."""
    import torch

    from facsynth.cli.load import load_model

    signal = torch.zeros(
        1, device="cuda" if ranks.count > 1 and torch.cuda.is_available() else "cpu"
    )
    if ranks.number:
        ranks.total(signal)
    lm = load_model(options, progress)
    if not ranks.number:
        ranks.total(signal)
    return lm


@sae.command()
@click.argument("folder", metavar="SAE")
@click.argument("data")
@click.option("--max-length", default=512, show_default=True, help="Longer samples are cut here.")
@click.option("--loss-tokens", default=50_000, show_default=True, help="Tokens for the losses.")
@model_options
@score_option
@data_options
@json_option
def evaluate(
    folder: str,
    data: str,
    max_length: int,
    loss_tokens: int,
    score: Any,
    as_json: bool,
    **options: Any,
) -> None:
    """Measure SAE on held-out DATA: variance, sparsity, dead features, loss recovered."""
    from facsynth.cli.load import load_model, load_samples
    from facsynth.cli.show import RichProgress, print_json, print_table
    from facsynth.models.tokens import tokenize_samples
    from facsynth.sae.evaluate import evaluate_sae, quality_row
    from facsynth.sae.files import load_sae

    progress = RichProgress()
    lm = load_model(options, progress)
    texts = tokenize_samples(
        load_samples(data, options), lm.tokenizer, score=score, max_length=max_length
    )
    quality = evaluate_sae(
        lm,
        load_sae(folder, device=lm.device),
        texts,
        max_loss_tokens=loss_tokens,
        progress=progress,
    )
    if as_json:
        print_json(quality_row(quality))
        return
    rows = [(name.replace("_", " "), value) for name, value in quality_row(quality).items()]
    print_table(f"Quality of {folder}", ("measure", "value"), rows)


@sae.command()
@click.argument("source", metavar="SAE", required=False)
@json_option
def info(source: str | None, as_json: bool) -> None:
    """Show size, gate, layer, model and files of SAE, or of the embedded one.

    SAE is a folder or a file in any layout that is read, a Hub repository (owner/name,
    owner/name/folder@revision), saelens:RELEASE/ID, or default.
    """
    from facsynth.cli.show import print_json, print_table
    from facsynth.models.default_model import default_sae_folder
    from facsynth.sae.describe import describe_sae
    from facsynth.sae.files import load_sae
    from facsynth.sae.sources import find_sae

    path = find_sae(source) if source else default_sae_folder()
    facts = describe_sae(load_sae(path), path)
    if as_json:
        print_json(facts)
        return
    notes = {
        "layer": "layer, 0-based (model.layers[n])",
        "hidden_states_index": "layer, 1-based (hidden_states[n])",
        "n_bytes": "bytes on disk",
        "d_model": "width of the model",
        "n_features": "features",
    }
    rows = [(notes.get(name, name.replace("_", " ")), value) for name, value in facts.items()]
    print_table(f"SAE {source or '(embedded)'}", ("what", "value"), rows)


@sae.command()
@click.argument("source", metavar="SAE")
@click.argument("target", metavar="OUT", type=click.Path(path_type=Path))
@click.option("--layer", type=int, help="0-based decoder layer, when the files do not say.")
@click.option("--k", type=int, help="Features kept per token, when the files do not say.")
@click.option("--input-scale", type=float, help="Factor on the inputs in training, to be folded.")
@click.option("--model-name", default="", help="Model that it was trained on.")
@save_dtype_option
def convert(source: str, target: Path, save_dtype: str, **options: Any) -> None:
    """Convert SAE from another layout to OUT, a folder in SAELens' layout.

    Read are SAELens (all versions), the paper's .pth, sparsify, dictionary_learning, Gemma Scope
    1 and 2, Llama Scope, Qwen-Scope and Goodfire; pickles are read without executing them. SAE is
    a folder or a file, a Hub repository (owner/name/folder@revision) or saelens:RELEASE/ID.
    """
    from facsynth.cli.show import RichProgress
    from facsynth.models.lm import named_dtype
    from facsynth.sae.files import save_sae
    from facsynth.sae.formats.layouts import read_external_sae
    from facsynth.sae.sources import find_sae

    dtype = named_dtype(save_dtype)
    save_sae(read_external_sae(find_sae(source), **options), target, dtype=dtype)
    RichProgress().say(f"SAE written to {target}")
