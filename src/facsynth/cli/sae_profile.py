"""`fac sae profile`."""

from pathlib import Path
from typing import Any

import click

from facsynth.cli.options import data_options, json_option, model_options, score_option


@click.command()
@click.argument("sae", metavar="SAE")
@click.argument("data")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="File of the profile; reference.npz in the folder of the SAE by default.",
)
@click.option("--max-length", default=1024, show_default=True, help="Longer samples are cut here.")
@click.option("--note", default="", help="What the text is; kept in the profile.")
@score_option
@model_options
@data_options
@json_option
def profile(
    sae: str,
    data: str,
    output: Path | None,
    max_length: int,
    note: str,
    score: Any,
    as_json: bool,
    **options: Any,
) -> None:
    """Count on DATA how often each feature of SAE fires, as a reference for those without anchor.

    SAE is a folder, or `default` for the embedded one. DATA is text, or a feature table that
    `fac extract` made of it with this SAE, which is then not read again. The profile holds counts
    and no text; `fac coverage --anchor reference` reads it from beside the SAE.
    """
    from facsynth.cli.load import load_model, load_samples
    from facsynth.cli.show import RichProgress, print_json, print_table
    from facsynth.coverage.profile import PROFILE_FILE, profile_rows, profile_sae, write_profile
    from facsynth.sae.files import load_sae
    from facsynth.sae.sources import find_sae
    from facsynth.table.settings import ExtractSettings
    from facsynth.table.table import open_table

    progress = RichProgress()
    folder = find_sae(sae)
    target = output or folder / PROFILE_FILE
    if (Path(data) / "manifest.json").is_file():
        table = open_table(data)
        _check_sae(load_sae(folder), table)
        found = profile_rows(table.activations(), table.manifest.source, note=note)
    else:
        samples = load_samples(data, options)
        lm = load_model(options, progress)
        found = profile_sae(
            lm,
            load_sae(folder, device=lm.device),
            samples,
            settings=ExtractSettings(score=score, max_length=max_length),
            note=note,
            progress=progress,
        )
    write_profile(found, target)
    row = {
        "profile": str(target),
        "n_samples": found.n_samples,
        "n_tokens": found.n_tokens,
        "n_features": found.sample_counts.shape[1],
        "n_fired": int((found.counts(0.0) > 0).sum()),
    }
    if as_json:
        print_json(row)
    else:
        print_table("Reference profile", ("what", "value"), list(row.items()))


def _check_sae(sae: Any, table: Any) -> None:
    from facsynth.errors import MismatchError

    wanted, found = sae.content_hash, table.manifest.source.sae_hash
    if wanted != found:
        raise MismatchError(
            f"{table.folder} was extracted with SAE {found[:12]} and not with {wanted[:12]}; name "
            "the SAE of the table"
        )
