"""Names for the features that a command lists, from the text of feature tables."""

from collections.abc import Sequence
from typing import Any

__all__ = ["feature_names", "name_rows"]


def name_rows(
    rows: Sequence[dict[str, Any]], tables: Sequence[Any], activations: Any, *, model: str | None
) -> None:
    """Give rows the `name` of their feature and its strongest `example`, if there is one.

    Args:
        rows: What is listed, each with a `feature_id`.
        tables: Feature tables that keep the text, extracted alike.
        activations: Their entries, one table behind the other; all of them count as active.
        model: Whose tokenizer finds the words; the one that the tables name if None.
    """
    if not rows:
        return
    from facsynth.cli.load import load_table_tokenizer
    from facsynth.understand.names import count_terms, name_feature
    from facsynth.understand.spans import collect_spans, extract_settings, mark_peak

    source = tables[0].manifest.source
    samples = [sample for table in tables for sample in table.samples()]
    settings = extract_settings(source)
    spans = collect_spans(
        samples,
        activations,
        load_table_tokenizer(source, model),
        [row["feature_id"] for row in rows],
        score=settings.score,
        max_tokens=settings.max_tokens,
    )
    words = count_terms(samples)
    for row in rows:
        found = spans[row["feature_id"]]
        row["name"] = name_feature(found, words)
        row["example"] = mark_peak(found[0]) if found else None


def feature_names(
    feature_ids: Sequence[int], tables: Sequence[Any], activations: Any, *, model: str | None
) -> dict[int, tuple[str, str | None]]:
    """Name and strongest example of features; the arguments are those of `name_rows`."""
    rows: list[dict[str, Any]] = [{"feature_id": feature} for feature in feature_ids]
    name_rows(rows, tables, activations, model=model)
    return {row["feature_id"]: (row["name"], row["example"]) for row in rows}
