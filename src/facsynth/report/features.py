"""The features of a page: names, counts, histograms, spans, neighbours, topics."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from facsynth.coverage.representative import log_odds
from facsynth.records import Sample, Span
from facsynth.report.data import SETS, FeatureEntry, Near, Place, ShownSpan, TopicEntry
from facsynth.report.sets import ReportInputs
from facsynth.report.settings import ReportSettings
from facsynth.report.texts import RowKey, Texts
from facsynth.table.strongest import strongest_entries
from facsynth.understand.evidence import collect_evidence
from facsynth.understand.explain import explain_by_terms
from facsynth.understand.missing import MAX_GROUPED, find_topics
from facsynth.understand.names import TermCounts, count_terms, name_feature
from facsynth.understand.neighbours import find_neighbours
from facsynth.understand.settings import EvidenceSettings
from facsynth.understand.spans import ReadTable, span_at, span_range

__all__ = ["FoundSpan", "Understood", "feature_entries", "find_spans", "understand"]

N_BINS = 12
"""Bars of a histogram."""

UBIQUITOUS = 0.3
"""Features in more than this share of the samples belong to no topic; they are about form."""

Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class FoundSpan:
    """Where a feature is active, before the texts are cut."""

    key: RowKey
    first: int
    end: int
    peak: int
    span: Span


@dataclass(frozen=True)
class Understood:
    """What is known about the features of a page beyond counts."""

    names: Mapping[int, Row]
    """`name`, `method`, `balanced_accuracy`, `is_doubtful` and `near_misses` (spans) by feature."""

    neighbours: Mapping[int, tuple[Near, ...]]
    topics: Sequence[tuple[str, tuple[int, ...], int]] = ()
    """Name, features, samples of the anchor."""

    topic_of: Mapping[int, int] = field(default_factory=dict)


def find_spans(
    inputs: ReportInputs, features: Sequence[int], texts: Texts, settings: ReportSettings
) -> dict[int, list[FoundSpan]]:
    """Strongest distinct spans of each feature: in the anchor, else in the seed or what follows."""
    spans: dict[int, list[FoundSpan]] = {}
    for kind, table in inputs.tables.items():
        wanted = [f for f in features if not spans.get(f)]
        for feature, entries in strongest_entries(table, wanted, 3 * settings.spans).items():
            found: dict[str, FoundSpan] = {}
            for one in entries:
                value, key, peak = one.activation, RowKey(kind, one.row), one.position
                text = texts.read.get(key)
                if value <= inputs.threshold or text is None or len(found) == settings.spans:
                    break
                first, end = span_range(text, peak, settings.context_tokens)
                span = span_at(text, peak, value, settings.context_tokens)
                same = " ".join(span.text.split()).lower()
                found.setdefault(same, FoundSpan(key, first, end, peak, span))
            spans[feature] = list(found.values())
    return spans


def understand(
    inputs: ReportInputs,
    features: Sequence[int],
    spans: Mapping[int, Sequence[FoundSpan]],
    samples: Mapping[str, Sequence[Sample]],
    settings: ReportSettings,
) -> Understood:
    """Names, neighbours and topics of the features of a page."""
    words = count_terms(samples["anchor"])
    shown = {feature: [one.span for one in found] for feature, found in spans.items()}
    names = {f: _by_peaks(f, shown.get(f, ()), words) for f in features}
    names |= _tested(inputs, features, words, samples, settings)
    names |= {f: _explained(row) for f, row in inputs.explanations.items() if row.get("name")}
    anchor = inputs.active["anchor"]
    common = [f for f in features if anchor.counts[f] > 1]
    near = find_neighbours(anchor, inputs.reader.decoder, common) if common else {}
    least = UBIQUITOUS * anchor.n_samples
    grouped = [f for f in common if anchor.counts[f] <= least and inputs.relevant[f]][:MAX_GROUPED]
    topics = find_topics(anchor, inputs.reader.decoder, grouped, shown, words)
    return Understood(
        names,
        {
            feature: tuple(Near(one.feature_id, one.cosine, one.shared) for one in found)
            for feature, found in near.items()
        },
        [(topic.name, topic.feature_ids, topic.n_anchor_samples) for topic in topics],
        {f: place for place, topic in enumerate(topics) for f in topic.feature_ids},
    )


def _by_peaks(feature: int, spans: Sequence[Span], words: TermCounts) -> Row:
    return {"name": name_feature(spans, words) if spans else "", "method": "peaks"}


def _tested(
    inputs: ReportInputs,
    features: Sequence[int],
    words: TermCounts,
    samples: Mapping[str, Sequence[Sample]],
    settings: ReportSettings,
) -> dict[int, Row]:
    """Tested names of the first missing features, and of others where there is room."""
    known = {f for f, row in inputs.explanations.items() if row.get("name")}
    anchor = inputs.active["anchor"].features
    open_ones = [f for f in features if anchor[f] and f not in known]
    open_ones.sort(key=lambda f: not inputs.missing_before[f])
    chosen = open_ones[: max(0, settings.tested - len(known))]
    if inputs.reader.tokenizer is None or not chosen:
        return {}
    table = inputs.tables["anchor"]
    read = ReadTable.of(table, inputs.reader.tokenizer)
    gathering = EvidenceSettings(threshold=inputs.threshold, context_tokens=settings.context_tokens)
    evidence = collect_evidence(read, chosen, settings=gathering)
    return {one.feature_id: _explained(one.row()) for one in explain_by_terms(evidence, words)}


def _explained(row: Row) -> Row:
    """What a row of `fac explain`, or of the missing features of a run, says."""
    detection = (row.get("fidelity") or {}).get("detection") or {}
    return {
        "name": str(row["name"]),
        "method": row.get("method", "terms"),
        "balanced_accuracy": row.get("balanced_accuracy", detection.get("balanced_accuracy")),
        "is_doubtful": bool(row.get("doubtful")),
        "near_misses": [Span(**span) for span in row.get("near_misses", ())],
    }


def feature_entries(
    inputs: ReportInputs,
    features: Sequence[int],
    understood: Understood,
    spans: Mapping[int, tuple[ShownSpan, ...]],
    misses: Mapping[int, tuple[ShownSpan, ...]],
    places: Mapping[int, Place],
) -> tuple[FeatureEntry, ...]:
    """The entries of the page, in the order of `features`."""
    counts = [
        inputs.active[kind].counts if kind in inputs.active else np.zeros(inputs.n_features, int)
        for kind in SETS[:3]
    ]
    peaks = feature_peaks(inputs)
    bars = _histograms(inputs, peaks)
    shifts = log_odds(counts[1], counts[0])[1] if "seed" in inputs.tables else None
    entries = []
    for f in features:
        said, judged = understood.names.get(f, {}), inputs.judgements.get(f, {})
        entries.append(
            FeatureEntry(
                feature_id=int(f),
                name=said.get("name", ""),
                status=inputs.statuses[f],
                counts=tuple(int(one[f]) for one in counts),
                max_activation=float(peaks[f]),
                histogram=tuple(tuple(rows[f].tolist()) for rows in bars),
                spans=spans.get(f, ()),
                misses=misses.get(f, ()),
                method=said.get("method", "peaks"),
                balanced_accuracy=said.get("balanced_accuracy"),
                is_doubtful=said.get("is_doubtful", False),
                grade=judged.get("grade"),
                reason=judged.get("reason") or "",
                topic=understood.topic_of.get(f),
                neighbours=understood.neighbours.get(f, ()),
                shift=None if shifts is None else float(shifts[f]),
                place=places.get(f),
            )
        )
    return tuple(entries)


def topic_entries(
    inputs: ReportInputs, understood: Understood, places: Mapping[int, Place]
) -> tuple[TopicEntry, ...]:
    """The topics with their features by status, and the middle of these on the map."""
    entries = []
    for name, members, n_samples in understood.topics:
        statuses = [inputs.statuses[f] for f in members]
        at = [places[f] for f in members if f in places]
        middle = tuple(np.median(at, axis=0).tolist()) if at else None
        counts = {status: statuses.count(status) for status in dict.fromkeys(statuses)}
        entries.append(TopicEntry(name, n_samples, counts, middle))
    return tuple(entries)


def feature_peaks(inputs: ReportInputs) -> np.ndarray:
    """Largest activation of each feature in any set."""
    return np.asarray(inputs.together.peaks)


def _histograms(inputs: ReportInputs, peaks: np.ndarray) -> list[np.ndarray]:
    """Samples by activation for each set: arrays (n_features, N_BINS), zeros without the set."""
    found = []
    for kind in SETS[:3]:
        table = np.zeros((inputs.n_features, N_BINS), dtype=np.int64)
        if kind in inputs.tables:
            rows = inputs.tables[kind].activations()
            ids = rows.feature_ids.astype(np.int64)
            scaled = N_BINS * rows.values / np.maximum(peaks[ids], 1e-12)
            bins = np.clip(np.ceil(scaled).astype(np.int64) - 1, 0, N_BINS - 1)
            counted = np.bincount(ids * N_BINS + bins, minlength=table.size)
            table = counted.reshape(table.shape)
        found.append(table)
    return found
