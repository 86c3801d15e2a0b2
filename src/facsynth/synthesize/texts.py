"""The anchor as evidence for the generator: names and spans of features, and their texts."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from facsynth.records import FeatureActivations, Sample, Span
from facsynth.synthesize.admission import count_written_words
from facsynth.synthesize.candidates import Joint, Target
from facsynth.synthesize.plan import Aim
from facsynth.table.settings import ExtractSettings
from facsynth.understand.names import TermCounts, count_terms, name_feature
from facsynth.understand.spans import ReadTable, collect_spans
from facsynth.words import count_words, find_sentence_ends

__all__ = ["AnchorTexts", "shown_text"]


class AnchorTexts:
    """The anchor as evidence for the generator."""

    def __init__(
        self,
        samples: Sequence[Sample],
        activations: FeatureActivations,
        *,
        extract: ExtractSettings,
        max_words: int,
    ) -> None:
        """Take the anchor.

        Args:
            samples: Its samples.
            activations: Their activations, in the same order.
            extract: How they were extracted.
            max_words: Longest text that is shown as an earlier answer of the generator.
        """
        self._samples, self._activations = samples, activations
        self._extract, self._max_words = extract, max_words
        self._known: dict[int, Target] = {}

    def targets(self, features: Sequence[int], tokenizer: Any) -> list[Target]:
        """The features with their spans and names.

        Args:
            features: Features that the anchor activates.
            tokenizer: Tokenizer of the model that extracted the anchor.
        """
        table = ReadTable(self._samples, self._activations, tokenizer, self._extract)
        spans = collect_spans(table, set(features) - set(self._known))
        for feature, found in spans.items():
            texts = tuple(self._shown(self._by_id[span.sample_id], span) for span in found)
            name = name_feature(found, self._word_counts)
            self._known[feature] = Target(feature, name, found, texts)
        return [self._known[feature] for feature in features]

    def joints(self, aims: Sequence[Aim], tokenizer: Any) -> list[Joint]:
        """The groups of features, each with a text of the anchor that has them all."""
        features = list(dict.fromkeys(feature for aim in aims for feature in aim.feature_ids))
        known = dict(zip(features, self.targets(features, tokenizer), strict=True))
        return [
            Joint(
                tuple(known[feature] for feature in aim.feature_ids),
                n_words=max(3, count_written_words(self._samples[aim.row])),
                text=self._shown(self._samples[aim.row]),
            )
            for aim in aims
        ]

    @cached_property
    def _word_counts(self) -> TermCounts:
        return count_terms(self._samples)

    @cached_property
    def _by_id(self) -> dict[str, Sample]:
        return {sample.sample_id: sample for sample in self._samples}

    def _shown(self, sample: Sample, span: Span | None = None) -> str:
        return shown_text(sample, span, max_words=self._max_words)


def shown_text(sample: Sample, span: Span | None = None, *, max_words: int) -> str:
    """The user's message or plain text of a sample, or the sentences of it around a span.

    Args:
        sample: One of the anchor's.
        span: The place that matters; without one, or if it is not in the user's text, the
            beginning.
        max_words: Most words. Of a single sentence that has more, the span is shown, or all of it.
    """
    texts = [message.content for message in sample.messages if message.role == "user"]
    texts = texts if sample.text is None else [sample.text]
    around = span.text.strip() if span else ""
    text = next((text for text in texts if around and around in text), "")
    if not text:
        span, text = None, next(iter(texts), around)
    if _fits(text, max_words):
        return text
    peak = text.find(around) + len(span.before.lstrip()) if span else 0
    shown = _sentences_around(text, peak, max_words)
    return around if span and not _fits(shown, max_words) else shown


def _sentences_around(text: str, place: int, max_words: int) -> str:
    """The sentence at a place, and as many after it and then before it as fit."""
    ends = [end for end in find_sentence_ends(text) if text[end:].strip()]
    bounds = [0, *ends, len(text)]
    first = max(i for i, start in enumerate(bounds[:-1]) if start <= place)
    last = first + 1
    while last + 1 < len(bounds) and _fits(text[bounds[first] : bounds[last + 1]], max_words):
        last += 1
    while first > 0 and _fits(text[bounds[first - 1] : bounds[last]], max_words):
        first -= 1
    return text[bounds[first] : bounds[last]].strip()


def _fits(text: str, max_words: int) -> bool:
    return count_words(text) <= max_words
