"""Is a text a text at all, and no loop?"""

from collections.abc import Iterable, Sequence

import numpy as np

from facsynth.words import split_words

__all__ = ["MOST_REPEATED", "find_flaw", "repetition", "repetition_limit"]

MOST_REPEATED = 0.4
"""Largest share of repeated word n-grams in a good text.

99 % of answers (Alpaca, GPT-4, IFEval), code, mathematics, manual pages, books and web pages, 100
to 2,000 texts of each, have at most 0.33; texts that go round in circles have 0.5 to 1.
"""

_LEAST_WORDS = 8
"""Shorter texts, such as a refrain, may repeat themselves."""

_SHORT_WORDS = 40
"""Texts of fewer words are judged by their 4-grams, others by their 8-grams: shorter grams do not
tell long regular texts, such as lists and templates, from loops."""

_TAIL_WORDS, _LONGEST_PERIOD = 48, 16
"""A text ends in a loop when so many words at its end repeat with a period of at most so many: a
model that loops does not stop by itself, and a long text before it hides it from the rate."""


def repetition(text: str) -> float:
    """Share of the word n-grams of a text that stood in it before, in [0, 1).

    In scripts without spaces, words are characters. A text of fewer than 8 words has 0.
    """
    return _repetition(split_words(text))


def repetition_limit(texts: Iterable[str]) -> float:
    """Most repetition that texts like these may have: that of 99 % of them, at least the default.

    >>> repetition_limit(["A song without a refrain"])
    0.4
    """
    found = [repetition(text) for text in texts]
    return max(MOST_REPEATED, float(np.quantile(found, 0.99))) if found else MOST_REPEATED


def find_flaw(
    text: str,
    *,
    min_words: int = 1,
    max_words: int | None = None,
    most_repeated: float = MOST_REPEATED,
) -> str | None:
    """Why a text cannot be used as a sample, or None.

    Args:
        text: The text.
        min_words: Shorter texts are "too short".
        max_words: Longer texts are "too long".
        most_repeated: Texts with more `repetition` are "repetitive", as are those that end in a
            loop; `repetition_limit` takes it from known texts.
    """
    words = split_words(text)
    if not words:
        return "no words"
    if len(words) < min_words:
        return "too short"
    if max_words is not None and len(words) > max_words:
        return "too long"
    if _repetition(words) > most_repeated or _ends_in_loop(words):
        return "repetitive"
    return None


def _repetition(words: Sequence[str]) -> float:
    if len(words) < _LEAST_WORDS:
        return 0.0
    size = 4 if len(words) < _SHORT_WORDS else 8
    grams = [tuple(words[i : i + size]) for i in range(len(words) - size + 1)]
    return 1.0 - len(set(grams)) / len(grams)


def _ends_in_loop(words: Sequence[str]) -> bool:
    tail = words[-_TAIL_WORDS:]
    return len(tail) == _TAIL_WORDS and any(
        tail[period:] == tail[:-period] for period in range(1, _LONGEST_PERIOD + 1)
    )
