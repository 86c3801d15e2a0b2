"""What is missing, in a form that a person reads: topics, and what stands near each feature."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Float32

from facsynth.coverage.fac import active_only
from facsynth.records import FeatureActivations, Sample, Span
from facsynth.table.settings import ExtractSettings
from facsynth.understand.names import TermCounts, name_feature
from facsynth.understand.neighbours import Neighbour, cluster_features
from facsynth.understand.spans import collect_spans

__all__ = ["Topic", "find_topics", "name_others", "neighbour_rows", "topic_row"]


@dataclass(frozen=True)
class Topic:
    """Features that are alike, as one entry of a list."""

    name: str
    """Terms that the spans of all its features have in common; may be "(no name)"."""

    feature_ids: tuple[int, ...]
    """Two or more, in the order in which they were ranked."""

    n_samples: int
    """Samples of the anchor that activate at least one of them."""


def find_topics(
    activations: FeatureActivations,
    decoder: Float32[np.ndarray, "n_features d_model"],
    features: Sequence[int],
    spans: Mapping[int, Sequence[Span]],
    background: TermCounts,
    *,
    threshold: float,
) -> list[Topic]:
    """Group features by `cluster_features` and name the groups by their features' spans.

    Args:
        activations: Table of the anchor.
        decoder: The directions of its SAE.
        features: Features to group, ranked.
        spans: Spans of each feature, strongest first.
        background: Counts of the whole anchor, from `count_terms`.
        threshold: Activation above which a feature is active.

    Returns:
        Groups of two and more features, those in most anchor samples first.
    """
    kept = active_only(activations, threshold=threshold)
    rows = np.repeat(np.arange(kept.n_tokens.size), np.diff(kept.row_starts))
    topics = []
    for group in cluster_features(activations, decoder, features, threshold=threshold):
        if len(group) < 2:
            continue
        shown = [span for feature in group for span in _as_shares(spans.get(feature, ()))]
        n_samples = np.unique(rows[np.isin(kept.feature_ids, group)]).size
        topics.append(Topic(name_feature(shown, background), group, int(n_samples)))
    return sorted(topics, key=lambda topic: -topic.n_samples)


def name_others(
    features: Iterable[int],
    names: Mapping[int, str],
    samples: Sequence[Sample],
    activations: FeatureActivations,
    tokenizer: Any,
    background: TermCounts,
    *,
    extract: ExtractSettings,
) -> tuple[dict[int, str], dict[int, tuple[Span, ...]]]:
    """Names of features that stand beside the explained ones, and their spans.

    Their names come from their strongest spans alone and are not tested.

    Args:
        features: Features that need a name.
        names: Names that are there already; they stay.
        samples: The samples of the table, in its order.
        activations: The table's activations.
        tokenizer: Tokenizer of the model that extracted them.
        background: Counts of the whole anchor, from `count_terms`.
        extract: How the table was extracted.

    Returns:
        All names, and the strongest spans of the features that had none.
    """
    spans = collect_spans(
        samples,
        activations,
        tokenizer,
        set(features) - set(names),
        score=extract.score,
        max_length=extract.max_length,
    )
    return {**{f: name_feature(found, background) for f, found in spans.items()}, **names}, spans


def neighbour_rows(
    neighbours: Sequence[Neighbour], names: Mapping[int, str]
) -> list[dict[str, Any]]:
    """JSON of a feature's neighbours with their names."""
    return [{**asdict(near), "name": names[near.feature_id]} for near in neighbours]


def topic_row(topic: Topic) -> dict[str, Any]:
    """The JSONL row of a topic."""
    return {
        "name": topic.name,
        "n_features": len(topic.feature_ids),
        "n_anchor_samples": topic.n_samples,
        "feature_ids": list(topic.feature_ids),
    }


def _as_shares(spans: Sequence[Span]) -> list[Span]:
    """Spans with activations as shares of the strongest, so that features count alike."""
    strongest = max((span.activation for span in spans), default=1.0)
    return [replace(span, activation=span.activation / strongest) for span in spans]
