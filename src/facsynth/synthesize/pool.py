"""All candidates of a run, with their activations and what became of them."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64

from facsynth.records import FeatureActivations, sample_text
from facsynth.synthesize.candidates import Candidate, Pair, Target
from facsynth.table.rows import stack_rows

__all__ = ["Pool"]


class Pool:
    """Candidates in the order in which they were written."""

    def __init__(self) -> None:
        """Start without candidates."""
        self.candidates: list[Candidate] = []
        self.outcomes: list[str] = []
        """Empty while a candidate is open; else `kept` or why not."""
        self._rows: FeatureActivations | None = None

    def add(
        self, candidates: Sequence[Candidate], rows: FeatureActivations, outcomes: Sequence[str]
    ) -> None:
        """Take candidates in, with one row of activations and one outcome each."""
        self.candidates += candidates
        self.outcomes += outcomes
        self._rows = rows if self._rows is None else stack_rows([self._rows, rows])

    def rows(self) -> FeatureActivations:
        """Activations of all candidates; there must be some."""
        assert self._rows is not None
        return self._rows

    def is_open(self) -> list[bool]:
        """Which candidates may still be kept."""
        return [not outcome for outcome in self.outcomes]

    def is_hit(self, feature: int, *, threshold: float) -> bool:
        """Whether some open candidate activates the feature."""
        active = self.activation(feature) > np.float32(threshold)
        return bool((active & np.array(self.is_open(), dtype=bool)).any())

    def activation(self, feature: int) -> Float64[np.ndarray, " n_candidates"]:
        """Activation of one feature by every candidate, in SAE units; 0 where there is none."""
        values = np.zeros(len(self.candidates))
        if self._rows is not None:
            entries = np.flatnonzero(self._rows.feature_ids == feature)
            owner = np.searchsorted(self._rows.row_starts, entries, side="right") - 1
            values[owner] = self._rows.values[entries]
        return values

    def pair(self, target: Target, *, threshold: float) -> Pair:
        """Strongest and weakest text for a feature, from the candidates of all features.

        Where no candidate activates the feature, the strongest anchor span stands for the strong
        text. The weak text is one that was written for the feature, when there is one. There
        must be candidates.
        """
        values = self.activation(target.feature_id)
        texts = [sample_text(candidate.sample) for candidate in self.candidates]
        strong = int(values.argmax())
        hit = len(texts) > 1 and values[strong] > np.float32(threshold)
        others = [i for i in range(len(texts)) if not (hit and i == strong)]
        own = [i for i in others if self.candidates[i].target == target.feature_id]
        weak = min(own or others, key=lambda i: (values[i], i))
        return Pair(texts[strong] if hit else target.spans[0].text, texts[weak])

    def outcome_counts(self) -> Counter[str]:
        """Candidates by what became of them."""
        return Counter(outcome or "nothing new" for outcome in self.outcomes)
