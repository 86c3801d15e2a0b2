"""Is a text new?

Known texts are remembered by their word 4-grams, exactly up to `EXACT_LIMIT` of them (about 80
bytes each) and by MinHash sketches (datasketch) beyond, whose size does not grow with the texts.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from typing import Any, Protocol, runtime_checkable

from facsynth.words import count_words, split_words

__all__ = [
    "EXACT_LIMIT",
    "KnownRuns",
    "KnownTexts",
    "SketchedTexts",
    "TextIndex",
    "index_texts",
    "longest_runs",
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


class KnownRuns:
    """Runs of words that must not be copied, in texts of which some phrases are common."""

    def __init__(
        self, texts: Iterable[str], n_words: int, *, anchor: Iterable[str] = (), n_common: int = 3
    ) -> None:
        """Take the runs of the texts.

        Args:
            texts: Known texts.
            n_words: Length of a run.
            anchor: Runs that so many of these texts have are phrases, which may be used.
            n_common: How many.
        """
        self._n_words = n_words
        seen = Counter(gram for text in anchor for gram in dict.fromkeys(_n_grams(text, n_words)))
        self._phrases = {gram for gram, n in seen.items() if n >= n_common}
        self._runs = {gram for text in texts for gram in _n_grams(text, n_words)} - self._phrases

    def copies(self, text: str) -> bool:
        """Whether the text has a known run that is no phrase."""
        grams = _n_grams(text, self._n_words) if count_words(text) >= self._n_words else []
        return any(gram in self._runs for gram in grams)


def longest_runs(texts: Sequence[str], known: Iterable[str]) -> list[int]:
    """Words of the longest run that each text has in common with a known text; 0 below four."""
    words = [split_words(text) for text in texts]
    places: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for number, found in enumerate(words):
        for start, gram in enumerate(_grams_of(found, _N_GRAM)):
            places[gram].append((number, start))
    longest = [0] * len(texts)
    for text in known:
        other = split_words(text)
        for at, gram in enumerate(_grams_of(other, _N_GRAM)):
            for number, start in places.get(gram, ()):
                here = words[number]
                if at and start and other[at - 1] == here[start - 1]:
                    continue  # inside a run that has been measured
                size = _N_GRAM
                while other[at + size : at + size + 1] == here[start + size : start + size + 1]:
                    if at + size >= len(other):
                        break
                    size += 1
                longest[number] = max(longest[number], size)
    return longest


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


def _n_grams(text: str, size: int = _N_GRAM) -> list[int]:
    """Hashes of the word n-grams, in order; a shorter text is one gram."""
    words = split_words(text)
    return _grams_of(words, size) or ([_hash(" ".join(words))] if words else [])


def _grams_of(words: Sequence[str], size: int) -> list[int]:
    """Hashes of the n-grams of words; none of fewer words."""
    return [_hash(" ".join(words[i : i + size])) for i in range(len(words) - size + 1)]


def _hash(gram: str) -> int:
    return int.from_bytes(hashlib.blake2b(gram.encode(), digest_size=8).digest())
