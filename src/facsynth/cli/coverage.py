"""`fac coverage`."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import click

from facsynth.cli.options import (
    json_option,
    naming_options,
    plot_option,
    relevant_option,
    threshold_option,
)

REFERENCE = "reference"
N_NAMED = 1000
"""Missing features that get names, which take some milliseconds each."""


class _Measured(NamedTuple):
    row: dict[str, Any]
    missing: Iterable[dict[str, Any]]
    sides: dict[str, tuple[Any, Any]]
    """Tables and all their entries; of the seed, and of an anchor that is a table."""
    relevant: Any


@click.command()
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
@threshold_option
@click.option(
    "--missing",
    type=click.Path(path_type=Path),
    help="Write the ranked missing features to this JSONL file, the first 1,000 with names.",
)
@click.option(
    "--controls",
    is_flag=True,
    help="Show all controls: richness at equal size and what more samples would bring, at least k "
    "samples a feature, features of each class, and those that fire too much or too little.",
)
@naming_options
@plot_option
@json_option
def coverage(
    anchor: Path,
    seeds: tuple[Path, ...],
    missing: Path | None,
    controls: bool,
    plot: Path | None,
    as_json: bool,
    spans: bool,
    model: str | None,
    **options: Any,
) -> None:
    """Measure how close the seed is to the anchor, and how much of its features it activates.

    Closeness leads: at a fixed size it told more about quality than FAC, which follows size and
    text length. The interval of FAC is that of seeds of this size from the same source; at a level
    of 95 % it held its target in 93 to 100 % of simulated runs. --plot draws the features seen
    against the number of samples, with 95 % bands.
    """
    from facsynth.cli.coverage_tables import print_controls, print_coverage
    from facsynth.cli.show import RichProgress, print_result
    from facsynth.data.write import write_jsonl

    is_profile = (str(anchor) == REFERENCE and not anchor.exists()) or anchor.suffix == ".npz"
    measure = _against_reference if is_profile else _against_table
    measured = measure(anchor, seeds, **options)
    row, threshold = measured.row, options["threshold"]
    found = list(measured.missing) if missing else []
    notes = list(row["controls"]["warnings"])
    if spans:
        notes += _name(measured, found[:N_NAMED], threshold, model, with_shifts=controls)
    if missing:
        written = write_jsonl(found, missing)
        RichProgress().say(f"{written:,} missing features written to {missing}")

    def print_tables(found: dict[str, Any]) -> None:
        print_coverage(found)
        if controls:
            print_controls(found)

    curves = _curves(measured, threshold) if controls or plot else {}
    row |= {"curves": curves} if curves else {}
    print_result(row, print_tables, as_json=as_json, notes=notes)
    if plot:
        _draw(curves, plot)


def _against_table(
    anchor: Path,
    seeds: tuple[Path, ...],
    *,
    relevant: Path | None,
    threshold: float,
) -> _Measured:
    from dataclasses import asdict

    from facsynth.cli.load import load_tables, relevant_flags
    from facsynth.coverage.fac import describe_missing, missing_features
    from facsynth.coverage.measure import coverage_row, measure_coverage
    from facsynth.table.table import stack_rows

    anchor_table, *seed_tables = load_tables((anchor, *seeds))
    flags = relevant_flags(relevant, anchor_table.manifest.source.n_features)
    rows = anchor_table.activations(hidden=True)
    seed_rows = stack_rows([table.activations(hidden=True) for table in seed_tables])
    labels = [sample.label for sample in anchor_table.samples()]
    result = measure_coverage(
        rows,
        seed_rows,
        relevant=flags,
        threshold=threshold,
        anchor_labels=labels if any(labels) else None,
    )
    if (rows.hidden is None) != (seed_rows.hidden is None):
        side = "anchor" if rows.hidden is None else "seed"
        click.echo(f"Note: the {side} keeps no hidden states (`fac extract --hidden`)", err=True)
    ids = missing_features(rows, seed_rows, flags, threshold=threshold)
    found = (asdict(one) for one in describe_missing(rows, ids, threshold=threshold))
    sides = {"anchor": ([anchor_table], rows), "seed": (seed_tables, seed_rows)}
    return _Measured(coverage_row(result), found, sides, flags)


def _against_reference(
    anchor: Path,
    seeds: tuple[Path, ...],
    *,
    relevant: Path | None,
    threshold: float,
) -> _Measured:
    """The same against a profile; what it cannot tell is null."""
    from facsynth.cli.load import load_tables, relevant_flags
    from facsynth.cli.reference import against_profile
    from facsynth.table.table import stack_rows

    tables = load_tables(seeds)
    rows = stack_rows([table.activations() for table in tables])
    flags = relevant_flags(relevant, rows.n_features)
    path = None if str(anchor) == REFERENCE else anchor
    row, missing = against_profile(path, tables[0].manifest.source, rows, flags, threshold)
    return _Measured(row, missing, {"seed": (tables, rows)}, flags)


def _name(
    measured: _Measured,
    missing: list[dict[str, Any]],
    threshold: float,
    model: str | None,
    *,
    with_shifts: bool,
) -> list[str]:
    """Name what the seed fires too much by its own words, all else by those of the anchor.

    Coverage needs no model, names need its tokenizer: without one there is a note instead.
    """
    from facsynth.cli.coverage_tables import N_SHIFTS
    from facsynth.cli.naming import name_rows
    from facsynth.coverage.fac import active_only
    from facsynth.errors import FacsynthError

    shifts = (measured.row["representativeness"] or {}) if with_shifts else {}
    over, under = ((shifts.get(key) or ())[:N_SHIFTS] for key in ("over_fired", "under_fired"))
    listed = {"seed": [*over], "anchor": [*missing, *under]}
    if "anchor" not in measured.sides:
        listed["seed"] += under
    try:
        for side, (tables, entries) in measured.sides.items():
            active = active_only(entries, threshold=threshold)
            name_rows(listed[side], tables, active, model=model)
    except FacsynthError as error:
        return [f"the listed features have no names (--model or --no-spans): {error}"]
    return []


def _curves(measured: _Measured, threshold: float) -> dict[str, Any]:
    from dataclasses import asdict

    import numpy as np

    from facsynth.coverage.curves import richness_curve
    from facsynth.coverage.fac import active_only

    rng = np.random.default_rng(0)
    return {
        name: [
            asdict(point)
            for point in richness_curve(
                active_only(rows, threshold=threshold), measured.relevant, rng=rng
            )
        ]
        for name, (_, rows) in measured.sides.items()
    }


def _draw(curves: dict[str, Any], path: Path) -> None:
    from facsynth.report.plots import curve_chart, write_chart

    write_chart(curve_chart(curves), path)
