"""Which candidates may be kept: texts of the anchor's lengths and scripts, copies of nothing."""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from facsynth.data.copies import index_texts
from facsynth.data.flaws import find_flaw, repetition_limit
from facsynth.records import Sample
from facsynth.synthesize.candidates import Candidate
from facsynth.synthesize.form import has_remark, main_scripts, script_share
from facsynth.words import count_words, split_words

__all__ = ["Admission", "count_written_words", "word_limits"]

_LEAST_WORDS = 3
_LEAST_WORDS_JUDGED = 8
"""Words from which on an answer can be a copy, and the language of a text is looked at."""

_N_COMMON, _LEAST_COMMON = 1000, 0.25
"""Most frequent words of anchor and seed, which tell a language where there are so many, and the
share of a text's words that must be among them."""

_LEAST_SHARE = 0.8
"""Share of a text's letters that must be of the anchor's scripts."""


class Admission:
    """Looks at what was written: the user's words or the plain text.

    The assistant's answer only has to be free of loops and no copy of an evaluation set. It does
    not count for length or other novelty, where a long one would hide a copied question.
    """

    def __init__(
        self,
        anchor: Sequence[Sample],
        seed: Sequence[Sample],
        *,
        max_overlap: float,
        evaluation: Sequence[Sample] = (),
    ) -> None:
        """Take lengths and scripts from the anchor, and known texts from both sets.

        Args:
            anchor: What the texts are to be like.
            seed: What they are added to.
            max_overlap: Share of word 4-grams that a text may have in common with known texts.
            evaluation: Samples of evaluation sets, which must not come into training data.
        """
        self._evaluation = index_texts([t for sample in evaluation for t in _texts(sample)])
        self._scripts = main_scripts(text for sample in anchor for text in _texts(sample))
        self._known = index_texts([t for sample in (*anchor, *seed) for t in _texts(sample)])
        counts = Counter(w for x in (*anchor, *seed) for t in _texts(x) for w in split_words(t))
        self._common = {word for word, _ in counts.most_common(_N_COMMON)}
        self._limits = word_limits(anchor)
        self._most_repeated = repetition_limit(t for sample in anchor for t in _texts(sample))
        self._max_overlap = max_overlap

    @property
    def max_words(self) -> int:
        """Longest text that may be kept."""
        return self._limits[1]

    def find_flaw(self, candidate: Candidate) -> str | None:
        """Why a candidate cannot be kept, or None."""
        low, high = self._limits
        repeated = self._most_repeated
        if flaw := find_flaw(
            candidate.written, min_words=low, max_words=high, most_repeated=repeated
        ):
            return flaw
        if has_remark(candidate.written):
            return "remark about the task"
        if self._scripts and script_share(candidate.written, self._scripts) < _LEAST_SHARE:
            return "other script"
        if self._is_foreign(candidate.written):
            return "other language"
        if self._evaluation.overlap(candidate.written) > self._max_overlap:
            return "near-copy of an evaluation set"
        if self._known.overlap(candidate.written) > self._max_overlap:
            return "near-copy"
        sample = candidate.sample
        answers = [message.content for message in (*sample.messages[1:], *sample.rejected[1:])]
        return next(filter(None, map(self.find_flaw_of_answer, answers)), None)

    def find_flaw_of_answer(self, answer: str) -> str | None:
        """Why an answer cannot be used, or None.

        A short answer, such as a letter or a name, stands in many evaluation sets and copies none.
        """
        if flaw := find_flaw(answer, most_repeated=self._most_repeated):
            return flaw
        is_long = count_words(answer) >= _LEAST_WORDS_JUDGED
        if is_long and self._evaluation.overlap(answer) > self._max_overlap:
            return "near-copy of an evaluation set"
        return None

    def _is_foreign(self, text: str) -> bool:
        """Whether so few words are common in anchor and seed that the language is another one."""
        words = split_words(text)
        if len(words) < _LEAST_WORDS_JUDGED or len(self._common) < _N_COMMON:
            return False
        return sum(word in self._common for word in words) < _LEAST_COMMON * len(words)

    def find_flaw_of_contrast(self, sample: Sample) -> str | None:
        """Why a sample that is matched to a kept one cannot be used, or None.

        It may share words with what it is matched to, but not with evaluation sets.
        """
        for text in _texts(sample):
            if flaw := find_flaw(text, most_repeated=self._most_repeated):
                return flaw
            if has_remark(text):
                return "remark about the task"
            if self._evaluation.overlap(text) > self._max_overlap:
                return "near-copy of an evaluation set"
        return None

    def admit(self, candidate: Candidate) -> bool:
        """Whether the candidate still is new; if so, its text is known from now on."""
        if self._known.overlap(candidate.written) > self._max_overlap:
            return False
        self._known.add(candidate.written)
        return True


def word_limits(samples: Sequence[Sample]) -> tuple[int, int]:
    """Fewest and most words of a written text: the 1 % and 99 % quantiles of such texts.

    Args:
        samples: Their user messages count, or their plain texts.
    """
    texts = [text for sample in samples for text in _texts(sample, role="user") or _texts(sample)]
    if not texts:
        return _LEAST_WORDS, _LEAST_WORDS
    low, high = np.quantile([count_words(text) for text in texts], [0.01, 0.99])
    least = max(_LEAST_WORDS, int(low))
    return least, max(least, int(high))


def count_written_words(sample: Sample) -> int:
    """Words of the user's first message, or of the plain text."""
    return count_words(next(iter(_texts(sample, role="user") or _texts(sample)), ""))


def _texts(sample: Sample, role: str | None = None) -> list[str]:
    """The plain text, or the contents of the messages, of one role if wanted."""
    if sample.text is not None:
        return [sample.text]
    return [m.content for m in sample.messages if role in (None, m.role)]
