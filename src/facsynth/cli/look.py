"""`fac look`."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from facsynth.cli.from_settings import settings_options
from facsynth.cli.options import data_options, json_option, model_options
from facsynth.cli.sections import SectionedCommand
from facsynth.data.settings import ReadSettings
from facsynth.models.settings import ModelSettings
from facsynth.table.settings import ExtractSettings

if TYPE_CHECKING:
    from facsynth.compare.oddities import Oddity

FEW, MANY = 30, 2_000
"""Of fewer samples shares say little; more take long to read."""

MOST = 0.5
"""A feature of a larger share of the samples is no example of what can be left out."""


def first_notes(oddities: "Sequence[Oddity]", lengths: str, n_samples: int) -> list[str]:
    """What can be said before the model has read anything."""
    notes = [lengths] + [
        f"{one.n_samples:,} of {one.n_all:,} {one.what}: {one.example!r}" for one in oddities[:3]
    ]
    if not oddities:
        notes.append("nothing is odd in the text: no template, copies, cut answers, mixed scripts")
    if n_samples < FEW:
        notes.append(f"{n_samples} samples are few: take the shares below with caution")
    if n_samples > MANY:
        notes.append(
            f"{n_samples:,} samples take long to read; --sample 500 looks at 500 random ones"
        )
    return notes


@click.command(cls=SectionedCommand)
@click.argument("data", nargs=-1, required=True)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Folder of the feature table, for the commands that come next; by default "
    "looks/ with the name of the first DATA.",
)
@model_options
@click.option("--sae", help="Folder of the SAE; by default the embedded one.")
@settings_options(ExtractSettings, "settings", without=("part_samples",))
@data_options
@json_option
def look(
    data: tuple[str, ...],
    output: Path | None,
    model: ModelSettings,
    sae: str | None,
    settings: ExtractSettings,
    reading: ReadSettings,
    as_json: bool,
) -> None:
    """Show what is in a data set, and what is odd in it.

    No anchor is needed: features are compared with the counts of general text beside the SAE. Odd
    are common beginnings and ends, answers that stop within a sentence, copies, and samples
    without an answer. The feature table is kept for the commands that come next.
    """
    from facsynth.cli.load import check_sources, load_pair, load_samples
    from facsynth.compare.oddities import find_oddities, text_lengths

    saes = [sae] if sae else []
    check_sources(model, saes)
    folder = output or Path("looks") / Path(data[0]).name.split(".")[0]
    samples = load_samples(data, reading, output=folder)
    oddities = find_oddities(samples)
    if not as_json:
        for note in first_notes(oddities, text_lengths(samples), len(samples)):
            click.echo(note, err=True)
        click.echo("Reading with the model says what it is about; this takes longer.", err=True)

    from facsynth.cli.show import RichProgress, show
    from facsynth.coverage.reference import profile_for
    from facsynth.models.default_model import EMBEDDED_SAE
    from facsynth.table.extract import extract_table
    from facsynth.understand.look import look_at

    progress = RichProgress()
    lm, loaded = load_pair(model, sae, progress)
    name = sae or EMBEDDED_SAE
    table = extract_table(
        samples, lm, loaded, folder, sae_name=name, settings=settings, progress=progress
    )
    profile = profile_for(table.manifest.source, Path(sae) if sae else None)
    found = look_at(table, profile, lm.tokenizer, loaded.directions, oddities=oddities)
    show(found, as_json=as_json)
    if not as_json:
        if found.standouts:
            some = [one for one in found.standouts if one.share < MOST]
            first = (some or found.standouts)[0].topic.feature_ids[0]
            level = found.coverage.threshold
            click.echo(
                f"`fac filter {folder} --threshold {level:g} --drop {first}` shows samples that "
                "activate a feature, and with --output leaves them out."
            )
        click.echo(
            f"Next: extract a set of your domain with `fac extract ANCHOR -o anchor`, then "
            f"`fac coverage --anchor anchor --seed {folder}` says what is missing."
        )
