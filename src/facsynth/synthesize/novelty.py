"""Is a text new, and is it a text at all?"""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable

__all__ = ["KnownTexts", "count_words", "find_flaw"]

_WORD = re.compile(r"[^\W_]+(?:['’][^\W_]+)*", re.UNICODE)
_N_GRAM = 4


class KnownTexts:
    """Word 4-grams of texts that must not be copied."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        """Start with the texts of the anchor and the seed."""
        self._grams: set[int] = set()
        for text in texts:
            self.add(text)

    def add(self, text: str) -> None:
        """Count a text as known from now on."""
        self._grams.update(_n_grams(text))

    def overlap(self, text: str) -> float:
        """Share of the text's word 4-grams that known texts contain, in [0, 1].

        A text of fewer than four words counts as one gram: 1 when it is known as a whole.
        """
        grams = _n_grams(text)
        return sum(gram in self._grams for gram in grams) / len(grams) if grams else 0.0


def count_words(text: str) -> int:
    """Number of words of a text; punctuation is none."""
    return len(_words(text))


def find_flaw(text: str, *, min_words: int = 1, max_words: int | None = None) -> str | None:
    """Why a text cannot be used as a sample, or None.

    Too short, too long, no letters, or stuck in a loop: fewer than 40 % different words in a text
    of 20 or more, or a word 4-gram that comes four times.
    """
    words = _words(text)
    if not words:
        return "no words"
    if len(words) < min_words:
        return "too short"
    if max_words is not None and len(words) > max_words:
        return "too long"
    if len(words) >= 20 and len(set(words)) < 0.4 * len(words):
        return "repetitive"
    if max(Counter(_n_grams(text)).values()) >= 4:
        return "repetitive"
    return None


def _words(text: str) -> list[str]:
    return [word.lower() for word in _WORD.findall(text)]


def _n_grams(text: str) -> list[int]:
    """Hashes of the word 4-grams, in order."""
    words = _words(text)
    if not words:
        return []
    starts = range(max(1, len(words) - _N_GRAM + 1))
    return [_hash(" ".join(words[i : i + _N_GRAM])) for i in starts]


def _hash(gram: str) -> int:
    return int.from_bytes(hashlib.blake2b(gram.encode(), digest_size=8).digest())
