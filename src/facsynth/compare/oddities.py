"""What is odd in the text of a data set, before any model reads it.

Broken ends, one template all over, copies and mixed scripts are faults of data sets that no number
shows and that everyone wants to know of first.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from facsynth.data.copies import index_texts
from facsynth.records import Sample, sample_text
from facsynth.words import count_scripts, count_words, find_sentence_ends

__all__ = ["Oddity", "find_oddities", "text_lengths"]

COMMON = 0.2
"""Share of the samples from which on a common beginning or end is told."""

LEAST_CHARACTERS, MOST_CHARACTERS = 8, 400
"""Lengths of common beginnings and ends that are looked for."""

_HOLD = 0.8
"""A common end grows while this share of the samples that had it still have it."""

_CUT_WORDS = 20
"""Shorter answers, such as a name or a number, end without a full stop for good reasons."""

_LEAST_CUT = 0.1
"""Share of the longer answers without an end from which on it is told: lists and code have none."""

_COPIED = 0.8
"""A sample with this share of its word 4-grams in earlier ones is a near-copy."""

_JAPANESE = frozenset({"CJK", "HIRAGANA", "KATAKANA"})
"""Scripts that one language mixes."""

_SHOWN = 60
"""Characters of an example."""


@dataclass(frozen=True, slots=True)
class Oddity:
    """One thing that is odd in a data set."""

    what: str
    """In words that go on after "5 % of"."""

    n_samples: int
    """Samples that have it."""

    n_all: int
    """Samples that could have it, such as those with an answer."""

    example: str
    """The common text, or a piece of one sample that has it."""

    sample_id: str
    """A sample that has it."""

    def row(self) -> dict[str, Any]:
        """The JSON row."""
        return asdict(self)


def find_oddities(samples: Sequence[Sample]) -> list[Oddity]:
    """Common beginnings and ends, cut answers, copies, and samples without an answer.

    Returns:
        What was found, that of most samples first; at most one entry of each kind and role.
    """
    found = list[Oddity]()
    for role, noun in (("user", "question"), ("assistant", "answer")):
        parts = _parts(samples, role)
        found += _common(parts, f"{noun}s begin alike", lambda text, n: text[:n])
        found += _common(parts, f"{noun}s end alike", lambda text, n: text[-n:])
    texts = [(s.sample_id, s.text) for s in samples if s.text is not None]
    found += _common(texts, "texts begin alike", lambda text, n: text[:n])
    found += _common(texts, "texts end alike", lambda text, n: text[-n:])
    found += _cut_answers(_parts(samples, "assistant"))
    found += _copies(samples)
    found += _unanswered(samples)
    found += _other_scripts(samples)
    return sorted(found, key=lambda one: -one.n_samples)


def text_lengths(samples: Sequence[Sample]) -> str:
    """How long questions, answers and texts are, in a line."""
    texts = [text for sample in samples if (text := sample.text) is not None]
    kinds = {
        "question": [text for _, text in _parts(samples, "user")],
        "answer": [text for _, text in _parts(samples, "assistant")],
        "text": texts,
    }
    said = []
    for noun, of_kind in kinds.items():
        if lengths := sorted(map(count_words, of_kind)):
            middle, longest = lengths[len(lengths) // 2], lengths[-1]
            said.append(f"the middle {noun} has {middle:,} words, the longest {longest:,}")
    return "; ".join(said)


def _parts(samples: Sequence[Sample], role: str) -> list[tuple[str, str]]:
    """Id and last turn of a role, of the samples that have one."""
    last = ((s.sample_id, [m.content for m in s.messages if m.role == role]) for s in samples)
    return [(sample_id, turns[-1].strip()) for sample_id, turns in last if turns]


def _common(
    parts: Sequence[tuple[str, str]], what: str, cut: Callable[[str, int], str]
) -> list[Oddity]:
    """The longest piece at one end that many texts have in common.

    Texts that are no more than it do not count, for repeated texts are copies.
    """

    def most(n: int) -> tuple[str, int]:
        pieces = Counter(cut(text, n) for _, text in parts if len(text) > n)
        return max(pieces.items(), key=lambda item: item[1], default=("", 0))

    _, n_with = most(LEAST_CHARACTERS)
    if n_with < max(3, COMMON * len(parts)):
        return []
    least = max(3.0, COMMON * len(parts), _HOLD * n_with)
    # A longer piece is never in more texts, so that the lengths can be halved.
    lengths = range(LEAST_CHARACTERS, MOST_CHARACTERS + 1)
    longest = bisect_right(lengths, -least, key=lambda n: -most(n)[1]) - 1
    piece, n_with = most(lengths[longest])
    first = next(sample_id for sample_id, text in parts if cut(text, len(piece)) == piece)
    shown = f"{piece[:_SHOWN]}…" if len(piece) > _SHOWN else piece
    return [Oddity(what, n_with, len(parts), shown, first)]


def _cut_answers(answers: Sequence[tuple[str, str]]) -> list[Oddity]:
    """Answers of some length whose last sentence has no end."""
    long = [(i, text) for i, text in answers if count_words(text) >= _CUT_WORDS]
    cut = [(i, text) for i, text in long if text[-1].isalpha() and not _is_list(text)]
    if not long or len(cut) < max(3, _LEAST_CUT * len(long)):
        return []
    sample_id, text = cut[0]
    what = f"answers of {_CUT_WORDS} words and more stop within a sentence"
    return [Oddity(what, len(cut), len(long), f"…{text[-_SHOWN:]}", sample_id)]


def _is_list(text: str) -> bool:
    """Whether the last line is an item, a heading or code, which end without a full stop."""
    last = text.rsplit("\n", 1)[-1]
    return "\n" in text and not any(True for _ in find_sentence_ends(last))


def _copies(samples: Sequence[Sample]) -> list[Oddity]:
    known, index = set[str](), index_texts([])
    same, near = list[int](), list[int]()
    for place, sample in enumerate(samples):
        text = sample_text(sample)
        if text in known:
            same.append(place)
            continue
        if index.overlap(text) >= _COPIED:
            near.append(place)
        known.add(text)
        index.add(text)
    kinds = {"repeat an earlier one word for word": same, "are near-copies of earlier ones": near}
    return [
        _oddity(f"samples {what}", len(places), samples, places[0])
        for what, places in kinds.items()
        if places
    ]


def _unanswered(samples: Sequence[Sample]) -> list[Oddity]:
    asked = [
        i for i, sample in enumerate(samples) if any(m.role == "user" for m in sample.messages)
    ]
    bare = [i for i in asked if samples[i].messages[-1].role == "user"]
    if not bare or len(bare) == len(asked):  # a set of prompts has no answers at all
        return []
    return [_oddity("samples have no answer", len(bare), samples, bare[0])]


def _other_scripts(samples: Sequence[Sample]) -> list[Oddity]:
    """Samples with fewer than half of their letters in the script of most letters."""
    counts = [count_scripts(sample_text(sample)) for sample in samples]
    total = sum(counts, Counter[str]())
    main = max(total, key=lambda script: total[script], default="")
    usual = _JAPANESE if main in _JAPANESE else {main}
    other = [
        place
        for place, found in enumerate(counts)
        if 2 * sum(found[script] for script in usual) < found.total()
    ]
    if not other:
        return []
    what = f"samples are mostly not in {main.capitalize()} letters"
    return [_oddity(what, len(other), samples, other[0])]


def _oddity(what: str, n: int, samples: Sequence[Sample], place: int) -> Oddity:
    text = " ".join(sample_text(samples[place]).split())
    shown = f"{text[:_SHOWN]}…" if len(text) > _SHOWN else text
    return Oddity(what, n, len(samples), shown, samples[place].sample_id)
