"""`fac diff`."""

from pathlib import Path

import click

from facsynth.cli.from_settings import settings_options
from facsynth.cli.naming import NamingSettings
from facsynth.cli.options import json_option, relevant_option, threshold_option
from facsynth.cli.sections import SectionedCommand
from facsynth.compare.settings import DiffSettings


@click.command(cls=SectionedCommand)
@click.argument("a", metavar="A", type=click.Path(path_type=Path))
@click.argument("b", metavar="B", type=click.Path(path_type=Path))
@settings_options(DiffSettings, "settings")
@settings_options(NamingSettings, "naming", without=("sae",))
@relevant_option
@threshold_option
@json_option
def diff(
    a: Path,
    b: Path,
    settings: DiffSettings,
    relevant: Path | None,
    threshold: float | None,
    naming: NamingSettings,
    as_json: bool,
) -> None:
    """Show which features fire more in one table than in another.

    Every feature is tested (Cochran-Mantel-Haenszel within length groups), and p-values are
    corrected for the number of features (Benjamini-Hochberg: q). The effect is the log odds ratio
    of firing, A against B. --json lists all features that differ,
    with names for those that the table shows.
    """
    from dataclasses import replace

    from facsynth.cli.load import load_active, load_table_tokenizer
    from facsynth.cli.show import show
    from facsynth.compare.difference import compare_features, shared_texts
    from facsynth.table.columns import read_texts
    from facsynth.understand.findings import name_features

    tables, rows, chosen = load_active((a, b), threshold=threshold, relevant=relevant)
    found = compare_features(rows[0], rows[1], settings)
    names: dict[int, tuple[str, str | None]] = {}
    for side in (0, 1) if naming.spans else ():
        ids = [int(found.feature_ids[i]) for i in found.more_in(side)[: settings.top]]
        if not ids:
            continue
        tokenizer = load_table_tokenizer(tables[side].manifest.source, naming.model)
        names |= name_features(ids, [tables[side]], rows[side], tokenizer)
    notes = found.notes + shared_texts(list(map(read_texts, tables)))
    found = replace(found, sets=(str(a), str(b)), names=names, notes=notes)
    show(found, as_json=as_json, notes=chosen + notes)
