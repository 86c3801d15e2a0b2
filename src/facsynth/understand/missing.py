"""What a run folder says about missing features: names, tests, spans, neighbours, topics."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from jaxtyping import Float32, Int64

from facsynth.coverage.fac import MissingFeature, active_features, describe_missing
from facsynth.records import FeatureActivations, Sample
from facsynth.table.active import active_rows
from facsynth.table.settings import ExtractSettings
from facsynth.understand.evidence import Evidence, EvidenceSettings, collect_evidence
from facsynth.understand.explain import Explanation, explain_by_terms
from facsynth.understand.names import count_terms
from facsynth.understand.neighbours import find_neighbours
from facsynth.understand.topics import find_topics, name_others, neighbour_rows, topic_row

__all__ = ["MAX_GROUPED", "MAX_NAMED", "understand_missing"]

MAX_NAMED = 400
"""Missing features that get spans, a tested name and neighbours; the first by rank."""

MAX_GROUPED = 2_000
"""Missing features that are sorted into topics; the first by rank."""


def understand_missing(
    samples: Sequence[Sample],
    anchor: FeatureActivations,
    seed: FeatureActivations,
    missing: Int64[np.ndarray, " n_missing"],
    tokenizer: Any,
    decoder: Float32[np.ndarray, "n_features d_model"],
    *,
    extract: ExtractSettings,
    threshold: float,
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """JSONL rows of the missing features, and of the topics that they form.

    Args:
        samples: The samples of the anchor.
        anchor: Table of the anchor.
        seed: Table of the seed.
        missing: From `missing_features`.
        tokenizer: Tokenizer of the model that extracted the tables.
        decoder: The directions of the SAE.
        extract: How the anchor was extracted.
        threshold: δ.

    Returns:
        A row per missing feature in the order given; names, spans and neighbours for the first
        `MAX_NAMED`, a topic's place in the second list for the first `MAX_GROUPED` that have one.
    """
    first, grouped = missing[:MAX_NAMED].tolist(), missing[:MAX_GROUPED].tolist()
    words = count_terms(samples)
    evidence = collect_evidence(
        samples,
        anchor,
        tokenizer,
        first,
        score=extract.score,
        max_length=extract.max_length,
        settings=EvidenceSettings(threshold=threshold),
    )
    explained = {e.feature_id: e for e in explain_by_terms(evidence, words)}
    near = find_neighbours(anchor, decoder, first, threshold=threshold)
    others = {other.feature_id for found in near.values() for other in found}
    tested = {f: e.name for f, e in explained.items()}
    names, spans = name_others(
        others | set(grouped), tested, samples, anchor, tokenizer, words, extract=extract
    )
    spans |= {f: found.shown for f, found in evidence.items()}
    topics = find_topics(anchor, decoder, grouped, spans, words, threshold=threshold)
    topic_of = {f: place for place, topic in enumerate(topics) for f in topic.feature_ids}
    covered = active_features(seed, threshold=threshold)
    rows = [
        _row(found, explained.get(found.feature_id), evidence)
        | {
            "topic": topic_of.get(found.feature_id),
            "neighbours": [
                row | {"covered": bool(covered[row["feature_id"]])}
                for row in neighbour_rows(near.get(found.feature_id, ()), names)
            ],
        }
        for found in describe_missing(active_rows(anchor, threshold=threshold), missing)
    ]
    return rows, [topic_row(topic) for topic in topics]


def _row(
    feature: MissingFeature, named: Explanation | None, evidence: Mapping[int, Evidence]
) -> dict[str, Any]:
    """A missing feature with its name, how well that was found to fit, and its spans."""
    tested = named.fidelity.detection if named and named.fidelity else None
    return {
        **asdict(feature),
        "name": named.name if named else None,
        "balanced_accuracy": tested.balanced_accuracy if tested else None,
        "doubtful": named.is_doubtful if named else False,
        "spans": [asdict(span) for span in evidence[feature.feature_id].shown] if named else [],
    }
