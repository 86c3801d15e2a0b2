"""The method `paper`: two steps for every missing feature (arXiv 2602.10388, sections 5 and 6).

Step 1 asks for n texts with each feature's explanation and spans. The text that activates the
feature most, if above δ, and the one that activates it least are its contrastive pair. Step 2 asks
for m texts with explanation and pair, for every feature. Of these, the texts that activate their
own feature above δ are kept, the strongest first.

Where no text of step 1 reaches δ, the strongest anchor span is the strong example, as in the
authors' code; the paper does not say. Neither says n nor m: the authors' code has 1 and 2.
"""

from functools import cached_property

import numpy as np

from facsynth.synthesize.candidates import Asking, Shown, first_requests, second_requests
from facsynth.synthesize.keep import Kept, choose_own, contrastive_pairs
from facsynth.synthesize.plan import Aim
from facsynth.synthesize.rounds import Rounds
from facsynth.synthesize.score import Steps

__all__ = ["PaperRounds"]


class PaperRounds(Rounds):
    """The one round of the method `paper`."""

    @cached_property
    def targets(self) -> list[int]:
        """The features, by rank; as many as the candidates allow."""
        n_each = self._effort.first_candidates + self._effort.second_candidates
        limit = self._effort.max_candidates
        return self._in.aimable[: None if limit is None else limit // n_each]

    @property
    def n_wanted(self) -> int:
        """Features that the run aims at."""
        return len(self.targets)

    @property
    def max_candidates(self) -> int:
        """Texts that the run asks for."""
        return len(self.targets) * (self._effort.first_candidates + self._effort.second_candidates)

    @cached_property
    def first(self) -> list[Asking]:
        """The requests of step 1."""
        n, seed = self._effort.first_candidates, self._random_seed(0)
        return first_requests(self._shown, n, self._in.wording, random_seed=seed)

    @cached_property
    def _shown(self) -> list[Shown]:
        anchor = self._in.anchor
        strongest = np.asarray(anchor.matrix.tocsc()[:, self.targets].argmax(axis=0)).ravel()
        aims = [
            Aim((feature,), int(row), is_missing=True)
            for feature, row in zip(self.targets, strongest, strict=True)
        ]
        return self._in.texts.shown(aims, self._tokenizer)

    def _write(self, steps: Steps) -> bool:
        if self.rows or not self.targets:
            return False
        self._take(steps, self.first, round_=0, step=1)
        n = self._effort.second_candidates
        if n and not self.stopped and self.pool.candidates:
            spans = self._in.texts.strongest_spans(self.targets, self._tokenizer)
            pairs = contrastive_pairs(self.pool, spans, threshold=self._in.anchor.threshold)
            # Other random seeds than those of step 1.
            seed = self._random_seed(1)
            requests = second_requests(self._shown, pairs, n, self._in.wording, random_seed=seed)
            self._take(steps, requests, round_=0, step=2)
        self._add_row(len(self.targets))
        return True

    def _choose(self) -> list[Kept]:
        return choose_own(
            self.pool,
            self.targets,
            step=2 if self._effort.second_candidates else 1,
            threshold=self._in.anchor.threshold,
            n=self._effort.max_samples,
            per_feature=self._settings.per_feature,
        )

    def _why_left(self, row: int) -> str:
        is_hit = self.pool.own_activations()[row] > np.float32(self._in.anchor.threshold)
        return "not needed" if is_hit else "own feature not active"

    def _why_short(self) -> str:
        return "no_hit" if self.pool.candidates or self.lost else "covered"
