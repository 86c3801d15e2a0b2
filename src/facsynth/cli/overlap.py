"""`fac overlap`."""

from pathlib import Path
from typing import Any

import click

from facsynth.cli.options import json_option, plot_option, relevant_option, threshold_option


@click.command()
@click.argument(
    "tables", metavar="TABLE...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
@click.option(
    "--draws",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    help="Random parts behind each matched share.",
)
@click.option("--random-seed", default=0, show_default=True, help="Seed of the random parts.")
@relevant_option
@threshold_option
@plot_option
@json_option
def overlap(
    tables: tuple[Path, ...],
    plot: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Show what share of the features of each TABLE the others have, and how redundant each is.

    Beside each share stands the one between random parts of equal size and matched lengths, with
    two parts of one set in the diagonal. Redundancy is the number of samples, chosen greedily,
    that keep a set's features.
    """
    from facsynth.cli.show import print_result
    from facsynth.report.plots import check_plot_path, heat_map, write_chart

    if plot:
        check_plot_path(plot)
    row = _measure(tables, options)
    print_result(row, _print, as_json=as_json, notes=row["warnings"])
    if plot:
        chart = heat_map(
            row["shares"],
            row["names"],
            title="Share of the row's features that the column has",
            row_title="features of",
            column_title="found in",
        )
        write_chart(chart, plot)


def _measure(paths: tuple[Path, ...], options: dict[str, Any]) -> dict[str, Any]:
    import numpy as np

    from facsynth.cli.load import load_tables, relevant_flags, table_names
    from facsynth.compare.overlap import (
        matched_overlap,
        measure_redundancy,
        overlap_matrix,
    )
    from facsynth.coverage.fac import active_only

    opened = load_tables(paths)
    rows = [active_only(t.activations(), threshold=options["threshold"]) for t in opened]
    relevant = relevant_flags(options["relevant"], rows[0].n_features)
    rng = np.random.default_rng(options["random_seed"])
    shares = overlap_matrix(rows, relevant)
    matched = matched_overlap(rows, relevant, n_draws=options["draws"], rng=rng)
    redundancy = [measure_redundancy(one, relevant) for one in rows]
    names = table_names(paths)
    return {
        "names": names,
        "shares": shares.tolist(),
        "matched": {
            "shares": matched.shares.tolist(),
            "spread": matched.spread.tolist(),
            "length_ratios": matched.length_ratios.tolist(),
            "n_samples": matched.n_samples,
            "n_draws": matched.n_draws,
        },
        "sets": [_set_row(*found) for found in zip(paths, names, rows, redundancy, strict=True)],
        "threshold": options["threshold"],
        "warnings": _warnings(names, matched),
    }


def _set_row(path: Path, name: str, rows: Any, found: Any) -> dict[str, Any]:
    curve = sorted({int(2**k) for k in range(40) if 2**k < len(found.order)} | {len(found.order)})
    return {
        "table": str(path),
        "name": name,
        "n_samples": found.n_samples,
        "mean_tokens": float(rows.n_tokens.mean()),
        "n_features": found.n_features,
        "needed": [
            {"share": share, "greedy": greedy, "random": random}
            for share, greedy, random in found.needed
        ],
        "curve": [[n, int(found.n_kept[n - 1])] for n in curve],
        "greedy_order": [rows.sample_ids[i] for i in found.order],
    }


def _warnings(names: list[str], matched: Any) -> list[str]:
    notes = []
    for i, one in enumerate(names):
        for j, other in enumerate(names):
            ratio = matched.length_ratios[i, j]
            if i != j and not 0.8 <= ratio <= 1.25:
                notes.append(
                    f"{other} has too few samples of the lengths of {one}: its matched parts are "
                    f"{ratio:.2f} times as long, so their share is no fair comparison"
                )
    if matched.n_samples < 20:
        notes.append(f"matched parts have {matched.n_samples} samples only; read them with care")
    return notes


def _print(row: dict[str, Any]) -> None:
    from facsynth.cli.show import print_table

    names, matched = row["names"], row["matched"]
    if len(names) > 1:
        for title, shares in (
            ("Share of the row's features that the column has", row["shares"]),
            (
                f"The same for parts of {matched['n_samples']:,} samples with matched lengths "
                "(diagonal: two parts of one set)",
                matched["shares"],
            ),
        ):
            rows = [(name, *found) for name, found in zip(names, shares, strict=True)]
            print_table(title, ("features of", *names), rows)
    shares = [need["share"] for need in row["sets"][0]["needed"]]
    print_table(
        "Redundancy: samples that keep a share of the features, chosen / random",
        ("", *(one["name"] for one in row["sets"])),
        [
            *(
                (title, *(one[key] for one in row["sets"]))
                for title, key in (
                    ("samples", "n_samples"),
                    ("mean tokens", "mean_tokens"),
                    ("features", "n_features"),
                )
            ),
            *(
                (f"for {share:.0%} of the features", *(_needed(one, i) for one in row["sets"]))
                for i, share in enumerate(shares)
            ),
        ],
    )


def _needed(one: dict[str, Any], index: int) -> str:
    need = one["needed"][index]
    return f"{need['greedy']:,} / {need['random']:,}"
