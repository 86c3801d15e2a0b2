"""Do two sets of questions call the same answer the matching one? Told by the answers' words.

A set whose matching answer shows the opposite of the behaviour turns the sign of a control rate.
Only a table of hashed words is kept of the training questions, never a text.
"""

import math
import zlib
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float32

from facsynth.tasks.steering.data import Item, answer_texts
from facsynth.words import split_words

__all__ = ["WordOdds", "agreement", "is_opposite", "word_odds"]

_N_BUCKETS = 4096
_CHANCE = 0.01

WordOdds = Float32[np.ndarray, "4096"]
"""For each hashed word, the log odds of standing in a matching answer against the other one."""


def word_odds(items: Sequence[Item]) -> WordOdds:
    """What the words of answers tell of which one is matching; every word once an answer."""
    counts = np.ones((2, _N_BUCKETS))
    for item in items:
        for side, text in enumerate(answer_texts(item)):
            counts[side, _buckets(text)] += 1
    found: WordOdds = np.log(counts[0] / counts[1]).astype(np.float32)
    return found


def agreement(odds: WordOdds, items: Sequence[Item]) -> tuple[int, int]:
    """In how many questions the words tell anything, and in how many they agree with the items."""
    gaps = [odds[_buckets(a)].sum() - odds[_buckets(b)].sum() for a, b in map(answer_texts, items)]
    told = [float(gap) for gap in gaps if gap]
    return len(told), sum(gap > 0 for gap in told)


def is_opposite(n_told: int, n_same: int) -> bool:
    """Whether so few agree that it would be chance in fewer than 1 of 100 sets.

    >>> is_opposite(20, 5), is_opposite(20, 3), is_opposite(3, 0)
    (False, True, False)
    """
    ways: int = sum(math.comb(n_told, i) for i in range(n_same + 1))
    return bool(ways < _CHANCE * 2**n_told)


def _buckets(text: str) -> list[int]:
    return sorted({zlib.crc32(w.lower().encode()) % _N_BUCKETS for w in split_words(text)})
