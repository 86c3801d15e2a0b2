"""`fac diversity`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from facsynth.cli.from_settings import settings_options
from facsynth.cli.options import (
    json_option,
    model_options,
    plot_option,
    threshold_option,
)
from facsynth.cli.sections import SectionedCommand
from facsynth.compare.settings import DiversitySettings
from facsynth.data.settings import ReadSettings


@click.command(cls=SectionedCommand)
@click.argument("data", nargs=-1, required=True)
@settings_options(DiversitySettings, "settings")
@click.option(
    "--anchor",
    type=click.Path(path_type=Path),
    help="Feature table to measure closeness and FAC against; needs feature tables as DATA.",
)
@threshold_option
@click.option(
    "--embed",
    help="Vectors to measure: `lm` for the mean residual stream of the language model at --layer, "
    "or the name or folder of a Sentence-Transformers model. By default, of the feature tables.",
)
@click.option("--layer", type=int, help="0-based layer of --embed lm; by default the SAE's.")
@plot_option
@model_options
@settings_options(ReadSettings, "reading", without=("random_seed", "sample"))
@json_option
def diversity(
    data: tuple[str, ...],
    settings: DiversitySettings,
    embed: str | None,
    plot: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Measure the diversity of data sets.

    DATA are data sets, or feature tables, which keep their text. All are measured at the size of
    the smallest, because most measures change with the number of samples; larger ones are drawn
    from at random, several times, and ± is the standard error of the mean over the draws. Vectors
    are the feature activations of the tables, or embeddings by --embed.
    """
    from dataclasses import replace

    from facsynth.cli.load import table_names
    from facsynth.cli.show import show
    from facsynth.compare.side_by_side import MEASURES, compare_diversity
    from facsynth.data.read import SampleList
    from facsynth.report.plots import bar_charts, write_chart

    reading = replace(options["reading"], random_seed=settings.random_seed)
    samples, sets, anchor, notes = _read(data, {**options, "reading": reading})
    kind = "pooled feature activations"
    if embed:
        kind = "mean residual stream" if embed == "lm" else embed
        in_memory = [one if isinstance(one, list) else one.samples() for one in samples]
        vectors = _embed(in_memory, embed, options)
        sets = [replace(one, vectors=found) for one, found in zip(sets, vectors, strict=True)]
    names = table_names([Path(name) for name in data])
    sets = [replace(one, name=name) for one, name in zip(sets, names, strict=True)]
    found = compare_diversity(sets, settings, anchor=anchor, vectors=kind)
    pairs = zip(names, samples, strict=True)
    read = {name: one.report.row() for name, one in pairs if isinstance(one, SampleList)}
    show(found, as_json=as_json, notes=notes, read=read)
    if plot:
        write_chart(bar_charts(found.row()["sets"], MEASURES), plot)


def _read(
    data: Sequence[str], options: dict[str, Any]
) -> tuple[list[Any], list[Any], Any, tuple[str, ...]]:
    """Samples or table of every data set, what is measured, the anchor's active rows, and notes."""
    from facsynth.cli.load import load_samples, load_tables, load_threshold
    from facsynth.compare.side_by_side import DataSet
    from facsynth.records import sample_text
    from facsynth.remote import local_copy
    from facsynth.table.active import active_rows
    from facsynth.table.columns import read_texts

    copies = {n: Path(n) if n.startswith("hf://") else local_copy(n) for n in data}
    folders = [Path(name) for name in data if (copies[name] / "manifest.json").is_file()]
    anchor = [options["anchor"]] if options["anchor"] else []
    opened = load_tables([*folders, *anchor]) if folders or anchor else []
    tables = dict(zip(map(str, folders), opened, strict=False))
    samples, sets, threshold = list[Any](), list[Any](), 0.0
    notes: tuple[str, ...] = ()
    if opened:
        chosen = load_threshold(opened, given=options["threshold"], has_anchor=bool(anchor))
        threshold, notes = chosen.threshold, chosen.notes
    for name in data:
        table = tables.get(str(Path(name)))
        if table:
            samples.append(table)
            active = active_rows(table, threshold=threshold)
            vectors = active if threshold == 0 else active_rows(table, threshold=0.0)
            sets.append(DataSet(name, tuple(read_texts(table)), active, vectors))
        else:
            samples.append(load_samples(name, options["reading"]))
            sets.append(DataSet(name, tuple(map(sample_text, samples[-1]))))
    target = active_rows(opened[-1], threshold=threshold) if anchor else None
    return samples, sets, target, notes


def _embed(samples: list[Any], embed: str, options: dict[str, Any]) -> list[Any]:
    """Embeddings of all data sets by the language model or by Sentence-Transformers."""
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
                "'facsynth[embed]'` or use --embed lm"
            ) from error
        model = SentenceTransformer(embed, trust_remote_code=False)
        return [model.encode([sample_text(one) for one in of_set]) for of_set in samples]
    layer = options["layer"]
    if layer is None and options["model"].model:
        raise DataError("--embed lm with a --model of your own needs its --layer")
    progress = RichProgress()
    lm = load_model(options["model"], progress)
    at = load_sae(None).config.layer if layer is None else layer
    return [embed_samples(of_set, lm, at, progress=progress) for of_set in samples]
