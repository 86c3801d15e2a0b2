"""What is known of missing features: their names, their spans, and the texts around these."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any

from facsynth.records import FeatureActivations, Sample, Span
from facsynth.synthesize.admission import count_written_words
from facsynth.synthesize.candidates import Joint, Target
from facsynth.synthesize.excerpt import shown_text
from facsynth.synthesize.plan import Aim
from facsynth.table.settings import ExtractSettings
from facsynth.understand.names import TermCounts, count_terms, name_feature
from facsynth.understand.spans import collect_spans

__all__ = ["AnchorTexts"]


class AnchorTexts:
    """The anchor as evidence for the generator."""

    def __init__(
        self,
        samples: Sequence[Sample],
        activations: FeatureActivations,
        tokenizer: Any,
        *,
        extract: ExtractSettings,
        max_words: int,
    ) -> None:
        """Take the anchor.

        Args:
            samples: Its samples.
            activations: Their activations, in the same order.
            tokenizer: Tokenizer of the model that extracted them.
            extract: How they were extracted.
            max_words: Longest text that is shown as an earlier answer of the generator.
        """
        self._samples, self._activations, self._tokenizer = samples, activations, tokenizer
        self._extract, self._max_words = extract, max_words

    def targets(self, features: Sequence[int]) -> list[Target]:
        """The features with their spans and names."""
        spans = collect_spans(
            self._samples,
            self._activations,
            self._tokenizer,
            features,
            score=self._extract.score,
            max_length=self._extract.max_length,
        )
        return [
            Target(
                feature,
                name_feature(spans[feature], self._word_counts),
                spans[feature],
                tuple(self._shown(self._by_id[span.sample_id], span) for span in spans[feature]),
            )
            for feature in features
        ]

    def joints(self, aims: Sequence[Aim]) -> list[Joint]:
        """The groups of features, each with a text of the anchor that has them all."""
        features = dict.fromkeys(feature for aim in aims for feature in aim.feature_ids)
        known = {target.feature_id: target for target in self.targets(list(features))}
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
