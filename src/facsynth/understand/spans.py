"""The text around the tokens at which a feature is most active.

The positions stored in a feature table are enough: the samples are tokenised again, the model is
not run.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from facsynth.models.tokens import TokenizedSample, tokenize_samples
from facsynth.records import FeatureActivations, Sample, Span
from facsynth.table.columns import StoredSamples
from facsynth.table.inputs import OpenTable
from facsynth.table.manifest import TableSource
from facsynth.table.settings import ExtractSettings
from facsynth.table.strongest import Entry, strongest_entries
from facsynth.table.table import FeatureTable

__all__ = [
    "ReadTable",
    "collect_spans",
    "extract_settings",
    "mark_peak",
    "span_at",
    "span_range",
]


@dataclass(frozen=True)
class ReadTable:
    """A feature table with its texts and tokenizer, to find the words at its activations."""

    samples: Sequence[Sample]
    """The samples; those of a table on disk are read when they are asked for."""

    rows: OpenTable
    """One row per sample, in their order."""

    tokenizer: Any
    """Tokenizer of the model that extracted the table."""

    extract: ExtractSettings
    """How it was extracted."""

    @classmethod
    def of(cls, table: FeatureTable, tokenizer: Any) -> "ReadTable":
        """A table on disk."""
        return cls(StoredSamples(table), table, tokenizer, extract_settings(table.manifest.source))

    @property
    def activations(self) -> FeatureActivations:
        """The rows in memory."""
        return self.rows.activations() if isinstance(self.rows, FeatureTable) else self.rows

    def tokenize(self, rows: Iterable[int]) -> dict[int, TokenizedSample]:
        """The samples of some rows as the model read them."""
        rows, samples = list(rows), self.samples
        texts = tokenize_samples(
            samples.take(rows)
            if isinstance(samples, StoredSamples)
            else [samples[row] for row in rows],
            self.tokenizer,
            score=self.extract.score,
            score_reasoning=self.extract.score_reasoning,
            max_length=self.extract.max_length,
        )
        return dict(zip(rows, texts, strict=True))


def collect_spans(
    table: ReadTable, feature_ids: Iterable[int], *, n_spans: int = 10, context_tokens: int = 16
) -> dict[int, tuple[Span, ...]]:
    """Strongest spans of each feature, at most one per sample.

    The peak token is part of the span, with up to `context_tokens` tokens on both sides, clipped
    to scored text. Spans with the same text are merged into the stronger one.

    Returns:
        Spans by feature, strongest first; empty for a feature that is never active.
    """
    wanted = sorted(set(feature_ids))
    entries = strongest_entries(table.rows, wanted, 3 * n_spans)
    texts = table.tokenize(sorted({one.row for found in entries.values() for one in found}))
    return {
        feature: _distinct_spans(found, texts, n_spans, context_tokens)
        for feature, found in entries.items()
    }


def extract_settings(source: TableSource) -> ExtractSettings:
    """How a table was extracted, as far as its numbers and positions depend on it."""
    return ExtractSettings(
        score=source.score,
        score_reasoning=source.score_reasoning,
        max_length=source.max_length,
        gate=source.gate,
        pooling=source.pooling,
    )


def span_at(text: TokenizedSample, position: int, activation: float, context_tokens: int) -> Span:
    """The span around one token, clipped to scored text."""
    first, stop = span_range(text, position, context_tokens)
    start, end = text.offsets[position]
    return Span(
        sample_id=text.sample_id,
        before=text.rendered[text.offsets[first][0] : start],
        peak=text.rendered[start:end],
        after=text.rendered[end : text.offsets[stop - 1][1]],
        activation=activation,
    )


def span_range(text: TokenizedSample, position: int, context_tokens: int) -> tuple[int, int]:
    """First token around a position, and the one behind the last, clipped to scored text."""
    first = last = position
    while first > max(0, position - context_tokens) and text.scored[first - 1]:
        first -= 1
    while last < min(len(text.scored) - 1, position + context_tokens) and text.scored[last + 1]:
        last += 1
    return first, last + 1


def mark_peak(span: Span) -> str:
    """The span as one line, its peak between angle quotes."""
    return " ".join(f"{span.before}«{span.peak}»{span.after}".split())


def _distinct_spans(
    found: Sequence[Entry],
    texts: Mapping[int, TokenizedSample],
    n_spans: int,
    context_tokens: int,
) -> tuple[Span, ...]:
    spans: dict[str, Span] = {}
    for one in found:
        span = span_at(texts[one.row], one.position, one.activation, context_tokens)
        spans.setdefault(" ".join(span.text.split()).lower(), span)
        if len(spans) == n_spans:
            break
    return tuple(spans.values())
