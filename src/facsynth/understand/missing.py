"""What is missing, as a person reads it: names, tests, spans, neighbours and topics."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32

from facsynth.coverage.fac import MissingFeature, Topic, describe_missing, missing_features
from facsynth.records import Span
from facsynth.table.active import ActiveRows, active_rows
from facsynth.table.table import FeatureTable
from facsynth.understand.evidence import collect_evidence
from facsynth.understand.explain import Explanation, explain_by_terms
from facsynth.understand.names import TermCounts, count_terms, name_feature, name_topic
from facsynth.understand.neighbours import cluster_features, find_neighbours
from facsynth.understand.settings import EvidenceSettings
from facsynth.understand.spans import ReadTable, collect_spans, mark_peak

__all__ = [
    "MAX_GROUPED",
    "MAX_NAMED",
    "find_topics",
    "name_others",
    "understand_missing",
]

MAX_NAMED = 400
"""Missing features that get spans, a tested name and neighbours; the first by rank."""

MAX_GROUPED = 2_000
"""Missing features that are sorted into topics; the first by rank."""


def understand_missing(
    anchor: FeatureTable,
    seed: FeatureTable,
    tokenizer: Any,
    decoder: Float32[np.ndarray, "n_features d_model"],
    *,
    threshold: float,
    relevant: Bool[np.ndarray, " n_features"] | None = None,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """JSONL rows of the missing features, and of the topics that they form.

    Returns:
        A row per missing feature, ranked; names, spans and neighbours for the first `MAX_NAMED`, a
        topic's place in the second list for the first `MAX_GROUPED` that have one.
    """
    table = ReadTable.of(anchor, tokenizer)
    active = active_rows(table.activations, threshold=threshold, relevant=relevant)
    covered = active_rows(seed, threshold=threshold)
    missing = missing_features(active, covered)
    first, grouped = missing[:MAX_NAMED].tolist(), missing[:MAX_GROUPED].tolist()
    words = count_terms(table.samples)
    settings = EvidenceSettings(threshold=threshold)
    evidence = collect_evidence(table, first, settings=settings)
    explained = {found.feature_id: found for found in explain_by_terms(evidence, words)}
    near = find_neighbours(active, decoder, first)
    others = {other.feature_id for found in near.values() for other in found}
    tested = {feature: found.name for feature, found in explained.items()}
    names, spans = name_others(others | set(grouped), tested, table, words)
    spans |= {feature: found.shown for feature, found in evidence.items()}
    topics = find_topics(active, decoder, grouped, spans, words)
    topic_of = {f: place for place, topic in enumerate(topics) for f in topic.feature_ids}
    rows = [
        _row(found, explained.get(found.feature_id))
        | {
            "topic": topic_of.get(found.feature_id),
            "neighbours": [
                {
                    **asdict(other),
                    "name": names[other.feature_id],
                    "covered": bool(covered.features[other.feature_id]),
                }
                for other in near.get(found.feature_id, ())
            ],
        }
        for found in describe_missing(active, missing)
    ]
    return rows, [topic.row() for topic in topics]


def find_topics(
    active: ActiveRows,
    decoder: Float32[np.ndarray, "n_features d_model"] | None,
    features: Sequence[int],
    spans: Mapping[int, Sequence[Span]],
    background: TermCounts,
) -> list[Topic]:
    """Group features by `cluster_features` and name the groups by their features' spans.

    Returns:
        Groups of two and more features, those with most firings in the anchor first: many features
        in some samples weigh more than a few in many.
    """
    topics = []
    for group in cluster_features(active, decoder, features):
        if len(group) < 2:
            continue
        name = name_topic([spans.get(feature, ()) for feature in group], background)
        wanted = np.zeros(active.n_features, dtype=np.float32)
        wanted[list(group)] = 1.0
        n_samples = int(np.count_nonzero(active.fires @ wanted))
        strongest = spans.get(group[0])
        example = mark_peak(strongest[0]) if strongest else None
        topics.append(Topic(name, group, n_samples, example))
    counts = active.counts
    return sorted(topics, key=lambda topic: -int(counts[list(topic.feature_ids)].sum()))


def name_others(
    features: Iterable[int], names: Mapping[int, str], table: ReadTable, background: TermCounts
) -> tuple[dict[int, str], dict[int, tuple[Span, ...]]]:
    """Names of features that are shown with the explained ones, and their spans.

    Their names come from their strongest spans alone and are not tested.

    Returns:
        All names, and the strongest spans of the features that had none.
    """
    spans = collect_spans(table, set(features) - set(names))
    return {**{f: name_feature(found, background) for f, found in spans.items()}, **names}, spans


def _row(feature: MissingFeature, named: Explanation | None) -> dict[str, Any]:
    """A missing feature with its name, how well that was found to fit, and its spans."""
    tested = named.fidelity.detection if named and named.fidelity else None
    return {
        **asdict(feature),
        "name": named.name if named else None,
        "balanced_accuracy": tested.balanced_accuracy if tested else None,
        "doubtful": named.is_doubtful if named else False,
        "spans": [asdict(span) for span in named.evidence.shown] if named else [],
        "near_misses": [asdict(span) for span in named.evidence.shown_misses] if named else [],
    }
