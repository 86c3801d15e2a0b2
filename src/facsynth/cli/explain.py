"""`fac explain`."""

from pathlib import Path

import click

from facsynth.cli.options import output_option


@click.command()
@click.argument("table", type=click.Path(path_type=Path))
@output_option("JSONL file with one row per feature.")
@click.option("--model", help="Model that extracted the table; without it the one it names.")
@click.option(
    "--features",
    type=click.Path(path_type=Path, exists=True),
    help="Explain only these: ids, or rows with feature_id, one per line.",
)
@click.option(
    "--max-features", type=click.IntRange(min=1), help="Explain only the most frequent so many."
)
@click.option(
    "--spans",
    "n_spans",
    type=click.IntRange(min=1),
    default=10,
    show_default=True,
    help="Spans per feature.",
)
def explain(
    table: Path,
    output: Path,
    model: str | None,
    features: Path | None,
    max_features: int | None,
    n_spans: int,
) -> None:
    """Name the features of TABLE by the words at their peaks, with their strongest spans."""
    from dataclasses import asdict

    import numpy as np

    from facsynth.cli.load import load_relevant, load_table_tokenizer
    from facsynth.cli.show import RichProgress
    from facsynth.data.write import write_jsonl
    from facsynth.store.table import open_table
    from facsynth.understand.names import count_words, name_feature
    from facsynth.understand.spans import collect_spans, extract_settings

    opened = open_table(table)
    rows, samples, source = opened.activations(), opened.samples(), opened.manifest.source
    counts = np.bincount(rows.feature_ids, minlength=rows.n_features)
    wanted = load_relevant(features, rows.n_features)
    order = np.argsort(-counts, kind="stable")
    chosen = [int(f) for f in order if counts[f] and (wanted is None or wanted[f])][:max_features]
    extract = extract_settings(source)
    spans = collect_spans(
        samples,
        rows,
        load_table_tokenizer(source, model),
        chosen,
        score=extract.score,
        max_tokens=extract.max_tokens,
        n_spans=n_spans,
    )
    words = count_words(samples)
    n = write_jsonl(
        (
            {
                "feature_id": f,
                "name": name_feature(spans[f], words),
                "n_samples": int(counts[f]),
                "spans": [asdict(span) for span in spans[f]],
            }
            for f in chosen
        ),
        output,
    )
    RichProgress().say(f"{n:,} features written to {output}")
