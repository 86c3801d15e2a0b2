"""`fac select`."""

from pathlib import Path
from typing import Any

import click

from facsynth.cli.from_settings import settings_options
from facsynth.cli.options import json_option, relevant_option, threshold_option
from facsynth.cli.sections import SectionedCommand
from facsynth.select.settings import SelectSettings


@click.command(cls=SectionedCommand)
@click.argument("table", type=click.Path(path_type=Path))
@settings_options(SelectSettings, "settings")
@click.option(
    "--anchor",
    type=click.Path(path_type=Path),
    help="Feature table to cover or to match: the target. Without it, the pool itself.",
)
@click.option(
    "--include", help="Samples to choose in any case: ids between commas, or a file of ids."
)
@click.option(
    "--rejected",
    type=click.Path(path_type=Path),
    help="Feature table of the rejected answers, row by row, for the direction of pairs.",
)
@threshold_option
@relevant_option
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="Write the chosen samples to this JSONL file, in the order of choice.",
)
@json_option
def select(
    table: Path, settings: SelectSettings, output: Path | None, as_json: bool, **options: Any
) -> None:
    """Choose samples of a feature table, without any model.

    Random choices of the same lengths are measured as a control. The default was ahead of them
    in the studies (docs/studies/keep_rules.md); --objective coverage was not, and favours odd
    texts unless --relevant names the features that matter. `--objective coverage --quota none
    --threshold 10` is the published rule SAE-GreedSelect.
    """
    from facsynth.cli.show import RichProgress, show
    from facsynth.data.write import sample_row, write_jsonl
    from facsynth.select.select import select_samples
    from facsynth.table.columns import read_samples
    from facsynth.table.table import open_table

    found = open_table(table)
    pool, notes = _pool(found, settings, options)
    chosen = select_samples(pool, settings)
    if output:
        written = write_jsonl(map(sample_row, read_samples(found, chosen.rows)), output)
        RichProgress().say(f"{written:,} samples written to {output}")
    show(chosen, as_json=as_json, notes=notes + chosen.notes)
    if not output and not as_json:
        from facsynth.show import visible_text

        click.echo("\n".join(map(visible_text, chosen.sample_ids)))


def _pool(
    found: Any, settings: SelectSettings, options: dict[str, Any]
) -> tuple[Any, tuple[str, ...]]:
    """The pool with all that is named beside it, and notes on the threshold."""
    from facsynth.cli.load import check_tables, load_included, load_relevant, load_threshold
    from facsynth.select.pool import Pool
    from facsynth.table.active import active_rows
    from facsynth.table.columns import read_labels
    from facsynth.table.table import open_table

    relevant = load_relevant(options["relevant"], found.manifest.source.n_features)
    tables = {"rows": found}
    for name in ("anchor", "rejected"):
        if options[name]:
            tables[name] = open_table(options[name])
            check_tables(found, tables[name])
    target = tables.get("anchor")
    level = load_threshold(
        [found, target] if target else [found],
        relevant,
        given=options["threshold"],
        has_anchor=target is not None,
        n_samples=settings.budget,
    )
    active = {
        name: active_rows(table, threshold=level.threshold, relevant=relevant)
        for name, table in tables.items()
    }
    labels: dict[str, Any] = {}
    if settings.objective == "direction" and "rejected" not in tables:
        labels = {name: read_labels(table) for name, table in tables.items()}
    rows = active["rows"]
    pool = Pool(
        rows,
        anchor=active.get("anchor"),
        labels=labels.get("rows"),
        anchor_labels=labels.get("anchor"),
        rejected=active.get("rejected"),
        include=load_included(options["include"], rows.sample_ids),
    )
    return pool, level.notes
