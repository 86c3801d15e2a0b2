"""`fac coverage`."""

from pathlib import Path
from typing import Any

import click

from facsynth.cli.options import json_option, relevant_option, threshold_option


@click.command()
@click.option(
    "--anchor",
    type=click.Path(path_type=Path),
    required=True,
    help="Feature table of the data that stands for the whole domain.",
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
    help="Write the ranked missing features to this JSONL file.",
)
@json_option
def coverage(
    anchor: Path,
    seeds: tuple[Path, ...],
    relevant: Path | None,
    threshold: float,
    missing: Path | None,
    as_json: bool,
) -> None:
    """Measure how much of the anchor's features the seed activates, with controls."""
    from dataclasses import asdict

    from facsynth.cli.load import load_relevant
    from facsynth.cli.show import RichProgress, print_json
    from facsynth.coverage.fac import describe_missing, missing_features
    from facsynth.coverage.measure import coverage_row, measure_coverage
    from facsynth.data.write import write_jsonl
    from facsynth.store.table import check_same_features, open_table, stack_rows

    anchor_table, seed_tables = open_table(anchor), [open_table(path) for path in seeds]
    for table in seed_tables:
        check_same_features(anchor_table, table)
    wanted = load_relevant(relevant, anchor_table.manifest.source.n_features)
    rows = anchor_table.activations()
    seed_rows = stack_rows([table.activations() for table in seed_tables])
    result = measure_coverage(rows, seed_rows, relevant=wanted, threshold=threshold)
    row = coverage_row(result)
    if missing:
        ids = missing_features(
            rows, seed_rows, wanted if wanted is not None else _all(rows), threshold=threshold
        )
        found = describe_missing(rows, ids, threshold=threshold)
        write_jsonl((asdict(feature) for feature in found), missing)
        RichProgress().say(f"{len(found):,} missing features written to {missing}")
    if as_json:
        print_json(row)
    else:
        print_coverage(row)


def _all(rows: Any) -> Any:
    import numpy as np

    return np.ones(rows.n_features, dtype=bool)


def print_coverage(row: Any) -> None:
    """The coverage row as a table, closeness first."""
    from facsynth.cli.show import print_table

    close, controls, sizes, tokens = (
        row["representativeness"] or {},
        row["controls"],
        row["n_samples"],
        row["n_tokens"],
    )
    random_, matched, features = (
        _draws(controls.get(name))
        for name in ("random_subset", "length_matched", "frequency_matched")
    )
    print_table(
        f"Coverage at threshold {row['threshold']:g}",
        ("measure", "value"),
        [
            ("closeness: Hellinger distance of firing rates (0 best)", close.get("hellinger")),
            ("  a random anchor subset of that size", _number(controls.get("random_hellinger"))),
            ("FAC (1 best)", row["fac"]),
            ("  random anchor subset of that size", random_),
            ("  and of matched lengths", matched),
            ("  frequency-matched other features", features),
            ("  95 % interval", f"{row['interval']['low']:.3f} to {row['interval']['high']:.3f}"),
            ("  weighted by frequency", row["weighted"]["frequency"]),
            ("  weighted by magnitude", row["weighted"]["magnitude"]),
            ("covered / active in the anchor", f"{row['n_covered']:,} / {row['n_anchor']:,}"),
            ("missing", row["n_missing"]),
            ("samples, seed / anchor", f"{sizes['seed']:,} / {sizes['anchor']:,}"),
            ("scored tokens, seed / anchor", f"{tokens['seed']:,} / {tokens['anchor']:,}"),
        ],
    )
    print_table(
        "Sweep over the threshold",
        ("threshold", "anchor", "covered", "FAC"),
        [
            (
                f"{s['threshold']:.2f}"
                + (f" (quantile {s['quantile']:g})" if s["quantile"] else ""),
                s["n_anchor"],
                s["n_covered"],
                s["fac"],
            )
            for s in row["sweep"]
        ],
    )
    for warning in controls["warnings"]:
        click.echo(f"Note: {warning}", err=True)


def _number(value: Any) -> Any:
    return value["mean"] if isinstance(value, dict) else value


def _draws(value: Any) -> str | None:
    if not isinstance(value, dict):
        return None
    return f"{value['mean']:.3f} ({value['low']:.3f} to {value['high']:.3f})"
