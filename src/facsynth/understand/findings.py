"""A coverage measurement in words: which topics are missing, and what fires out of proportion."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import numpy as np
from jaxtyping import Float32

from facsynth.coverage.result import N_SHIFTS, Coverage
from facsynth.records import Span
from facsynth.table.active import ActiveRows, active_rows
from facsynth.table.table import FeatureTable
from facsynth.understand.missing import find_topics
from facsynth.understand.names import TermCounts, count_terms, name_feature
from facsynth.understand.spans import ReadTable, collect_spans, extract_settings, mark_peak

__all__ = ["Names", "explain_coverage", "name_features"]

Names = dict[int, tuple[str, str | None]]
"""Name and strongest example by feature."""

N_GROUPED = 400
"""Missing features that are sorted into topics, the first by rank."""


def explain_coverage(
    found: Coverage,
    anchors: Sequence[FeatureTable],
    seeds: Sequence[FeatureTable],
    tokenizer: Any,
    *,
    decoder: Float32[np.ndarray, "n_features d_model"] | None = None,
    n_missing: int = 0,
) -> Coverage:
    """Name the features that a measurement lists, and group the missing ones into topics.

    What the seed fires too much is named by its own words, all else by those of the anchor.

    Args:
        found: The measurement.
        anchors: Tables of the anchor; none against a profile, which has no text, so that only what
            the seed activates is named, and what the profile names keeps its name.
        seeds: Tables of the seed.
        tokenizer: Tokenizer of the model that extracted the tables.
        decoder: The directions of the SAE; without them there are no topics.
        n_missing: Missing features that get a name, the first by rank.
    """
    close = found.representativeness
    over = [s.feature_id for s in close.over_fired[:N_SHIFTS]] if close else []
    under = [s.feature_id for s in close.under_fired[:N_SHIFTS]] if close else []
    delta = found.threshold
    if not anchors:
        bare = (
            [s.feature_id for s in close.under_fired[:N_SHIFTS] if s.name is None] if close else []
        )
        return found.named(name_features(over + bare, seeds, _active(seeds, delta), tokenizer))
    names = name_features(over, seeds, _active(seeds, delta), tokenizer) if over else {}
    active, ranked = _active(anchors, delta), [m.feature_id for m in found.missing]
    table, listed = _read(anchors, active, tokenizer), under + ranked[:n_missing]
    grouped = ranked[:N_GROUPED] if decoder is not None else []
    words, spans = count_terms(table.samples), collect_spans(table, listed + grouped)
    names |= _names({feature: spans[feature] for feature in listed}, words)
    if decoder is None:
        return found.named(names)
    return found.named(names, find_topics(active, decoder, grouped, spans, words))


def name_features(
    feature_ids: Collection[int], tables: Sequence[FeatureTable], active: ActiveRows, tokenizer: Any
) -> Names:
    """Name active features by the words at their peaks, with the strongest example of each."""
    if not feature_ids:
        return {}
    table = _read(tables, active, tokenizer)
    return _names(collect_spans(table, feature_ids), count_terms(table.samples))


def _names(spans: Mapping[int, Sequence[Span]], words: TermCounts) -> Names:
    return {f: (name_feature(one, words), mark_peak(one[0])) for f, one in spans.items() if one}


def _active(tables: Sequence[FeatureTable], threshold: float) -> ActiveRows:
    return active_rows(tuple(tables), threshold=threshold)


def _read(tables: Sequence[FeatureTable], active: ActiveRows, tokenizer: Any) -> ReadTable:
    samples = [sample for table in tables for sample in table.samples()]
    settings = extract_settings(tables[0].manifest.source)
    return ReadTable(samples, active.activations, tokenizer, settings)
