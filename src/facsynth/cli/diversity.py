"""`fac diversity`."""

from pathlib import Path
from typing import Any

import click

from facsynth.cli.options import (
    data_options,
    json_option,
    model_options,
    plot_option,
    threshold_option,
)

_ROWS = {
    "hellinger": "closeness: Hellinger distance to the anchor (0 best)",
    "fac": "FAC (1 best)",
    "mean_words": "mean words",
    "distinct_1": "Distinct-1 (higher is more diverse)",
    "distinct_2": "Distinct-2 (higher)",
    "pos_distinct_2": "Distinct-2 of part-of-speech tags (higher)",
    "unigram_entropy": "unigram entropy, bits (higher)",
    "bigram_entropy": "bigram entropy, bits (higher)",
    "self_bleu": "Self-BLEU-4 (lower)",
    "compression_ratio": "compression ratio (lower)",
    "cosine_distance": "cosine distance of vectors (higher)",
    "vendi": "Vendi score of vectors (higher)",
    "cluster_entropy": "semantic (cluster) entropy of vectors, bits (higher)",
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
@click.option(
    "--embed",
    help="Vectors to measure: `lm` for the mean residual stream of the language model at --layer, "
    "or the name or folder of a Sentence-Transformers model. Without it, of the tables.",
)
@click.option("--layer", type=int, help="0-based layer of --embed lm; by default the SAE's.")
@click.option("--pos", is_flag=True, help="Add Distinct-2 of part-of-speech tags (English).")
@plot_option
@click.option("--random-seed", default=0, show_default=True, help="Seed of draws and clusters.")
@model_options
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
    embed: str | None,
    layer: int | None,
    pos: bool,
    plot: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Measure the diversity of the texts of DATA, one column for each data set.

    All data sets are measured at the size of the smallest, because most measures change with the
    number of samples; larger ones are drawn from at random, several times, and ± is the standard
    error of the mean over the draws. Vectors are the feature activations of the tables, or
    embeddings by --embed.
    """
    from facsynth.cli.load import load_samples, table_names
    from facsynth.cli.show import print_json
    from facsynth.compare.side_by_side import CompareSettings, compare_diversity
    from facsynth.errors import DataError
    from facsynth.report.plots import bar_charts, check_plot_path, write_chart

    if plot:
        check_plot_path(plot)
    if tables and len(tables) != len(data):
        raise DataError(
            f"{len(data)} data sets and {len(tables)} tables; give one --table for each"
        )
    if anchor and not tables:
        raise DataError("--anchor compares feature tables; give one --table for each data set")
    samples = [load_samples(name, options) for name in data]
    sets, target = _with_tables(samples, tables, anchor)
    if pos:
        sets = [_with_tags(one) for one in sets]
    if embed:
        vectors = _embed(samples, embed, layer, options)
        sets = [_with_vectors(one, found) for one, found in zip(sets, vectors, strict=True)]
    settings = CompareSettings(sample, draws, clusters, threshold, random_seed)
    found = compare_diversity(sets, settings, anchor=target)
    names = table_names([Path(name) for name in data])
    columns = [_column(*one, draws, embed) for one in zip(data, names, found, strict=True)]
    if plot:
        write_chart(bar_charts(columns, _ROWS), plot)
    if as_json:
        print_json({"sets": columns, "threshold": threshold, "random_seed": random_seed})
    else:
        _print(columns)


def _with_tables(
    samples: list[list[Any]], tables: tuple[Path, ...], anchor: Path | None
) -> tuple[list[Any], Any]:
    """Texts of every data set with the rows of its table, and the rows of the anchor."""
    from facsynth.cli.load import load_tables
    from facsynth.compare.side_by_side import DataSet
    from facsynth.errors import DataError
    from facsynth.records import sample_text

    texts = [tuple(sample_text(one) for one in of_set) for of_set in samples]
    if not tables:
        return [DataSet(found) for found in texts], None
    opened = load_tables((*tables, anchor) if anchor else tables)
    for table, found in zip(opened, texts, strict=False):
        if tuple(sample_text(one) for one in table.samples()) != found:
            raise DataError(
                f"{table.folder} does not hold the {len(found):,} samples of its data set; give "
                "the tables in the order of the data, read with the same options"
            )
    sets = [DataSet(found, t.activations()) for found, t in zip(texts, opened, strict=False)]
    return sets, opened[-1].activations() if anchor else None


def _with_tags(one: Any) -> Any:
    from dataclasses import replace

    from facsynth.data.tags import tag_words

    return replace(one, tags=tuple(tag_words(one.texts)))


def _with_vectors(one: Any, vectors: Any) -> Any:
    from dataclasses import replace

    return replace(one, vectors=vectors)


def _embed(
    samples: list[list[Any]], embed: str, layer: int | None, options: dict[str, Any]
) -> list[Any]:
    """Embeddings of all data sets by the language model or by Sentence-Transformers."""
    import numpy as np

    from facsynth.cli.load import load_model
    from facsynth.cli.show import RichProgress
    from facsynth.errors import DataError
    from facsynth.models.embed import embed_samples
    from facsynth.records import sample_text
    from facsynth.sae.files import load_sae

    if embed != "lm":
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise DataError(
                f"--embed {embed} needs Sentence-Transformers; run `pip install "
                "'facsynth[embed]'` or take --embed lm"
            ) from error
        model = SentenceTransformer(embed)
        texts = [[sample_text(one) for one in of_set] for of_set in samples]
        return [np.asarray(model.encode(found), dtype=np.float64) for found in texts]
    if layer is None and options["model"]:
        raise DataError("--embed lm with a --model of one's own needs its --layer")
    progress = RichProgress()
    lm = load_model(options, progress)
    at = load_sae(None).config.layer if layer is None else layer
    found = [embed_samples(of_set, lm, at, progress=progress) for of_set in samples]
    return [vectors.astype(np.float64) for vectors in found]


def _column(data: str, name: str, found: Any, n_draws: int, embed: str | None) -> dict[str, Any]:
    """A data set's measures as plain values."""
    from dataclasses import asdict

    column = {"data": data, "name": name, **asdict(found)}
    is_whole = found.n_measured == found.n_samples
    return {**column, "n_draws": 1 if is_whole else n_draws, "vectors": _vectors(found, embed)}


def _vectors(found: Any, embed: str | None) -> str | None:
    if "vendi" not in found.metrics:
        return None
    return {None: "pooled feature activations", "lm": "mean residual stream"}.get(embed, embed)


def _print(columns: list[dict[str, Any]]) -> None:
    """One column per data set, closeness first, sizes last."""
    from facsynth.cli.show import print_table

    def cell(value: dict[str, float | None]) -> str:
        error = value["standard_error"]
        return f"{value['value']:.3f}" + (f" ± {error:.3f}" if error is not None else "")

    names = [name for name in _ROWS if name in columns[0]["metrics"]]
    sizes = {"samples": "n_samples", "measured at a time": "n_measured", "draws": "n_draws"}
    if columns[0]["vectors"]:
        sizes["samples without a vector"] = "n_silent"
    print_table(
        "Diversity at equal numbers of samples",
        ("measure", *(column["name"] for column in columns)),
        [
            *((_ROWS[name], *(cell(c["metrics"][name]) for c in columns)) for name in names),
            *((title, *(c[key] for c in columns)) for title, key in sizes.items()),
        ],
    )
