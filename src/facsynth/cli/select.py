"""`fac select`."""

from functools import partial
from pathlib import Path
from typing import Any

import click

from facsynth.cli.options import json_option, relevant_option, threshold_option


@click.command()
@click.argument("table", type=click.Path(path_type=Path))
@click.option(
    "--budget", type=click.IntRange(min=1), required=True, help="Number of samples to choose."
)
@click.option(
    "--anchor",
    type=click.Path(path_type=Path),
    help="Feature table to cover or to match; without it the pool itself.",
)
@threshold_option
@click.option(
    "--objective",
    type=click.Choice(["coverage", "representative", "both", "direction", "dissimilar"]),
    default="coverage",
    show_default=True,
    help="Cover the most features; fire in the target's proportions; of the samples that cover "
    "nearly the most, the one that fits these best; keep the difference between the classes, or "
    "between chosen and rejected; take what overlaps little with the picks (SAE-SimScale).",
)
@click.option(
    "--space",
    type=click.Choice(["features", "hidden"]),
    default="features",
    show_default=True,
    help="Of representative and direction: what is brought near the target, vectors of active "
    "features or the mean hidden states that `fac extract --hidden` keeps.",
)
@click.option(
    "--quota",
    type=click.Choice(["length", "per-token", "none"]),
    default="length",
    show_default=True,
    help="Take as many from every tenth of the pool by length; the largest gain in coverage per "
    "token; or from anywhere.",
)
@click.option(
    "--max-tokens",
    type=click.IntRange(min=1),
    help="Tokens that all picks may have together; what does not fit is passed over.",
)
@click.option(
    "--include", help="Samples to choose in any case: ids between commas, or a file of ids."
)
@click.option(
    "--weights",
    type=click.Choice(["equal", "frequency"]),
    default="equal",
    show_default=True,
    help="Every covered feature counts once, or as often as it fires.",
)
@click.option(
    "--fold",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Picks that may count for the same feature.",
)
@click.option(
    "--tolerance",
    default=0.2,
    show_default=True,
    help="Of both: share of the best gain that a pick may fall short of.",
)
@click.option(
    "--epsilon",
    type=float,
    help="Of coverage: look at a random part of the pool for each pick, smaller at more of it; "
    "for pools that barely fit into memory.",
)
@click.option(
    "--max-overlap",
    default=0.8,
    show_default=True,
    help="Of dissimilar: share of a sample's features that picks may cover already.",
)
@click.option(
    "--rejected",
    type=click.Path(path_type=Path),
    help="Feature table of the rejected answers, row by row, for the direction of pairs.",
)
@relevant_option
@click.option(
    "--random-seed", default=0, show_default=True, help="Seed of what is drawn at random."
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Write the chosen samples to this JSONL file, in the order of choice.",
)
@json_option
def select(
    table: Path,
    budget: int,
    anchor: Path | None,
    relevant: Path | None,
    rejected: Path | None,
    include: str | None,
    output: Path | None,
    as_json: bool,
    weights: str,
    **options: Any,
) -> None:
    """Choose samples of the feature table TABLE, without any language model.

    Random picks of the same lengths are measured beside the choice. Coverage of all features
    takes odd texts; name the features that matter with --relevant. `--quota none --threshold 10`
    is the published rule SAE-GreedSelect.
    """
    import numpy as np

    from facsynth.cli.show import RichProgress, print_result
    from facsynth.data.write import sample_row, write_jsonl
    from facsynth.select.report import report_selection
    from facsynth.select.select import SelectSettings, select_samples
    from facsynth.table.table import open_table

    settings = SelectSettings(budget, weighted=weights == "frequency", **options)
    found = open_table(table)
    paths = {"anchor": anchor, "relevant": relevant, "rejected": rejected, "include": include}
    pool = _load_pool(found, paths, settings)
    rows = select_samples(pool, settings)
    rng = np.random.default_rng(settings.random_seed)
    row = {
        "selected": [pool.activations.sample_ids[i] for i in rows],
        **selection_row(report_selection(pool, rows, settings, rng=rng)),
        "settings": {name: getattr(settings, name) for name in settings.__dataclass_fields__},
        "n_pool": len(pool.activations.sample_ids),
    }
    if output:
        samples = found.samples()
        written = write_jsonl((sample_row(samples[i]) for i in rows), output)
        RichProgress().say(f"{written:,} samples written to {output}")
    notes = _notes(row, is_open=relevant is None and weights == "equal")
    print_result(row, partial(_print, with_ids=output is None), as_json=as_json, notes=notes)


def _load_pool(found: Any, paths: dict[str, Any], settings: Any) -> Any:
    """The pool with all that is named beside it."""
    from facsynth.cli.load import check_tables, load_included, load_relevant
    from facsynth.select.select import Pool
    from facsynth.table.table import open_table

    is_hidden = settings.space == "hidden"
    rows = found.activations(hidden=is_hidden)
    tables = {name: open_table(paths[name]) for name in ("anchor", "rejected") if paths[name]}
    for other in tables.values():
        check_tables(found, other)
    target = tables.get("anchor")
    others = {name: table.activations(hidden=is_hidden) for name, table in tables.items()}
    with_labels = settings.objective == "direction" and "rejected" not in tables
    return Pool(
        rows,
        anchor=others.get("anchor"),
        relevant=load_relevant(paths["relevant"], rows.n_features),
        labels=[s.label for s in found.samples()] if with_labels else None,
        anchor_labels=[s.label for s in target.samples()] if with_labels and target else None,
        rejected=others.get("rejected"),
        include=load_included(paths["include"], rows.sample_ids),
    )


def selection_row(report: Any) -> dict[str, Any]:
    """The measures as plain values: `selection`, `pool`, and `random` as mean, low and high."""
    from dataclasses import asdict

    draws = [asdict(measures) for measures in report.random]

    def summary(name: str) -> dict[str, float] | None:
        values = [draw[name] for draw in draws]
        if values[0] is None:
            return None
        return {"mean": sum(values) / len(values), "low": min(values), "high": max(values)}

    return {
        "selection": asdict(report.selection),
        "pool": asdict(report.pool),
        "random": {"n_draws": len(draws), **{name: summary(name) for name in draws[0]}},
        "n_goal": report.n_goal,
    }


_ROWS = {
    "hellinger": "closeness: Hellinger distance to the pool (0 best)",
    "hellinger_anchor": "  to the anchor",
    "hidden_distance": "closeness: shift of the mean hidden state, in sd (0 best)",
    "direction_cosine": "agreement of the class direction (1 best)",
    "fac": "FAC (1 best)",
    "mean_tokens": "mean tokens",
}


def _print(row: dict[str, Any], *, with_ids: bool) -> None:
    from facsynth.cli.show import print_table

    def span(found: dict[str, float]) -> str:
        return f"{found['mean']:.3f} ({found['low']:.3f} to {found['high']:.3f})"

    print_table(
        f"{len(row['selected']):,} of {row['n_pool']:,} samples by {row['settings']['objective']}",
        ("measure", "chosen", "random, same lengths", "whole pool"),
        [
            (title, row["selection"][name], span(row["random"][name]), row["pool"][name])
            for name, title in _ROWS.items()
            if row["selection"][name] is not None
        ],
    )
    if with_ids:
        click.echo("\n".join(row["selected"]))


def _notes(row: dict[str, Any], *, is_open: bool) -> list[str]:
    """What to keep in mind about this choice."""
    settings, chosen, pool = row["settings"], row["selection"], row["pool"]
    notes = []
    if len(row["selected"]) < settings["budget"] and settings["max_tokens"] is None:
        notes.append(
            f"the pool has {len(row['selected']):,} samples with text and the budget is "
            f"{settings['budget']:,}; all of them were chosen"
        )
    if settings["objective"] == "coverage" and is_open:
        notes.append(
            "every feature counts, rare ones as much as others; this favours odd texts, so pass "
            "--relevant, --weights frequency or --objective representative"
        )
    if chosen["mean_tokens"] > 1.2 * pool["mean_tokens"]:
        notes.append(
            f"chosen samples have {chosen['mean_tokens']:.0f} tokens on average and the pool "
            f"{pool['mean_tokens']:.0f}; longer texts cover more, use --quota length"
        )
    return notes
