"""Names for features without an LLM: the words that distinguish a feature's spans.

Words at the peaks count most, words beside them a little. A word scores by its weighted log-odds
against the word counts of the anchor (additive smoothing, Monroe, Colaresi and Quinn 2008, in its
plain form), so "the" names nothing unless a feature really is about "the".
"""

import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from facsynth.records import Sample, Span, sample_text

__all__ = [
    "count_words",
    "name_feature",
]

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*|[^\w\s]+", re.UNICODE)
_NEIGHBOUR_WEIGHT = 0.15


def count_words(samples: Iterable[Sample]) -> Counter[str]:
    """How often each lower-case word stands in the samples."""
    counts: Counter[str] = Counter()
    for sample in samples:
        counts.update(_words(sample_text(sample)))
    return counts


def name_feature(spans: Sequence[Span], background: Mapping[str, int], *, n_words: int = 3) -> str:
    """Up to `n_words` distinctive words of a feature's spans, the best first.

    Args:
        spans: Spans of the feature.
        background: Word counts of the whole anchor, from `count_words`.
        n_words: Most words in the name.

    Returns:
        The words joined by commas; "(no spans)" without spans, "(no words)" without words.
    """
    if not spans:
        return "(no spans)"
    weights: defaultdict[str, float] = defaultdict(float)
    for span in spans:
        peak = _peak_word(span)
        share = span.activation / spans[0].activation
        if peak:
            weights[peak] += share
        for word in set(_words(span.text)) - {peak}:
            if word[0].isalnum():
                weights[word] += share * _NEIGHBOUR_WEIGHT
    if not weights:
        return "(no words)"
    total = sum(background.values()) + 1
    span_total = sum(weights.values()) + 1

    def score(word: str) -> float:
        inside = (weights[word] + 0.05) / span_total
        outside = (background.get(word, 0) + 0.5) / total
        return weights[word] * math.log(inside / outside)

    ranked = sorted(weights, key=lambda word: (-score(word), word))
    best, *others = ranked[:n_words]
    return ", ".join([best, *(word for word in others if score(word) >= 0.2 * score(best))])


def _words(text: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(text)]


def _peak_word(span: Span) -> str:
    """The whole word that the peak token is part of."""
    middle = len(span.before) + len(span.peak) - len(span.peak.lstrip())
    for match in _WORD.finditer(span.text):
        if match.start() <= middle < match.end():
            return match.group().lower()
    return span.peak.strip().lower()
