"""`fac extract`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from facsynth.cli.options import (
    data_options,
    json_option,
    model_options,
    output_option,
    score_option,
)

_SETTINGS = ("score", "max_length", "batch_tokens", "gate", "pooling", "hidden")


@click.command()
@click.argument("data")
@output_option("Folder of the feature table; with several SAEs, of one table per SAE.")
@model_options
@click.option(
    "--sae",
    "saes",
    multiple=True,
    help="Folder of the SAE; without it the embedded one. Give it again for more SAEs of the same "
    "model, which share one forward pass.",
)
@click.option(
    "--gate",
    type=click.Choice(["sae", "relu"]),
    default="sae",
    show_default=True,
    help="Which activations count: the SAE's own gate, or all positive pre-activations.",
)
@click.option(
    "--pooling",
    type=click.Choice(["max", "mean", "last", "count"]),
    default="max",
    show_default=True,
    help="One number per sample and feature: the largest activation, the mean over scored tokens, "
    "that of the last one, or the number of tokens that activate it.",
)
@score_option
@click.option("--max-length", default=1024, show_default=True, help="Longer samples are cut here.")
@click.option(
    "--both-answers",
    is_flag=True,
    help="Read both answers of preference pairs, as ID#chosen and ID#rejected with these labels; "
    "without it the chosen ones.",
)
@click.option(
    "--hidden",
    is_flag=True,
    help="Also keep the mean hidden state of each sample at the SAE's layer (4 bytes times the "
    "model's width a sample), for closeness and label directions in hidden space.",
)
@click.option(
    "--batch-tokens",
    type=int,
    help="Tokens per forward pass; by default as the device's memory allows.",
)
@data_options
@json_option
def extract(data: str, output: Path, saes: tuple[str, ...], as_json: bool, **options: Any) -> None:
    """Read DATA with a model and an SAE into a feature table.

    DATA is a JSONL, JSON, CSV, TSV, Parquet or text file, a folder of such files, or a Hub data
    set (owner/name). With one SAE the table is OUTPUT; with several, each has its table in a
    folder of OUTPUT that bears its name.
    """
    from dataclasses import asdict

    from facsynth.cli.load import load_pair, load_samples
    from facsynth.cli.show import RichProgress, print_json
    from facsynth.data.pairs import split_pairs
    from facsynth.models.default_model import EMBEDDED_SAE
    from facsynth.sae.files import load_sae
    from facsynth.table.extract import ExtractSettings, extract_table, extract_tables

    names = _sae_names(saes)
    progress = RichProgress()
    settings = ExtractSettings(**{k: options[k] for k in _SETTINGS})
    samples = load_samples(data, options)
    if options["both_answers"]:
        samples = split_pairs(samples)
    lm, first = load_pair(options, saes[0] if saes else None, progress)
    if len(saes) < 2:
        name = saes[0] if saes else EMBEDDED_SAE
        shared: dict[str, Any] = {"settings": settings, "progress": progress}
        table = extract_table(samples, lm, first, output, sae_name=name, **shared)
        if as_json:
            print_json({"table": str(output), **asdict(table.manifest)})
        else:
            _show(output, asdict(table.manifest))
        return
    loaded = [first, *(load_sae(sae, device=lm.device) for sae in saes[1:])]
    tables = extract_tables(
        samples,
        lm,
        dict(zip(names, loaded, strict=True)),
        output,
        settings=settings,
        progress=progress,
    )
    rows = [(output / name, asdict(table.manifest)) for name, table in tables.items()]
    if as_json:
        print_json({"tables": [{"table": str(folder), **row} for folder, row in rows]})
        return
    for folder, row in rows:
        _show(folder, row)


def _show(folder: Path, manifest: dict[str, Any]) -> None:
    from facsynth.cli.show import print_table

    rows = [
        ("samples", manifest["n_samples"]),
        ("scored tokens", manifest["n_tokens"]),
        ("stored activations", manifest["n_entries"]),
        ("samples cut", manifest["n_truncated"]),
    ]
    print_table(f"Feature table {folder}", ("what", "count"), rows)


def _sae_names(saes: Sequence[str]) -> list[str]:
    """A folder name for each SAE: the end of its path, as much of it as tells them apart."""
    from facsynth.errors import DataError

    if len(set(saes)) < len(saes):
        raise DataError(f"the same --sae is given twice: {', '.join(saes)}")
    paths = [[word for word in Path(sae).parts if word not in ("/", ".", "..")] for sae in saes]
    for n_words in range(1, max(map(len, paths), default=0) + 1):
        names = ["-".join(words[-n_words:]).replace(":", "-") for words in paths]
        if len(set(names)) == len(names):
            return names
    if paths:
        raise DataError(f"these --sae cannot be told apart by their paths: {', '.join(saes)}")
    return []
