"""A report as the compressed JSON that its page reads: columns, ids as differences."""

import base64
import gzip
import json
from collections.abc import Sequence
from typing import Any

from facsynth.report.data import SETS, FeatureEntry, Place, Report, SampleEntry, ShownSpan

__all__ = ["pack", "packed_report"]


def pack(reports: Sequence[Report]) -> str:
    """The lists of some reports as base64 of gzipped JSON."""
    text = json.dumps([packed_report(one) for one in reports], separators=(",", ":"))
    # Level 9 and no time stamp: the same report gives the same page.
    return base64.b64encode(gzip.compress(text.encode("ascii"), 9, mtime=0)).decode("ascii")


def packed_report(report: Report) -> dict[str, Any]:
    """What the browser of a page needs, in columns."""
    return {
        "title": report.title,
        "sets": list(SETS),
        "threshold": report.threshold,
        "unpainted": report.unpainted,
        "link": report.feature_link,
        "texts": [text.text for text in report.texts],
        "tokens": [list(text.lengths) for text in report.texts],
        "features": _features(report.features),
        "topics": [
            [topic.name, topic.n_samples, dict(topic.counts), _place(topic.place)]
            for topic in report.topics
        ],
        "samples": _samples(report.samples),
    }


def _features(features: Sequence[FeatureEntry]) -> dict[str, Any]:
    ids = [one.feature_id for one in features]
    return {
        "id": [b - a for a, b in zip([0, *ids], ids, strict=False)],
        "name": [one.name for one in features],
        "status": [one.status for one in features],
        "counts": [list(one.counts) for one in features],
        "max": [_short(one.max_activation) for one in features],
        "bars": [[list(bars) if any(bars) else 0 for bars in one.histogram] for one in features],
        "spans": [[_span(span) for span in one.spans] for one in features],
        "misses": [[span.text for span in one.misses] for one in features],
        "method": [one.method for one in features],
        "score": [_short(one.balanced_accuracy) for one in features],
        "doubtful": [int(one.is_doubtful) for one in features],
        "grade": [one.grade for one in features],
        "reason": [one.reason for one in features],
        "topic": [one.topic for one in features],
        "near": [
            [[n.feature_id, _short(n.cosine), _short(n.shared)] for n in one.neighbours]
            for one in features
        ],
        "shift": [_short(one.shift) for one in features],
        "place": [_place(one.place) for one in features],
    }


def _samples(samples: Sequence[SampleEntry]) -> dict[str, Any]:
    return {
        "id": [one.sample_id for one in samples],
        "kind": [SETS.index(one.kind) for one in samples],
        "parts": [[[part.role, *part.texts] for part in one.parts] for one in samples],
        "tokens": [one.n_tokens for one in samples],
        "active": [one.n_active for one in samples],
        "credits": [
            [
                [c.feature_id, _short(c.activation), c.text, c.peak, dict(c.paint or {})]
                for c in one.credits
            ]
            for one in samples
        ],
        "target": [one.target for one in samples],
        "facts": [[list(fact) for fact in one.facts] for one in samples],
        "reason": [one.reason for one in samples],
        "place": [_place(one.place) for one in samples],
    }


def _span(span: ShownSpan) -> list[Any]:
    return [
        *(span.text, span.first, span.n_tokens, span.peak, _short(span.activation)),
        *(span.paint, span.sample),
    ]


def _place(place: Place | None) -> list[int] | None:
    """Thousandths."""
    return None if place is None else [round(1000 * one) for one in place]


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.3g}")
