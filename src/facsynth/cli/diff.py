"""`fac diff`."""

from functools import partial
from pathlib import Path
from typing import Any

import click

from facsynth.cli.options import json_option, naming_options, relevant_option, threshold_option


@click.command()
@click.argument("a", metavar="A", type=click.Path(path_type=Path))
@click.argument("b", metavar="B", type=click.Path(path_type=Path))
@click.option(
    "--length",
    type=click.Choice(["matched", "none"]),
    default="matched",
    show_default=True,
    help="Compare samples within tenths of the pooled lengths, or all at once.",
)
@click.option(
    "--fdr",
    type=click.FloatRange(0, 1, min_open=True),
    default=0.05,
    show_default=True,
    help="Share of false discoveries among the features called different.",
)
@click.option(
    "--top",
    type=click.IntRange(min=1),
    default=15,
    show_default=True,
    help="Features to show on either side.",
)
@naming_options
@relevant_option
@threshold_option
@json_option
def diff(a: Path, b: Path, as_json: bool, **options: Any) -> None:
    """Show which features fire more in feature table A than in B, and less.

    Every feature is tested (Cochran-Mantel-Haenszel within length groups; Fisher's exact test with
    --length none), and p-values are corrected for the number of features (Benjamini-Hochberg: q).
    The effect is the log odds ratio of firing, A against B. With --json, all features that are
    different at this rate are listed, and names for the shown ones.
    """
    from facsynth.cli.show import print_result

    row = _measure(a, b, options)
    show = partial(_print, top=options["top"])
    print_result(row, show, as_json=as_json, notes=row["warnings"])


def _measure(a: Path, b: Path, options: dict[str, Any]) -> dict[str, Any]:
    from facsynth.cli.load import load_tables, relevant_flags
    from facsynth.cli.naming import feature_names
    from facsynth.compare.difference import compare_features
    from facsynth.coverage.fac import active_only

    tables = load_tables((a, b))
    rows = [active_only(t.activations(), threshold=options["threshold"]) for t in tables]
    relevant = relevant_flags(options["relevant"], rows[0].n_features)
    found = compare_features(rows[0], rows[1], relevant, by_length=options["length"] == "matched")
    is_different = found.q_value <= options["fdr"]
    sides: dict[str, list[dict[str, Any]]] = {}
    for side, chosen in (("more_in_a", found.log_odds > 0), ("more_in_b", found.log_odds < 0)):
        order = [i for i in found.order().tolist() if chosen[i] and is_different[i]]
        sides[side] = [_row(found, i) for i in order]
        if options["spans"]:
            own, shown = side == "more_in_b", sides[side][: options["top"]]
            ids = [row["feature_id"] for row in shown]
            names = feature_names(ids, [tables[own]], rows[own], model=options["model"])
            for row in shown:
                row["name"], row["example"] = names[row["feature_id"]]
    return {
        **{side: str(path) for side, path in (("a", a), ("b", b))},
        "n_samples": {"a": rows[0].n_tokens.size, "b": rows[1].n_tokens.size},
        "mean_tokens": {"a": float(rows[0].n_tokens.mean()), "b": float(rows[1].n_tokens.mean())},
        "n_tested": int(found.feature_ids.size),
        "n_different": int(is_different.sum()),
        "n_length_groups": found.n_strata,
        "n_compared": dict(zip("ab", found.n_compared, strict=True)),
        "fdr": options["fdr"],
        "threshold": options["threshold"],
        **sides,
        "warnings": _warnings(tables, rows, found, options),
    }


def _row(found: Any, i: int) -> dict[str, Any]:
    names = ("n_a", "n_b", "log_odds", "low", "high", "p_value", "q_value")
    return {
        "feature_id": int(found.feature_ids[i]),
        **{name: getattr(found, name)[i].item() for name in names},
    }


def _warnings(tables: Any, rows: Any, found: Any, options: dict[str, Any]) -> list[str]:
    from facsynth.coverage.controls import length_auc
    from facsynth.records import sample_text

    notes = []
    auc = length_auc(rows[0].n_tokens, rows[1].n_tokens)
    if options["length"] == "none" and not 0.4 <= auc <= 0.6:
        word = "longer" if auc > 0.5 else "shorter"
        notes.append(
            f"samples of A are {word} than those of B in {max(auc, 1 - auc):.0%} of all "
            "comparisons, and longer texts activate more features; use --length matched"
        )
    n_lost = sum(r.n_tokens.size for r in rows) - sum(found.n_compared)
    if n_lost:
        notes.append(
            f"{n_lost:,} samples were left out: without text, or of a length that the other set "
            "does not have"
        )
    texts = [{sample_text(sample) for sample in table.samples()} for table in tables]
    n_shared = len(texts[0] & texts[1])
    if n_shared:
        notes.append(
            f"{n_shared:,} texts stand in both sets, which draws them together; compare the rows "
            "that differ to see what changed"
        )
    n_copies = sum(r.n_tokens.size - len(found) for r, found in zip(rows, texts, strict=True))
    if n_copies:
        notes.append(f"{n_copies:,} samples are copies within their set; p-values are too small")
    return notes


def _print(row: dict[str, Any], top: int) -> None:
    from facsynth.cli.show import print_table

    sizes = "; ".join(
        f"{name.upper()} = {row[name]}, {row['n_samples'][name]:,} samples, "
        f"{row['mean_tokens'][name]:.0f} tokens on average"
        for name in "ab"
    )
    click.echo(sizes)
    click.echo(
        f"{row['n_different']:,} of {row['n_tested']:,} features differ at a false discovery rate "
        f"of {row['fdr']:g}, compared within {row['n_length_groups']} length groups"
    )
    for side, title in (("more_in_a", "More in A"), ("more_in_b", "More in B")):
        shown = row[side][:top]
        with_names = any("name" in one for one in shown)
        print_table(
            f"{title}: {len(row[side]):,} features" + (f", first {top}" if shown else ""),
            ("feature", "in A", "in B", "log odds", "95 %", "q") + ("name",) * with_names,
            [_cells(one, with_names) for one in shown],
        )
        for one in shown:
            if one.get("example"):
                click.echo(f"  {one['feature_id']}: {one['example'][:100]}")


def _cells(one: dict[str, Any], with_names: bool) -> tuple[object, ...]:
    cells = (
        str(one["feature_id"]),
        one["n_a"],
        one["n_b"],
        f"{one['log_odds']:+.2f}",
        f"{one['low']:+.1f} to {one['high']:+.1f}",
        f"{one['q_value']:.0e}",
    )
    return (*cells, one.get("name")) if with_names else cells
