"""The anchor as evidence for the generator: its texts, and spans and names of features."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Bool

from facsynth.records import FeatureActivations, Sample, Span
from facsynth.synthesize.admission import count_written_words
from facsynth.synthesize.candidates import Shown
from facsynth.synthesize.plan import Aim
from facsynth.table.settings import ExtractSettings
from facsynth.understand.names import TermCounts, count_terms, name_feature
from facsynth.understand.spans import ReadTable, collect_spans
from facsynth.words import count_words, find_sentence_ends

__all__ = ["AnchorTexts", "shown_text"]

_N_SHOWN = 4
"""Spans or texts in a prompt, at most."""


class AnchorTexts:
    """The anchor as evidence for the generator."""

    def __init__(
        self,
        samples: Sequence[Sample],
        activations: FeatureActivations,
        *,
        extract: ExtractSettings,
        max_words: int,
        evidence: str,
        describe: bool,
        explanations: Mapping[int, str],
    ) -> None:
        """Take the anchor.

        Args:
            samples: Its samples.
            activations: Their activations, in the same order.
            extract: How they were extracted.
            max_words: Longest text that is shown whole.
            evidence: `text`, `texts`, `spans` or `none`; see `SynthesisSettings`.
            describe: Whether prompts say what a feature means.
            explanations: What features mean, where it is known; else terms of their spans say it.
        """
        self._samples, self._activations = samples, activations
        self._extract, self._max_words = extract, max_words
        self._evidence, self._describe, self._explanations = evidence, describe, explanations
        self._spans: dict[int, tuple[Span, ...]] = {}

    def is_shown(self) -> Bool[np.ndarray, " n_samples"]:
        """Anchor samples that have a text to show."""
        return np.array([bool(self._text(sample)) for sample in self._samples], dtype=np.bool_)

    def shown(self, aims: Sequence[Aim], tokenizer: Any) -> list[Shown]:
        """What prompts show for the aims.

        Args:
            aims: Features, and the anchor samples to imitate.
            tokenizer: Tokenizer of the model that extracted the anchor.
        """
        needs_spans = self._evidence in ("texts", "spans")
        wanted = [
            feature
            for aim in aims
            for place, feature in enumerate(aim.feature_ids)
            if (needs_spans and not place) or (self._describe and feature not in self._explanations)
        ]
        self._find_spans(wanted, tokenizer)
        return [self._shown(aim) for aim in aims]

    def strongest_spans(self, features: Sequence[int], tokenizer: Any) -> dict[int, str]:
        """Strongest anchor span of each feature."""
        self._find_spans(features, tokenizer)
        return {feature: self._spans[feature][0].text for feature in features}

    def _find_spans(self, features: Sequence[int], tokenizer: Any) -> None:
        if new := set(features) - set(self._spans):
            table = ReadTable(self._samples, self._activations, tokenizer, self._extract)
            self._spans |= collect_spans(table, new)

    def _shown(self, aim: Aim) -> Shown:
        sample = self._samples[aim.row]
        spans = self._spans.get(aim.feature_ids[0], ())[:_N_SHOWN] if aim.feature_ids else ()
        texts = [self._text(sample)]
        if self._evidence == "none":
            texts = []
        elif self._evidence == "spans" and spans:
            texts = [span.text for span in spans]
        elif self._evidence == "texts":
            around = [shown_text(self._by_id[s.sample_id], s, self._max_words) for s in spans]
            texts = [*[text for text in dict.fromkeys(around) if text != texts[0]], *texts]
        n_turns = sum(message.role == "user" for message in sample.messages)
        return Shown(
            aim.feature_ids,
            tuple(map(self._name, aim.feature_ids)) if self._describe else (),
            tuple(texts),
            n_words=max(3, count_written_words(sample)),
            n_turns=max(1, n_turns),
            imitates=sample.sample_id,
            answer_words=_answer_words(sample),
            tools=sample.tools,
        )

    def _name(self, feature: int) -> str:
        known = self._explanations.get(feature)
        return known or name_feature(self._spans[feature], self._word_counts)

    @cached_property
    def _word_counts(self) -> TermCounts:
        return count_terms(self._samples)

    @cached_property
    def _by_id(self) -> dict[str, Sample]:
        return {sample.sample_id: sample for sample in self._samples}

    def _text(self, sample: Sample) -> str:
        return shown_text(sample, None, self._max_words)


def _answer_words(sample: Sample) -> int | None:
    """Words of the middle answer of a conversation; None without answers."""
    answers = (m.content for m in sample.messages if m.role == "assistant")
    n_words = sorted(filter(None, map(count_words, answers)))
    return n_words[len(n_words) // 2] if n_words else None


def shown_text(sample: Sample, span: Span | None, max_words: int) -> str:
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
