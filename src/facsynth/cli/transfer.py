"""`fac transfer`."""

from pathlib import Path
from typing import Any

import click

from facsynth.cli.options import json_option, plot_option


@click.command()
@click.argument("a", metavar="TABLE_A", type=click.Path(path_type=Path))
@click.argument("b", metavar="TABLE_B", type=click.Path(path_type=Path))
@click.option(
    "--random",
    "random_b",
    type=click.Path(path_type=Path),
    help="Control: table of an SAE of random directions in B's model; see `fac sae random`.",
)
@click.option(
    "--min-correlation",
    default=0.5,
    show_default=True,
    help="A feature has a counterpart when they correlate above this on held-out samples.",
)
@click.option(
    "--min-samples",
    default=10,
    show_default=True,
    help="Compare features active in at least so many samples of either half.",
)
@click.option("--shuffles", default=3, show_default=True, help="Shuffles of the samples.")
@click.option("--random-seed", default=0, show_default=True, help="Of halves, shuffles, intervals.")
@click.option("--top", default=10, show_default=True, help="Pairs to show side by side.")
@click.option(
    "--spans/--no-spans",
    default=True,
    show_default=True,
    help="Name the shown pairs by the words at their peaks, with an example each.",
)
@click.option("--model-a", help="Model that extracted A, for its tokenizer; else as A names it.")
@click.option("--model-b", help="The same for B.")
@plot_option
@json_option
def transfer(a: Path, b: Path, plot: Path | None, as_json: bool, **options: Any) -> None:
    """Show how much feature space two SAEs share, from two tables of the same samples.

    The SAEs may belong to two models, two layers or one. Features match as far as their activations
    correlate over the samples with the same ids. Partners are found on one half of these and their
    correlation is measured on the other; beside the shares stand those of shuffled samples.
    """
    from facsynth.cli.show import print_json
    from facsynth.report.plots import check_plot_path, write_chart

    if plot:
        check_plot_path(plot)
    row = _measure(a, b, options)
    if as_json:
        print_json(row)
    else:
        _print(row)
    for note in row["warnings"]:
        click.echo(f"Note: {note}", err=True)
    if plot:
        write_chart(_chart(row), plot)


def _chart(row: dict[str, Any]) -> dict[str, Any]:
    """Lines of both sides, and dots for what chance reaches."""
    from statistics import mean

    from facsynth.report.transfer_chart import share_chart

    names = {side: f"{side.upper()}: {Path(row[side]['table']).name}" for side in "ab"}
    lines = {name: row[side]["curve"] for side, name in names.items()}
    lines |= {f"mutual, {side.upper()}": row[side]["mutual_curve"] for side in "ab"}
    chance = {"A in random directions": row["a"]["random"]}
    for side in "ab":
        shuffled = row[side]["shuffled_by_length"]
        chance[f"{side.upper()}, samples shuffled"] = mean(shuffled) if shuffled else None
    dots = {name: share for name, share in chance.items() if share is not None}
    return share_chart(lines, dots, min_correlation=row["min_correlation"])


def _measure(a: Path, b: Path, options: dict[str, Any]) -> dict[str, Any]:
    from facsynth.compare.transfer import TransferSettings, common_rows, measure_transfer
    from facsynth.table.rows import take_rows
    from facsynth.table.table import open_table

    settings = TransferSettings(
        min_correlation=options["min_correlation"],
        min_samples=options["min_samples"],
        n_shuffles=options["shuffles"],
        seed=options["random_seed"],
    )
    tables = [open_table(path) for path in (a, b)]
    whole = [table.activations() for table in tables]
    rows = common_rows(*whole)
    samples = _common_samples(tables, rows)
    taken = [take_rows(one, chosen.tolist()) for one, chosen in zip(whole, rows, strict=True)]
    random_b = _random_rows(options["random_b"], tables[1], taken[0].sample_ids)
    found = measure_transfer(taken[0], taken[1], settings, random_b=random_b)
    pairs = _pairs(found)
    row = {
        "n_samples": {
            "common": len(samples),
            "found": found.n_found,
            "checked": found.n_checked,
            **{name: len(one.sample_ids) for name, one in zip("ab", whole, strict=True)},
        },
        "min_correlation": settings.min_correlation,
        "min_samples": settings.min_samples,
        **{
            name: _side_row(side, table)
            for name, side, table in zip("ab", (found.a, found.b), tables, strict=True)
        },
        "pairs": pairs,
        "warnings": _warnings(tables, found),
    }
    if options["spans"] and pairs:
        _describe(pairs[: options["top"]], samples, tables, taken, options)
    return row


def _common_samples(tables: Any, rows: Any) -> list[Any]:
    """Samples that both tables hold under the same id, with the same text."""
    from facsynth.errors import DataError, MismatchError
    from facsynth.records import sample_text

    if not rows[0].size:
        raise DataError(
            f"{tables[0].folder} and {tables[1].folder} have no sample id in common; extract both "
            "from the same data"
        )
    sides = [
        [found[i] for i in chosen]
        for found, chosen in zip((table.samples() for table in tables), rows, strict=True)
    ]
    for one, other in zip(*sides, strict=True):
        if sample_text(one) != sample_text(other):
            raise MismatchError(
                f"sample {one.sample_id!r} has another text in {tables[1].folder} than in "
                f"{tables[0].folder}; extract both from the same data"
            )
    return list(sides[0])


def _random_rows(path: Path | None, table: Any, sample_ids: tuple[str, ...]) -> Any:
    """Rows of the control, for these samples."""
    from facsynth.errors import DataError, MismatchError
    from facsynth.table.rows import take_rows
    from facsynth.table.table import open_table

    if path is None:
        return None
    control = open_table(path)
    if control.manifest.source.model_hash != table.manifest.source.model_hash:
        raise MismatchError(
            f"{path} was extracted with another model than {table.folder}; the random SAE has to "
            "read the model of TABLE_B"
        )
    whole = control.activations()
    places = {sample_id: row for row, sample_id in enumerate(whole.sample_ids)}
    missing = [sample_id for sample_id in sample_ids if sample_id not in places]
    if missing:
        raise DataError(f"{path} lacks {len(missing)} of the common samples, such as {missing[0]}")
    return take_rows(whole, [places[sample_id] for sample_id in sample_ids])


def _pairs(found: Any) -> list[dict[str, Any]]:
    """Mutual pairs, those that correlate most first."""
    import numpy as np

    side = found.a
    order = np.lexsort((side.feature_ids, -side.correlations))
    return [
        {
            "a": int(side.feature_ids[i]),
            "b": int(side.partners[i]),
            "r": float(side.correlations[i]),
        }
        for i in order
        if side.is_mutual[i]
    ]


def _side_row(side: Any, table: Any) -> dict[str, Any]:
    import numpy as np

    source = table.manifest.source
    limits = np.round(np.arange(0, 1, 0.02), 2)
    above = side.correlations[:, None] > limits
    mutual = above & side.is_mutual[:, None]
    return {
        "table": str(table.folder),
        "model": source.model_name,
        "sae": source.sae_name,
        "layer": source.layer,
        "n_features": source.n_features,
        "n_compared": int(side.feature_ids.size),
        "share": _share_row(side.share),
        "mutual_share": _share_row(side.mutual_share),
        "median_r": float(np.median(side.correlations)),
        "shuffled": list(side.shuffled),
        "shuffled_by_length": list(side.shuffled_by_length),
        "random": side.random,
        "curve": _points(limits, above),
        "mutual_curve": _points(limits, mutual),
    }


def _share_row(share: Any) -> dict[str, float]:
    return {"value": share.value, "low": share.low, "high": share.high}


def _points(limits: Any, above: Any) -> list[dict[str, float]]:
    return [
        {"r": float(r), "share": float(share)}
        for r, share in zip(limits, above.mean(axis=0), strict=True)
    ]


def _describe(
    shown: list[dict[str, Any]], samples: Any, tables: Any, taken: Any, options: dict[str, Any]
) -> None:
    """Give the shown pairs their names, examples and how often they peak on the same word."""
    from facsynth.cli.load import load_table_tokenizer
    from facsynth.understand.counterparts import Reading, describe_counterparts

    readings = []
    for table, rows, name in zip(tables, taken, ("model_a", "model_b"), strict=True):
        source = table.manifest.source
        readings.append(Reading(rows, source, load_table_tokenizer(source, options[name])))
    wanted = [(pair["a"], pair["b"]) for pair in shown]
    found = describe_counterparts(samples, readings[0], readings[1], wanted)
    for pair, described in zip(shown, found, strict=True):
        pair["names"] = list(described.names)
        pair["examples"] = list(described.examples)
        pair["n_both"] = described.n_both
        pair["same_word"] = described.same_word


def _warnings(tables: Any, found: Any) -> list[str]:
    from facsynth.table.alike import precision_remark

    notes = [remark] if (remark := precision_remark(*tables)) else []
    one, other = (table.manifest.source for table in tables)
    for name in ("gate", "pooling", "score"):
        if getattr(one, name) != getattr(other, name):
            notes.append(
                f"{name} is {getattr(one, name)} in A and {getattr(other, name)} in B, which "
                "lowers correlations"
            )
    if one.sae_hash == other.sae_hash and one.model_hash == other.model_hash:
        notes.append("both tables are of the same SAE; a feature's counterpart is itself")
    if found.n_checked < 500:
        notes.append(
            f"only {found.n_checked} samples check the partners; rare features are left out, and "
            "intervals are wide"
        )
    return notes


def _print(row: dict[str, Any]) -> None:
    from facsynth.cli.show import print_table

    sizes = row["n_samples"]
    click.echo(
        f"{sizes['common']:,} common samples: partners found on {sizes['found']:,}, checked on "
        f"{sizes['checked']:,}"
    )
    names = [f"{row[s]['model']}, layer {row[s]['layer']}" for s in "ab"]
    print_table(
        f"Features with a counterpart (r above {row['min_correlation']:g})",
        ("", f"A: {names[0]}", f"B: {names[1]}"),
        [
            ("features compared", row["a"]["n_compared"], row["b"]["n_compared"]),
            ("  of", row["a"]["n_features"], row["b"]["n_features"]),
            ("share with a counterpart", *(_interval(row[s]["share"]) for s in "ab")),
            ("  each other's best", *(_interval(row[s]["mutual_share"]) for s in "ab")),
            ("  samples shuffled", *(_mean(row[s]["shuffled"]) for s in "ab")),
            ("  shuffled at like lengths", *(_mean(row[s]["shuffled_by_length"]) for s in "ab")),
            ("  in random directions", *(row[s]["random"] for s in "ab")),
            ("median r of the best partner", *(row[s]["median_r"] for s in "ab")),
        ],
    )
    shown = [pair for pair in row["pairs"] if "names" in pair]
    if not shown:
        return
    print_table(
        f"Best of {len(row['pairs']):,} mutual pairs",
        ("A", "B", "r", "same word", "A peaks on", "B peaks on"),
        [(str(p["a"]), str(p["b"]), p["r"], p["same_word"], *p["names"]) for p in shown],
    )
    for pair in shown:
        for side, example in zip("ab", pair["examples"], strict=True):
            click.echo(f"  {side.upper()} {pair[side]}: {(example or '')[:110]}")


def _interval(share: dict[str, float]) -> str:
    return f"{share['value']:.3f} ({share['low']:.3f} to {share['high']:.3f})"


def _mean(values: list[float]) -> float | None:
    return sum(values) / len(values) if values else None
