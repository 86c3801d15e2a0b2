"""`fac extract`."""

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


@click.command()
@click.argument("data")
@output_option("Folder of the feature table.")
@model_options
@click.option("--sae", help="Folder of the SAE; without it the embedded one.")
@score_option
@click.option("--max-tokens", default=1024, show_default=True, help="Longer samples are cut here.")
@data_options
@json_option
def extract(
    data: str,
    output: Path,
    sae: str | None,
    score: Any,
    max_tokens: int,
    as_json: bool,
    **options: Any,
) -> None:
    """Read DATA with a model and an SAE into a feature table.

    DATA is a JSONL, JSON, CSV, TSV, Parquet or text file, a folder of such files, or a Hub data
    set (owner/name).
    """
    from dataclasses import asdict

    from facsynth.cli.load import load_pair, load_samples
    from facsynth.cli.show import RichProgress, print_json, print_table
    from facsynth.features.extract import ExtractSettings, extract_table

    progress = RichProgress()
    samples = load_samples(data, options)
    lm, features = load_pair(options, sae, progress)
    settings = ExtractSettings(score=score, max_tokens=max_tokens)
    table = extract_table(
        samples,
        lm,
        features,
        output,
        settings=settings,
        sae_name=sae or "embedded default",
        progress=progress,
    )
    manifest = table.manifest
    if manifest.n_truncated:
        progress.say(
            f"{manifest.n_truncated:,} of {manifest.n_samples:,} samples were cut at "
            f"{max_tokens:,} tokens; raise --max-tokens to read them whole"
        )
    if as_json:
        print_json({"table": str(output), **asdict(manifest)})
        return
    rows = [
        ("samples", manifest.n_samples),
        ("scored tokens", manifest.n_tokens),
        ("stored activations", manifest.n_entries),
        ("samples cut", manifest.n_truncated),
    ]
    print_table(f"Feature table {output}", ("what", "count"), rows)
