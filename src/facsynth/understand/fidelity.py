"""How far a name can be trusted: does it tell active text from silent text, marks from marks?

Detection and fuzzing scores after Paulo et al. (arXiv 2410.13928), on spans that the name was not
made from. Detection: which of these texts have the feature? Fuzzing: in which of them is the
right word marked? Scores are balanced accuracies, 0.5 for a guess. A feature table stores one
peak per sample, so the wrong marks of the fuzzing score that lie in active text may be weakly
active themselves; the score is then a little too low.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from facsynth.errors import DataError
from facsynth.records import Span
from facsynth.understand.evidence import Evidence
from facsynth.understand.names import peak_word, terms_of
from facsynth.words import find_words, is_word, split_words

__all__ = [
    "DOUBTFUL_BELOW",
    "Fidelity",
    "Item",
    "Score",
    "detection_items",
    "fidelity_of",
    "fuzzing_items",
    "rule_detects",
    "rule_fidelity",
    "rule_marks",
    "score_answers",
    "wilson_interval",
]

DOUBTFUL_BELOW = 0.7
"""A name whose detection score is lower is shown as doubtful; a guess has 0.5."""

_LEAST = 3
"""Fewest positives, and fewest negatives, that are scored."""


@dataclass(frozen=True, slots=True)
class Item:
    """One question to a name: a span, and the true answer."""

    span: Span
    is_positive: bool


@dataclass(frozen=True, slots=True)
class Score:
    """How well answers fit the truth."""

    balanced_accuracy: float
    """Mean of sensitivity and specificity, in [0, 1]."""

    low: float
    """Lower end of the 95 % interval of the balanced accuracy; see `score_answers`."""

    high: float
    f1: float
    """F1 of the positives at the given mix of items; 0 when nothing was called positive."""

    sensitivity: float
    """Share of the positives that were called so."""

    specificity: float
    """Share of the negatives that were called so."""

    n_positive: int
    n_negative: int


@dataclass(frozen=True, slots=True)
class Fidelity:
    """Scores of one name; None where the feature has too few spans of a kind."""

    detection: Score | None
    """Held-out spans against near misses."""

    detection_random: Score | None
    """Held-out spans against random silent text, which is easier."""

    fuzzing: Score | None
    """Right marks against wrong ones."""

    n_failed: int = 0
    """Questions without a usable answer, which the scores leave out."""

    @property
    def is_doubtful(self) -> bool:
        """Whether the detection score is below `DOUBTFUL_BELOW`; an unscored name is not."""
        return self.detection is not None and self.detection.balanced_accuracy < DOUBTFUL_BELOW


def detection_items(evidence: Evidence, *, random: bool = False) -> list[Item]:
    """Held-out spans and near misses (or random misses) as questions."""
    misses = evidence.random_misses if random else evidence.near_misses
    return [
        *(Item(span, True) for span in evidence.held_out),
        *(Item(span, False) for span in misses),
    ]


def fuzzing_items(evidence: Evidence) -> list[Item]:
    """Held-out spans with the right mark, with a wrong one, and marked near misses.

    A wrong mark is another word of the span, drawn at random; one for every second span.
    """
    rng = np.random.default_rng([0, evidence.feature_id])
    wrong = [_marked_elsewhere(span, rng) for span in evidence.held_out[::2]]
    n_near = len(evidence.held_out) - len(wrong)
    return [
        *(Item(span, True) for span in evidence.held_out),
        *(Item(span, False) for span in wrong if span is not None),
        *(Item(span, False) for span in evidence.near_misses[:n_near]),
    ]


def rule_detects(terms: Sequence[str], span: Span) -> bool:
    """Whether the text holds one of the terms, as a word or a pair of words."""
    return not terms_of(span.text).isdisjoint(terms)


def rule_marks(terms: Sequence[str], span: Span) -> bool:
    """Whether the marked word is one of the terms, or a part of one that the text holds."""
    word = peak_word(span)
    there = terms_of(span.text)
    return any(word == term or (term in there and word in split_words(term)) for term in terms)


def rule_fidelity(terms: Sequence[str], evidence: Evidence) -> Fidelity:
    """Scores of a name by terms as a rule, without an LLM."""
    return fidelity_of(
        evidence,
        lambda items: [rule_detects(terms, item.span) for item in items],
        lambda items: [rule_marks(terms, item.span) for item in items],
    )


def fidelity_of(
    evidence: Evidence,
    detect: Callable[[Sequence[Item]], Sequence[bool | None]],
    mark: Callable[[Sequence[Item]], Sequence[bool | None]],
) -> Fidelity:
    """Scores of anything that answers the questions; None for an answer that failed."""
    failed: list[int] = []

    def scored(
        ask: Callable[[Sequence[Item]], Sequence[bool | None]], items: list[Item]
    ) -> Score | None:
        n_positive = sum(item.is_positive for item in items)
        if min(n_positive, len(items) - n_positive) < _LEAST:
            return None
        answers = ask(items)
        failed.append(sum(answer is None for answer in answers))
        return score_answers(answers, [item.is_positive for item in items])

    return Fidelity(
        detection=scored(detect, detection_items(evidence)),
        detection_random=scored(detect, detection_items(evidence, random=True)),
        fuzzing=scored(mark, fuzzing_items(evidence)),
        n_failed=sum(failed),
    )


def score_answers(answers: Sequence[bool | None], truth: Sequence[bool]) -> Score | None:
    """Compare answers with the truth.

    The interval of the balanced accuracy joins the Wilson intervals of sensitivity and
    specificity by the method of variance estimates recovery (Newcombe 1998; Zou and Donner 2008).

    Args:
        answers: What was said; None where the answer failed, which is left out.
        truth: What is so.

    Returns:
        The score; None when fewer than three answers are left on either side.

    Raises:
        DataError: The two differ in length.
    """
    if len(answers) != len(truth):
        raise DataError(f"{len(answers)} answers for {len(truth)} questions; give one each")
    pairs = [(said, so) for said, so in zip(answers, truth, strict=True) if said is not None]
    n_positive = sum(so for _, so in pairs)
    n_negative = len(pairs) - n_positive
    if min(n_positive, n_negative) < _LEAST:
        return None
    hits = sum(said and so for said, so in pairs)
    rejections = sum(not said and not so for said, so in pairs)
    called = sum(bool(said) for said, _ in pairs)
    p, q = hits / n_positive, rejections / n_negative
    (p_low, p_high) = wilson_interval(hits, n_positive)
    (q_low, q_high) = wilson_interval(rejections, n_negative)
    balanced = (p + q) / 2
    return Score(
        balanced_accuracy=balanced,
        low=balanced - float(np.hypot(p - p_low, q - q_low)) / 2,
        high=balanced + float(np.hypot(p_high - p, q_high - q)) / 2,
        f1=2 * hits / (n_positive + called),
        sensitivity=p,
        specificity=q,
        n_positive=n_positive,
        n_negative=n_negative,
    )


def wilson_interval(n_hits: int, n: int) -> tuple[float, float]:
    """Wilson's 95 % score interval of a share (Wilson 1927).

    >>> low, high = wilson_interval(8, 10)
    >>> round(low, 3), round(high, 3)
    (0.49, 0.943)
    """
    share, z = n_hits / n, 1.959964
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * float(np.sqrt(share * (1 - share) / n + z * z / (4 * n * n)))
    return max(0.0, centre - half), min(1.0, centre + half)


def _marked_elsewhere(span: Span, rng: np.random.Generator) -> Span | None:
    """The span with another word marked; None when it has no other."""
    true = peak_word(span)
    others = [
        (start, end)
        for word, start, end in find_words(span.text)
        if is_word(word) and word != true and not start <= len(span.before) < end
    ]
    if not others:
        return None
    start, end = others[int(rng.integers(len(others)))]
    text = span.text
    return Span(span.sample_id, text[:start], text[start:end], text[end:], 0.0)
