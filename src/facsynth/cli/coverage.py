"""`fac coverage`."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from facsynth.cli.from_settings import settings_options
from facsynth.cli.naming import NamingSettings
from facsynth.cli.options import json_option, plot_option, relevant_option
from facsynth.cli.sections import SectionedCommand
from facsynth.coverage.settings import CoverageSettings
from facsynth.settings import Settings

if TYPE_CHECKING:
    from facsynth.coverage.result import Coverage
    from facsynth.table.table import FeatureTable

REFERENCE = "reference"

N_NAMED = 1000
"""Missing features that get names, which take some milliseconds each."""


@dataclass(frozen=True)
class Uses(Settings):
    """What else is done with the measurement."""

    missing: Path | None = None
    """Write the ranked missing features to this JSONL file, the first 1,000 with names."""

    fail_below: float | None = None
    """Exit with 1 if FAC is lower, as a check of data in CI; give --threshold, too."""


@click.command(cls=SectionedCommand)
@click.option(
    "--anchor",
    type=click.Path(path_type=Path),
    required=True,
    help="Feature table of the data that stands for the whole domain; `reference` for the profile "
    "of general text beside the SAE, or the .npz file of a profile.",
)
@click.option(
    "--seed",
    "seeds",
    type=click.Path(path_type=Path),
    required=True,
    multiple=True,
    help="Feature table of the data to measure; several are counted together.",
)
@relevant_option
@settings_options(CoverageSettings, "settings")
@settings_options(Uses, "uses")
@settings_options(NamingSettings, "naming")
@plot_option
@json_option
def coverage(
    anchor: Path,
    seeds: tuple[Path, ...],
    relevant: Path | None,
    settings: CoverageSettings,
    uses: Uses,
    naming: NamingSettings,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Measure how much of the anchor's features the seed covers.

    Closeness to the anchor comes first: at a fixed size it told more about quality than FAC, which
    follows size and text length. The interval of FAC is that of seeds of this size from the same
    source; at a level of 95 % it held its target in 93 to 100 % of simulated runs. --plot draws the
    features seen against the number of samples, with 95 % bands, and implies --controls.
    """
    from facsynth.cli.show import RichProgress, show
    from facsynth.data.write import write_jsonl
    from facsynth.report.plots import curve_chart, write_chart

    if plot:
        settings = replace(settings, controls=True)
    is_profile = (str(anchor) == REFERENCE and not anchor.exists()) or anchor.suffix == ".npz"
    measure = _against_profile if is_profile else _against_table
    found, anchors, tables = measure(anchor, seeds, relevant, settings)
    notes = list(found.controls.warnings)
    if naming.spans and (uses.missing or settings.controls or not as_json):
        found, remarks = _named(found, anchors, tables, N_NAMED if uses.missing else 0, naming)
        notes += remarks
    if uses.missing:
        n_written = write_jsonl(map(asdict, found.missing), uses.missing)
        RichProgress().say(f"{n_written:,} missing features written to {uses.missing}")
    show(found, as_json=as_json, notes=notes)
    if not as_json:
        click.echo(f"Next: {_next(found, anchor, seeds, relevant)}.")
    if plot:
        write_chart(curve_chart(found.row()["curves"]), plot)
    if uses.fail_below is not None and found.fac < uses.fail_below:
        raise click.ClickException(f"FAC is {found.fac:.3f}, below {uses.fail_below:g}")


Measured = tuple["Coverage", "list[FeatureTable]", "list[FeatureTable]"]
"""The result with the tables of the anchor, none for a profile, and of the seed."""


def _against_table(
    anchor: Path, seeds: tuple[Path, ...], relevant: Path | None, settings: CoverageSettings
) -> Measured:
    from facsynth.cli.load import load_relevant, load_tables
    from facsynth.coverage.measure import measure_coverage
    from facsynth.table.columns import read_labels

    table, *seed_tables = load_tables((anchor, *seeds))
    has_hidden = table.manifest.source.hidden
    if has_hidden != all(one.manifest.source.hidden for one in seed_tables):
        side = "seed" if has_hidden else "anchor"
        click.echo(f"Note: the {side} keeps no hidden states (`fac extract --hidden`)", err=True)
    labels = read_labels(table)
    result = measure_coverage(
        table,
        seed_tables,
        relevant=load_relevant(relevant, table.manifest.source.n_features),
        settings=settings,
        anchor_labels=labels if any(labels) else None,
    )
    return result, [table], seed_tables


def _against_profile(
    anchor: Path, seeds: tuple[Path, ...], relevant: Path | None, settings: CoverageSettings
) -> Measured:
    from facsynth.cli.load import load_relevant, load_tables
    from facsynth.coverage.reference import measure_reference, profile_for

    tables = load_tables(seeds)
    path = None if str(anchor) == REFERENCE else anchor
    profile = profile_for(tables[0].manifest.source, path)
    flags = load_relevant(relevant, tables[0].manifest.source.n_features)
    return measure_reference(profile, tables, relevant=flags, settings=settings), [], tables


def _named(
    found: "Coverage",
    anchors: "Sequence[FeatureTable]",
    seeds: "Sequence[FeatureTable]",
    n_missing: int,
    naming: NamingSettings,
) -> tuple["Coverage", list[str]]:
    """The measurement in words, and what stood in the way.

    Coverage needs no model. Names need its tokenizer and topics the SAE: without one there is a
    note instead.
    """
    from facsynth.cli.load import load_table_sae, load_table_tokenizer
    from facsynth.errors import FacsynthError
    from facsynth.understand.findings import explain_coverage

    source, decoder = seeds[0].manifest.source, None
    notes: list[str] = []
    try:
        tokenizer = load_table_tokenizer(source, naming.model)
    except FacsynthError as error:
        return found, [f"the listed features have no names (--model or --no-spans): {error}"]
    try:
        if anchors:
            decoder = load_table_sae(source, naming.sae).directions
    except FacsynthError as error:
        notes.append(f"the missing features are not grouped into topics (--sae): {error}")
    named = explain_coverage(found, anchors, seeds, tokenizer, decoder=decoder, n_missing=n_missing)
    return named, notes


def _next(found: "Coverage", anchor: Path, seeds: Sequence[Path], relevant: Path | None) -> str:
    """The command that comes next."""
    pair = f"--anchor {anchor} {' '.join(f'--seed {seed}' for seed in seeds)}"
    if found.reference is not None:
        return (
            "extract a data set of your own domain and pass it as --anchor; general text knows "
            "nothing of what your task needs"
        )
    if not found.n_missing:
        return f"`fac diff {seeds[0]} {anchor}` shows which features fire too rarely"
    pair += f" --relevant {relevant}" if relevant else ""
    return (
        f"`fac synthesize {pair} --threshold {found.threshold:g} -o OUT` writes samples for the "
        f"{found.n_missing:,} missing features; `fac coverage {pair} --missing FILE` lists them"
    )
