"""Which candidates may be kept: texts of the anchor's lengths and scripts, copies of nothing.

The rules on a text's form are few and explicit, so that a user can see why a text was rejected.
They apply to what was written as a sample only; an assistant's answer may well begin with "Sure,
here is".
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np

from facsynth.data.copies import KnownRuns, index_texts, longest_runs
from facsynth.data.flaws import find_flaw, repetition_limit
from facsynth.records import Sample
from facsynth.synthesize.candidates import Candidate
from facsynth.words import count_words, main_scripts, script_share, split_words

__all__ = [
    "Admission",
    "count_written_words",
    "has_remark",
    "word_limits",
]

_LEAST_WORDS = 3
_LEAST_WORDS_JUDGED = 8
"""Shorter answers are never copies, and the language of shorter texts is not checked."""

_N_COMMON, _LEAST_COMMON = 1000, 0.25
"""This many most frequent words of anchor and seed show their language; a text needs at least this
share of its words among them."""

_LEAST_SHARE = 0.8
"""Share of a text's letters that must be of the anchor's scripts."""

_KINDS = (
    "answer|continuation|conversation|dialogue|draft|example|instruction|message|note|paragraph|"
    "passage|post|prompt|question|reply|response|revision|rewrite|sample|sentence|story|text|"
    "variation|version"
)
_ANNOUNCES = re.compile(
    r"^\W*(?:(?:sure|certainly|absolutely|of course|okay|ok|great)\b[^\n:]{0,30}?[!,.:]\s*)?"
    r"(?:here(?:['’]s| is| are)|below (?:is|are)|this is)\s+"
    rf"(?:a|an|the|my|your|one|some|two|three|another)\b[^\n.!?]{{0,60}}?\b(?:{_KINDS})s?\b[^\n]*?:",
    re.IGNORECASE,
)
"""Announces a text: "Here is a message on the theme: …"."""

_REFUSES = re.compile(
    r"^\W*(?:as an? (?:ai|artificial|language model)|"
    r"i(?:['’]m| am) (?:sorry|afraid),?\s*(?:but )?i (?:can['’]?t|cannot|am unable|won['’]t)|"
    r"i (?:can['’]?t|cannot|am unable to|am not able to) (?:write|help|provide|assist|create|"
    r"generate|fulfil|comply|complete))",
    re.IGNORECASE,
)
_ASKS_BACK = re.compile(
    r"(?:let me know if you(?:['’]d| would)? (?:like|need|want)|i hope this (?:helps|meets|works)|"
    r"feel free to (?:modify|adjust|edit|change|ask))[^\n]*$",
    re.IGNORECASE,
)
"""Ends with an offer to change the text."""

_RULE = r"no (?:title|comments?|quotes?|quotation marks?)"
_REPEATS = re.compile(rf"\b{_RULE},? (?:and )?{_RULE}\b", re.IGNORECASE)
"""Repeats the rules of the system prompt."""


class Admission:
    """Checks what was written: the user's words or the plain text.

    The assistant's answer must only be free of loops and not copy an evaluation set. It does not
    count for length or novelty, because a long one would hide a copied question.
    """

    def __init__(
        self,
        anchor: Sequence[Sample],
        seed: Sequence[Sample],
        *,
        max_overlap: float,
        max_run: int = 12,
        evaluation: Sequence[Sample] = (),
        language: str = "",
        is_strict: bool = True,
    ) -> None:
        """Take lengths and scripts from the anchor, and known texts from both sets.

        Args:
            anchor: What the texts are to be like.
            seed: What they are added to.
            max_overlap: Share of word 4-grams that a text may have in common with known texts.
            max_run: Words in a row that a text may have in common with a known text.
            evaluation: Samples of evaluation sets, which must not come into training data.
            language: Language that was asked for; that of anchor and seed is checked without one.
            is_strict: Whether form, language and novelty count; else only evaluation sets do.
        """
        self._is_strict, self._max_overlap = is_strict, max_overlap
        self._anchor_texts = [text for sample in anchor for text in _texts(sample)]
        self._seed_texts = [text for sample in seed for text in _texts(sample)]
        held_out = [text for sample in evaluation for text in _texts(sample)]
        self._evaluation = index_texts(held_out)
        self._known = index_texts([*self._anchor_texts, *self._seed_texts])
        everything = [*self._anchor_texts, *self._seed_texts, *held_out]
        self._runs = KnownRuns(everything, max_run + 1, anchor=self._anchor_texts)
        counts = Counter(w for text in everything for w in split_words(text))
        self._common = {w for w, _ in counts.most_common(_N_COMMON)} if not language else set()
        self._scripts = main_scripts(self._anchor_texts) if not language else frozenset()
        self._limits = word_limits(anchor)
        self.written_in_anchor = _written(anchor)
        """What the written texts are to be like."""

        self._most_repeated = repetition_limit(self._anchor_texts)
        self._copied = f"copies more than {max_run} words"

    @property
    def max_words(self) -> int:
        """Longest text that may be kept."""
        return self._limits[1]

    def find_flaw(self, candidate: Candidate) -> str | None:
        """Why a text cannot be kept, or None; what its answers are like does not count."""
        text, (low, high) = candidate.written, self._limits
        if self._evaluation.overlap(text) > self._max_overlap:
            return "near-copy of an evaluation set"
        if not self._is_strict:
            return None
        repeated = self._most_repeated
        if flaw := find_flaw(text, min_words=low, max_words=high, most_repeated=repeated):
            return flaw
        if has_remark(text):
            return "remark about the task"
        if self._scripts and script_share(text, self._scripts) < _LEAST_SHARE:
            return "other script"
        if self._is_foreign(text):
            return "other language"
        if self._known.overlap(text) > self._max_overlap:
            return "near-copy"
        return self._copied if self._runs.copies(text) else None

    def find_flaw_of_answers(self, sample: Sample) -> str | None:
        """Why what follows a sample's first message cannot be used, or None.

        A short answer, such as a letter or a name, occurs in many data sets without copying.
        """
        for message in (*sample.messages[1:], *sample.rejected[1:]):
            text, is_long = message.content, count_words(message.content) >= _LEAST_WORDS_JUDGED
            if message.tool_calls and not text:
                continue
            if is_long and self._evaluation.overlap(text) > self._max_overlap:
                return "answer: near-copy of an evaluation set"
            if not self._is_strict:
                continue
            if flaw := find_flaw(text, most_repeated=self._most_repeated):
                return f"answer: {flaw}"
            if is_long and self._known.overlap(text) > self._max_overlap:
                return "answer: near-copy"
            if self._runs.copies(text):
                return f"answer: {self._copied}"
        return None

    def _is_foreign(self, text: str) -> bool:
        """Whether few of its words are common in anchor and seed, as in another language."""
        words = split_words(text)
        if len(words) < _LEAST_WORDS_JUDGED or len(self._common) < _N_COMMON:
            return False
        return sum(word in self._common for word in words) < _LEAST_COMMON * len(words)

    def find_flaw_of_contrast(self, sample: Sample) -> str | None:
        """Why a sample that is matched to a kept one cannot be used, or None.

        It may share words with that sample, but not with evaluation sets.
        """
        for text in _texts(sample):
            if flaw := find_flaw(text, most_repeated=self._most_repeated):
                return flaw
            if has_remark(text):
                return "remark about the task"
            if self._evaluation.overlap(text) > self._max_overlap:
                return "near-copy of an evaluation set"
        return None

    def shared(self, texts: Sequence[str]) -> tuple[list[float], list[int]]:
        """Of each text the share of known word 4-grams, and the longest run with a known text."""
        known = [*self._anchor_texts, *self._seed_texts]
        return [self._known.overlap(text) for text in texts], longest_runs(texts, known)


def word_limits(samples: Sequence[Sample]) -> tuple[int, int]:
    """Fewest and most words of a written text: the 1 % and 99 % quantiles of such texts.

    Args:
        samples: Their user messages count, or their plain texts.
    """
    texts = _written(samples)
    if not texts:
        return _LEAST_WORDS, _LEAST_WORDS
    low, high = np.quantile([count_words(text) for text in texts], [0.01, 0.99])
    least = max(_LEAST_WORDS, int(low))
    return least, max(least, int(high))


def count_written_words(sample: Sample) -> int:
    """Words of the user's first message, or of the plain text."""
    return count_words(next(iter(_texts(sample, role="user") or _texts(sample)), ""))


def _written(samples: Iterable[Sample]) -> list[str]:
    """The users' messages, or the plain texts: what is written anew."""
    return [text for sample in samples for text in _texts(sample, role="user") or _texts(sample)]


def _texts(sample: Sample, role: str | None = None) -> list[str]:
    """The plain text, or the contents of the messages, of one role if wanted."""
    if sample.text is not None:
        return [sample.text]
    return [m.content for m in sample.messages if role in (None, m.role)]


def has_remark(text: str) -> bool:
    """Whether a text announces itself, refuses, repeats its rules, or ends with an offer.

    >>> has_remark("Sure! Here is a message about the sea: I love the waves.")
    True
    >>> has_remark("Sure, I will be there at six. Here is a bottle of wine for you!")
    False
    """
    return any(rule.search(text.strip()) for rule in (_ANNOUNCES, _REFUSES, _ASKS_BACK, _REPEATS))
