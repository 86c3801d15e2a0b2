"""The candidates of a run, and which are kept: a sample counts for all features it activates."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64

from facsynth.records import FeatureActivations, sample_text
from facsynth.synthesize.candidates import Candidate, Pair, Target
from facsynth.synthesize.plan import Shortage
from facsynth.table.active import ActiveRows
from facsynth.table.rows import stack_rows

__all__ = ["Kept", "Pool", "choose_candidates", "choose_matching"]


class Pool:
    """Candidates in the order in which they were written."""

    def __init__(self, threshold: float) -> None:
        """Start without candidates; `threshold` is δ."""
        self._threshold = np.float32(threshold)
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

    def is_hit(self, feature: int) -> bool:
        """Whether some open candidate activates the feature."""
        active = self.activation(feature) > self._threshold
        return bool((active & np.array(self.is_open(), dtype=bool)).any())

    def activation(self, feature: int) -> Float64[np.ndarray, " n_candidates"]:
        """Activation of one feature by every candidate, in SAE units; 0 where there is none."""
        values = np.zeros(len(self.candidates))
        if self._rows is not None:
            entries = np.flatnonzero(self._rows.feature_ids == feature)
            owner = np.searchsorted(self._rows.row_starts, entries, side="right") - 1
            values[owner] = self._rows.values[entries]
        return values

    def pair(self, target: Target) -> Pair:
        """Strongest and weakest text for a feature, from the candidates of all features.

        If no candidate activates the feature, the strong text is the strongest anchor span. The
        weak text is one that was written for the feature, if possible. There must be candidates.
        """
        values = self.activation(target.feature_id)
        texts = [sample_text(candidate.sample) for candidate in self.candidates]
        strong = int(values.argmax())
        hit = len(texts) > 1 and values[strong] > self._threshold
        others = [i for i in range(len(texts)) if not (hit and i == strong)]
        own = [i for i in others if self.candidates[i].target == target.feature_id]
        weak = min(own or others, key=lambda i: (values[i], i))
        return Pair(texts[strong] if hit else target.spans[0].text, texts[weak])

    def outcome_counts(self) -> Counter[str]:
        """Candidates by what became of them."""
        return Counter(outcome or "nothing new" for outcome in self.outcomes)


@dataclass(frozen=True, slots=True)
class Kept:
    """One candidate that was kept."""

    row: int
    """Its row in the pool."""

    new_features: tuple[int, ...]
    """Missing features that it was the first to activate."""


def choose_candidates(
    pool: ActiveRows,
    missing: Bool[np.ndarray, " n_features"],
    *,
    admissible: Sequence[bool],
    max_kept: int,
    is_new: Callable[[int], bool],
) -> list[Kept]:
    """Greedy set cover: again and again the candidate that activates most missing features.

    Ties go to the shorter candidate, then to the earlier one.

    Args:
        pool: Activations of the candidates.
        missing: Features that nothing covers yet.
        admissible: Candidates that may be kept at all.
        max_kept: Most candidates to keep.
        is_new: Asked once for each candidate about to be kept; False rejects it for good.
    """
    fires, n_tokens = pool.fires, pool.n_tokens
    open_rows = np.array(admissible, dtype=bool)
    remaining = missing.copy()
    kept: list[Kept] = []
    while len(kept) < max_kept and open_rows.any():
        gains = (fires @ remaining.astype(np.float32)) * open_rows
        best = int(gains.max(initial=0))
        if best == 0:
            break
        ties = np.flatnonzero(gains == best)
        row = int(ties[np.argmin(n_tokens[ties])])
        open_rows[row] = False
        if not is_new(row):
            continue
        active = fires.indices[fires.indptr[row] : fires.indptr[row + 1]]
        new = active[remaining[active]]
        remaining[new] = False
        kept.append(Kept(row, tuple(int(f) for f in np.sort(new))))
    return kept


def choose_matching(
    pool: ActiveRows,
    shortage: Shortage,
    missing: Bool[np.ndarray, " n_features"],
    *,
    bins: Int64[np.ndarray, " n_candidates"],
    room: Sequence[int],
    admissible: Sequence[bool],
    is_new: Callable[[int], bool],
) -> list[Kept]:
    """Greedy matching: the candidate that brings firing counts nearest to what is expected.

    The distance is Pearson's Σ (lacking)² / max(expected, 1) over the features of the anchor, so a
    candidate gains Σ (2 · lacking - 1) / max(expected, 1) over its features: too frequent features
    count against it. Candidates without a gain are not kept. Ties go to the earlier candidate.

    Args:
        pool: Activations of the candidates.
        shortage: What is lacking before.
        missing: Features that nothing covers yet.
        bins: Length group of each candidate; see `length_bins`.
        room: Candidates that may still be kept of each length group.
        admissible: Candidates that may be kept at all.
        is_new: Asked once for each candidate about to be kept; False rejects it for good.
    """
    fires = pool.fires
    open_rows = np.array(admissible, dtype=bool)
    remaining, left = missing.copy(), np.array(room)
    lacking = shortage.lacking.copy()
    scale = np.where(shortage.expected > 0, 1.0 / np.maximum(shortage.expected, 1.0), 0.0)
    kept: list[Kept] = []
    while (allowed := open_rows & (left[bins] > 0)).any():
        gains = np.where(allowed, fires @ (scale * (2.0 * lacking - 1.0)), 0.0)
        row = int(gains.argmax())
        if gains[row] <= 0:
            break
        open_rows[row] = False
        if not is_new(row):
            continue
        active = fires.indices[fires.indptr[row] : fires.indptr[row + 1]]
        new = active[remaining[active]]
        remaining[new] = False
        lacking[active] -= 1.0
        left[bins[row]] -= 1
        kept.append(Kept(row, tuple(int(f) for f in np.sort(new))))
    return kept
