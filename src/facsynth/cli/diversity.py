"""`fac diversity`."""

from pathlib import Path
from typing import Any

import click

from facsynth.cli.options import data_options, json_option, threshold_option

_ROWS = {
    "hellinger": "closeness: Hellinger distance to the anchor (0 best)",
    "fac": "FAC (1 best)",
    "mean_words": "mean words",
    "distinct_1": "Distinct-1 (higher is more diverse)",
    "distinct_2": "Distinct-2 (higher)",
    "unigram_entropy": "unigram entropy, bits (higher)",
    "bigram_entropy": "bigram entropy, bits (higher)",
    "self_bleu": "Self-BLEU-4 (lower)",
    "compression_ratio": "compression ratio (lower)",
    "cosine_distance": "cosine distance of features (higher)",
    "vendi": "Vendi score of features (higher)",
    "cluster_entropy": "cluster entropy of features, bits (higher)",
}


@click.command()
@click.argument("data", nargs=-1, required=True)
@click.option(
    "--table",
    "tables",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Feature table of a data set, one for each DATA in the same order; adds the vector "
    "measures.",
)
@click.option(
    "--anchor",
    type=click.Path(path_type=Path),
    help="Feature table to measure closeness and FAC against; needs --table.",
)
@threshold_option
@click.option(
    "--sample",
    type=click.IntRange(min=2),
    default=1000,
    show_default=True,
    help="Measure at most so many samples of each data set at a time.",
)
@click.option(
    "--draws",
    type=click.IntRange(min=2),
    default=5,
    show_default=True,
    help="Random draws behind a data set that is larger than the sample.",
)
@click.option("--clusters", default=20, show_default=True, help="Clusters of cluster entropy.")
@click.option("--random-seed", default=0, show_default=True, help="Seed of draws and clusters.")
@data_options
@json_option
def diversity(
    data: tuple[str, ...],
    tables: tuple[Path, ...],
    anchor: Path | None,
    threshold: float,
    sample: int,
    draws: int,
    clusters: int,
    random_seed: int,
    as_json: bool,
    **options: Any,
) -> None:
    """Measure the diversity of the texts of DATA, one column for each data set.

    All data sets are measured at the size of the smallest, because most measures change with the
    number of samples; larger ones are drawn from at random, several times, and ± is the standard
    error of the mean over the draws. Vectors are the feature activations of the tables.
    """
    from facsynth.cli.load import load_samples
    from facsynth.cli.show import print_json
    from facsynth.coverage.compare import CompareSettings, compare_diversity
    from facsynth.errors import DataError

    if tables and len(tables) != len(data):
        raise DataError(
            f"{len(data)} data sets and {len(tables)} tables; give one --table for each"
        )
    if anchor and not tables:
        raise DataError("--anchor compares feature tables; give one --table for each data set")
    samples = [load_samples(name, options) for name in data]
    sets, target = _with_tables(samples, tables, anchor)
    settings = CompareSettings(sample, draws, clusters, threshold, random_seed)
    found = compare_diversity(sets, settings, anchor=target)
    columns = [_column(name, one, draws) for name, one in zip(data, found, strict=True)]
    if as_json:
        print_json({"sets": columns, "threshold": threshold, "random_seed": random_seed})
    else:
        _print(columns)


def _with_tables(
    samples: list[list[Any]], tables: tuple[Path, ...], anchor: Path | None
) -> tuple[list[Any], Any]:
    """Texts of every data set with the rows of its table, and the rows of the anchor."""
    from facsynth.coverage.compare import DataSet
    from facsynth.errors import DataError
    from facsynth.records import sample_text
    from facsynth.store.table import check_same_features, open_table

    texts = [tuple(sample_text(one) for one in of_set) for of_set in samples]
    if not tables:
        return [DataSet(found) for found in texts], None
    opened = [open_table(path) for path in tables]
    for table, found in zip(opened, texts, strict=True):
        check_same_features(opened[0], table)
        if tuple(sample_text(one) for one in table.samples()) != found:
            raise DataError(
                f"{table.folder} does not hold the {len(found):,} samples of its data set; give "
                "the tables in the order of the data, read with the same options"
            )
    sets = [DataSet(found, table.activations()) for found, table in zip(texts, opened, strict=True)]
    if anchor is None:
        return sets, None
    target = open_table(anchor)
    check_same_features(target, opened[0])
    return sets, target.activations()


def _column(name: str, found: Any, n_draws: int) -> dict[str, Any]:
    """A data set's measures as plain values."""
    from dataclasses import asdict

    column = {"data": name, **asdict(found)}
    is_whole = found.n_measured == found.n_samples
    return {**column, "n_draws": 1 if is_whole else n_draws, "vectors": _vectors(found)}


def _vectors(found: Any) -> str | None:
    return "pooled feature activations" if "vendi" in found.metrics else None


def _print(columns: list[dict[str, Any]]) -> None:
    """One column per data set, closeness first, sizes last."""
    from facsynth.cli.show import print_table

    def cell(value: dict[str, float | None]) -> str:
        error = value["standard_error"]
        return f"{value['value']:.3f}" + (f" ± {error:.3f}" if error is not None else "")

    names = [name for name in _ROWS if name in columns[0]["metrics"]]
    sizes = {"samples": "n_samples", "measured at a time": "n_measured", "draws": "n_draws"}
    if columns[0]["vectors"]:
        sizes["samples without active features"] = "n_silent"
    print_table(
        "Diversity at equal numbers of samples",
        ("measure", *(column["data"] for column in columns)),
        [
            *((_ROWS[name], *(cell(c["metrics"][name]) for c in columns)) for name in names),
            *((title, *(c[key] for c in columns)) for title, key in sizes.items()),
        ],
    )
