"""`fac sae profile`."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from facsynth.cli.options import data_options, json_option, model_options, score_option
from facsynth.cli.sections import SectionedCommand
from facsynth.models.settings import ModelSettings

if TYPE_CHECKING:
    from facsynth.table.table import FeatureTable


def max_length_option(default: int) -> Callable[[Any], Any]:
    """`--max-length`, with the default of the command."""
    return click.option(
        "--max-length", default=default, show_default=True, help="Cut samples at this many tokens."
    )


@click.command(cls=SectionedCommand)
@click.argument("sae", metavar="SAE")
@click.argument("data")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="File of the profile; by default reference.npz in the folder of the SAE.",
)
@max_length_option(1024)
@click.option("--note", default="", help="Description of the text, kept in the profile.")
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
    model: ModelSettings,
    as_json: bool,
    **options: Any,
) -> None:
    """Count how often each feature of SAE fires on DATA, as a reference for data without anchor.

    SAE is a folder, or `default` for the embedded one. DATA is text, or a feature table that
    `fac extract` made with this SAE. The profile holds counts and no text; `fac coverage --anchor
    reference` reads it from beside the SAE.
    """
    from facsynth.cli.load import load_pair, load_samples
    from facsynth.cli.show import RichProgress, print_json, print_table
    from facsynth.coverage.profile import PROFILE_FILE, profile_rows, profile_sae, write_profile
    from facsynth.sae.sources import find_sae
    from facsynth.table.settings import ExtractSettings

    read = None
    target = output or find_sae(sae) / PROFILE_FILE
    if (Path(data) / "manifest.json").is_file():
        table = _open_table_of(sae, data)
        found = profile_rows(table.activations(), table.manifest.source, note=note)
    else:
        progress = RichProgress()
        samples = load_samples(data, options["reading"])
        read = samples.report.row()
        found = profile_sae(
            *load_pair(model, sae, progress),
            samples,
            settings=ExtractSettings(score=options["score"], max_length=max_length),
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
        print_json({**row, "read": read})
    else:
        print_table("Reference profile", ("what", "value"), list(row.items()))


def _open_table_of(sae: str, folder: str) -> "FeatureTable":
    """A feature table, which must have been extracted with the SAE."""
    from facsynth.errors import MismatchError
    from facsynth.sae.files import load_sae
    from facsynth.table.table import open_table

    table = open_table(folder)
    wanted, found = load_sae(sae).content_hash, table.manifest.source.sae_hash
    if wanted != found:
        raise MismatchError(
            f"{table.folder} was extracted with SAE {found[:12]} and not with {wanted[:12]}; name "
            "the SAE of the table"
        )
    return table
