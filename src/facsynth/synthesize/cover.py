"""The method `cover`: samples count for every feature, until exactly as many as wanted are kept.

Each round asks for texts like the anchor texts that `plan_aims` chooses, scores them against every
feature, and chooses anew among all texts so far. What is chosen has the lengths of the anchor, and
covers first what is missing, then what too few samples cover, then comes nearest to the anchor's
rates. The run ends when enough samples are kept and more texts would hardly cover more: every
missing feature is covered or was aimed at often enough, or the last round covered few.
"""

from collections import Counter
from functools import cached_property
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from facsynth.synthesize.candidates import Asking, first_requests
from facsynth.synthesize.keep import Kept, choose_cover
from facsynth.synthesize.plan import (
    Aim,
    Wanted,
    anchor_strengths,
    length_classes,
    length_quotas,
    plan_aims,
)
from facsynth.synthesize.rounds import Inputs, Rounds
from facsynth.synthesize.score import Steps
from facsynth.words import count_words

__all__ = ["CoverRounds"]

_CANDIDATES_PER_SAMPLE = 10
_MOST_ROUNDS = 10
"""So many rounds may each ask for a share of large sets: each chooses anew, which takes time."""

_LEAST_GAIN = 0.25
"""When enough is kept, a round that covers less than this share of what a text covered on average
is the last."""

_SLACK = 0.1
"""A length class may have so much more than its share. Generators miss lengths, and the last
samples of the rarest class would cost as much as a quarter of all others."""

_LEAST_ROUND, _LEAST_YIELD, _FIRST_YIELD = 8, 0.1, 0.5
"""A round asks for as many texts as are lacking, by the share of texts that was usable so far."""


class CoverRounds(Rounds):
    """Rounds of the method `cover`."""

    def __init__(self, inputs: Inputs, tokenizer: Any) -> None:
        """Start before the first round; see `Rounds`."""
        super().__init__(inputs, tokenizer)
        counts, tokens = inputs.word_counts, inputs.anchor.n_tokens
        self._lengths = tokens if counts is None else counts
        self._strengths = anchor_strengths(inputs.anchor)
        self._classes = length_classes(self._lengths, self._lengths)
        self._quotas = length_quotas(self._lengths, self._effort.max_samples)
        self._is_shown = inputs.texts.is_shown()
        self._uses = np.zeros(inputs.anchor.n_samples, dtype=np.int64)
        self._attempts = Counter[int]()

    @cached_property
    def first(self) -> list[Asking]:
        """The requests of the first round."""
        return self._requests(self._plan(), 0)

    @property
    def n_wanted(self) -> int:
        """Missing features that the run may aim at."""
        return len(self._in.aimable)

    @property
    def max_candidates(self) -> int:
        """Texts that the run may ask for."""
        return self._effort.max_candidates or _CANDIDATES_PER_SAMPLE * self._effort.max_samples

    def _write(self, steps: Steps) -> bool:
        number = len(self.rows)
        requests = self._requests(self._plan(), number) if number else self.first
        if not requests:
            return False
        self._take(steps, requests, round_=number, step=1)
        self._add_row(len({one.target for one in requests}))
        return True

    def _requests(self, aims: list[Aim], number: int) -> list[Asking]:
        """The requests for the aims of a round, which count as tried from now on."""
        self._attempts.update(aim.feature_ids[0] for aim in aims if aim.is_missing)
        np.add.at(self._uses, [aim.row for aim in aims], 1)
        shown = self._in.texts.shown(aims, self._tokenizer)
        return first_requests(shown, 1, self._in.wording, random_seed=self._random_seed(number))

    def _plan(self) -> list[Aim]:
        if not self._in.anchor.features.any():
            return []
        kept_classes = self._pool_classes()[[kept.row for kept in self.kept]]
        room = self._quotas - np.bincount(kept_classes, minlength=self._quotas.size)
        n_lacking = self._effort.max_samples - len(self.kept)
        room = np.maximum(room, 0) * (n_lacking > 0)
        if not n_lacking and self._covers_little():
            return []
        wanted = self._wanted(self._openness())
        n = max(int(np.ceil(n_lacking / self._yield())), int(np.count_nonzero(wanted.missing)))
        n = max(n, _LEAST_ROUND) if n else 0
        most = max(self._effort.round_size, self._effort.max_samples // _MOST_ROUNDS)
        n = min(n, most, self.max_candidates - self.n_asked)
        return plan_aims(
            self._strengths,
            wanted,
            self._classes,
            room,
            n=n,
            uses=self._uses,
            is_shown=self._is_shown,
        )

    def _openness(self) -> Float64[np.ndarray, " n_features"]:
        """How much each feature may still be asked for, half as much after each attempt."""
        openness = self._in.anchor.features.astype(np.float64)
        openness[self._in.missing] = 0.0
        openness[self._in.aimable] = 1.0
        for feature, n in self._attempts.items():
            openness[feature] = 0.5**n if n < self._effort.max_attempts else 0.0
        return openness

    def _covers_little(self) -> bool:
        """Whether the texts of the last round covered much less than those before."""
        covered = [0, *(int(row["n_covered"]) for row in self.rows)]
        asked = [0, *(int(row["n_asked"]) for row in self.rows)]
        if len(covered) < 3 or asked[-2] == 0:
            return False
        last = (covered[-1] - covered[-2]) / (asked[-1] - asked[-2])
        return last < _LEAST_GAIN * covered[-2] / asked[-2]

    def _yield(self) -> float:
        """Share of the texts asked for that may be kept."""
        if not self.n_asked:
            return _FIRST_YIELD
        return max(_LEAST_YIELD, len(self.pool.open_rows()) / self.n_asked)

    def _wanted(self, openness: Float64[np.ndarray, " n_features"]) -> Wanted:
        """What seed and kept samples together want."""
        counts = self._in.seed.counts
        if self.kept:
            rows = [kept.row for kept in self.kept]
            counts = counts + self._active().fires[rows].sum(axis=0).astype(np.int64)
        return self._measure(counts, openness)

    def _measure(
        self, counts: Int64[np.ndarray, " n_features"], openness: Float64[np.ndarray, " n_features"]
    ) -> Wanted:
        return Wanted.measure(
            self._in.anchor,
            counts,
            openness=openness,
            per_feature=self._settings.per_feature,
            n_final=self._in.seed.n_samples + self._effort.max_samples,
        )

    def _choose(self) -> list[Kept]:
        anchor = self._in.anchor
        return choose_cover(
            self._active(),
            [candidate.written for candidate in self.pool.candidates],
            self._measure(self._in.seed.counts, anchor.features.astype(np.float64)),
            open_rows=self.pool.open_rows(),
            classes=self._pool_classes(),
            limits=(self._quotas * (1.0 + _SLACK) + 1e-9).astype(np.int64),
            n=self._effort.max_samples,
            max_overlap=self._settings.max_overlap,
        )

    def _pool_classes(self) -> Any:
        if not self.pool.candidates:
            return np.zeros(0, dtype=np.int64)
        lengths = self.pool.rows().n_tokens
        if self._in.word_counts is not None:
            lengths = np.array([count_words(c.written) for c in self.pool.candidates])
        return length_classes(lengths, self._lengths)
