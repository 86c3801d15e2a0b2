"""Is a text new?

Known texts are remembered by their word 4-grams, exactly up to `EXACT_LIMIT` of them (about 80
bytes each) and by MinHash sketches (datasketch) beyond, whose size does not grow with the texts.
"""

import hashlib
from collections.abc import Iterable, Sequence
from typing import Any, Protocol, runtime_checkable

from facsynth.words import split_words

__all__ = [
    "EXACT_LIMIT",
    "KnownTexts",
    "SketchedTexts",
    "TextIndex",
    "index_texts",
]

EXACT_LIMIT = 20_000_000
"""Most word 4-grams that are remembered one by one."""

_N_GRAM = 4
_N_HASHES = 128
_LEAST_JACCARD = 0.25
"""Known texts that are compared with a text have about this share of 4-grams with it, or more."""


@runtime_checkable
class TextIndex(Protocol):
    """Texts that must not be copied."""

    def add(self, text: str) -> None:
        """Count a text as known from now on."""

    def overlap(self, text: str) -> float:
        """Share of the text's word 4-grams that known texts contain, in [0, 1]."""


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

    @classmethod
    def from_hashes(cls, hashes: Iterable[int]) -> "KnownTexts":
        """The texts that `hashes` was taken of."""
        known = cls()
        known._grams.update(hashes)
        return known

    def hashes(self) -> list[int]:
        """64-bit hashes of the known 4-grams, ascending: what a file needs to keep, and no text."""
        return sorted(self._grams)

    def overlap(self, text: str) -> float:
        """Share of the text's word 4-grams that known texts contain, in [0, 1].

        A text of fewer than four words counts as one gram: 1 when it is known as a whole.
        """
        grams = _n_grams(text)
        return sum(gram in self._grams for gram in grams) / len(grams) if grams else 0.0


class SketchedTexts:
    """MinHash sketches of texts that must not be copied.

    The overlap is estimated, with a standard error of about 0.05, and with the one known text
    that shares most; copies out of texts more than about twice as long can be missed.
    """

    def __init__(self, texts: Iterable[str] = ()) -> None:
        """Start with the texts of the anchor and the seed."""
        from datasketch import MinHashLSH

        self._near = MinHashLSH(threshold=_LEAST_JACCARD, num_perm=_N_HASHES, weights=(0.2, 0.8))
        self._sketches: list[tuple[Any, int]] = []
        for text in texts:
            self.add(text)

    def add(self, text: str) -> None:
        """Count a text as known from now on."""
        if grams := set(_n_grams(text)):
            sketch = _sketch(grams)
            self._near.insert(len(self._sketches), sketch)
            self._sketches.append((sketch, len(grams)))

    def overlap(self, text: str) -> float:
        """Largest estimated share of the text's word 4-grams in one known text, in [0, 1]."""
        grams = set(_n_grams(text))
        if not grams:
            return 0.0
        sketch, most = _sketch(grams), 0.0
        for number in self._near.query(sketch):
            other, n_other = self._sketches[number]
            jaccard = float(sketch.jaccard(other))
            # |A and B| = J (|A| + |B|) / (1 + J).
            shared = jaccard * (len(grams) + n_other) / (1.0 + jaccard)
            most = max(most, min(1.0, shared / len(grams)))
        return most


def index_texts(texts: Sequence[str], *, exact_limit: int = EXACT_LIMIT) -> TextIndex:
    """Remember texts exactly, or by sketches where they have about more 4-grams than the limit."""
    # A gram begins at a word, and English words take about five characters with their space.
    if sum(map(len, texts)) > 5 * exact_limit:
        return SketchedTexts(texts)
    return KnownTexts(texts)


def _sketch(grams: Iterable[int]) -> Any:
    from datasketch import MinHash

    sketch = MinHash(num_perm=_N_HASHES)
    sketch.update_batch([gram.to_bytes(8) for gram in grams])
    return sketch


def _n_grams(text: str) -> list[int]:
    """Hashes of the word 4-grams, in order."""
    words = split_words(text)
    if not words:
        return []
    starts = range(max(1, len(words) - _N_GRAM + 1))
    return [_hash(" ".join(words[i : i + _N_GRAM])) for i in starts]


def _hash(gram: str) -> int:
    return int.from_bytes(hashlib.blake2b(gram.encode(), digest_size=8).digest())
