"""Names for the features that a command lists, from the text of feature tables."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from facsynth.settings import Settings

__all__ = ["NamingSettings", "feature_names"]


@dataclass(frozen=True)
class NamingSettings(Settings):
    """Whether and how the listed features are named."""

    spans: bool = True
    """Name the shown features by the words at their peaks, with an example each."""

    model: str | None = None
    """Model that extracted the tables; by default the one that they name."""


def feature_names(
    feature_ids: Sequence[int], tables: Sequence[Any], activations: Any, *, model: str | None
) -> dict[int, tuple[str, str | None]]:
    """Name and strongest example of features; the example is None where there is no text.

    Args:
        feature_ids: Features to name.
        tables: Feature tables that keep the text, extracted alike.
        activations: Their active entries, one table behind the other.
        model: Whose tokenizer finds the words; the one that the tables name if None.
    """
    if not feature_ids:
        return {}
    from facsynth.cli.load import load_table_tokenizer
    from facsynth.understand.names import count_terms, name_feature
    from facsynth.understand.spans import (
        ReadTable,
        collect_spans,
        extract_settings,
        mark_peak,
    )

    source = tables[0].manifest.source
    samples = [sample for table in tables for sample in table.samples()]
    tokenizer = load_table_tokenizer(source, model)
    table = ReadTable(samples, activations, tokenizer, extract_settings(source))
    words = count_terms(samples)
    return {
        feature: (name_feature(found, words), mark_peak(found[0]) if found else None)
        for feature, found in collect_spans(table, feature_ids).items()
    }
