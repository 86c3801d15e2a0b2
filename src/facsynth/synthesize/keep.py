"""The candidates of a run, and which of them are kept."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float64, Int64

from facsynth.data.copies import KnownTexts
from facsynth.records import FeatureActivations, sample_text
from facsynth.synthesize.candidates import Candidate, Pair
from facsynth.synthesize.plan import Wanted
from facsynth.table.active import ActiveRows
from facsynth.table.rows import stack_rows

__all__ = ["Kept", "Pool", "choose_cover", "choose_own", "contrastive_pairs"]


@dataclass
class Pool:
    """Candidates in the order in which they were written."""

    candidates: list[Candidate] = field(default_factory=list)
    outcomes: list[str] = field(default_factory=list)
    """Empty while a candidate may be kept; else why not."""

    parts: list[FeatureActivations] = field(default_factory=list)

    def add(
        self, candidates: Sequence[Candidate], rows: FeatureActivations, outcomes: Sequence[str]
    ) -> None:
        """Take candidates in, with one row of activations and one outcome each."""
        self.candidates += candidates
        self.outcomes += outcomes
        self.parts = [stack_rows([*self.parts, rows])]

    def rows(self) -> FeatureActivations:
        """Activations of all candidates; there must be some."""
        return self.parts[0]

    def open_rows(self) -> list[int]:
        """Candidates that may be kept."""
        return [row for row, outcome in enumerate(self.outcomes) if not outcome]

    def own_activations(self) -> Float64[np.ndarray, " n_candidates"]:
        """Activation of the feature that each candidate was written for, in SAE units."""
        if not self.parts:
            return np.zeros(0)
        rows = self.rows()
        targets = np.array([c.target for c in self.candidates], dtype=np.int64)
        owners = np.repeat(np.arange(targets.size), np.diff(rows.row_starts))
        own = rows.feature_ids == targets[owners]
        values = np.zeros(targets.size)
        values[owners[own]] = rows.values[own]
        return values


@dataclass(frozen=True, slots=True)
class Kept:
    """One candidate that is kept."""

    row: int
    """Its row in the pool."""

    new_features: tuple[int, ...]
    """Missing features that it was the first to activate."""


def contrastive_pairs(pool: Pool, spans: Mapping[int, str], *, threshold: float) -> dict[int, Pair]:
    """For each feature its strongest and weakest text among those written for it in step 1.

    Where no text reaches δ, the strongest anchor span takes the place of the strong one.

    Args:
        pool: The candidates of step 1.
        spans: Strongest anchor span of each feature.
        threshold: δ.
    """
    own = pool.own_activations()
    rows: dict[int, list[int]] = {feature: [] for feature in spans}
    for row, candidate in enumerate(pool.candidates):
        rows[candidate.target].append(row)
    texts = [sample_text(candidate.sample) for candidate in pool.candidates]
    pairs = {}
    for feature, found in rows.items():
        ordered = sorted(found, key=lambda row: (-own[row], row))
        is_hit = bool(ordered) and own[ordered[0]] > np.float32(threshold)
        strong = texts[ordered[0]] if is_hit else spans[feature]
        weak = texts[ordered[-1]] if len(ordered) > is_hit else ""
        pairs[feature] = Pair(strong, weak)
    return pairs


def choose_own(
    pool: Pool, features: Sequence[int], *, step: int, threshold: float, n: int, per_feature: int
) -> list[Kept]:
    """The texts that activate their own feature most: one of each feature, then seconds, ….

    Args:
        pool: All candidates.
        features: The features, in order of rank.
        step: Only texts of this step are kept.
        threshold: δ; what does not activate its own feature above it is not kept.
        n: Texts to keep.
        per_feature: Texts to keep of one feature, at most.
    """
    own, ranks, chosen = pool.own_activations(), {f: i for i, f in enumerate(features)}, []
    seen = Counter[int]()
    hits = [row for row in pool.open_rows() if own[row] > np.float32(threshold)]
    for row in sorted(hits, key=lambda row: (-own[row], row)):
        target = pool.candidates[row].target
        if pool.candidates[row].step == step and seen[target] < per_feature:
            chosen.append((seen[target], ranks[target], row))
            seen[target] += 1
    return [
        Kept(row, (pool.candidates[row].target,) if not turn else ())
        for turn, _, row in sorted(chosen)[:n]
    ]


def choose_cover(
    pool: ActiveRows,
    texts: Sequence[str],
    wanted: Wanted,
    *,
    open_rows: Sequence[int],
    classes: Int64[np.ndarray, " n_candidates"],
    limits: Int64[np.ndarray, " n_classes"],
    n: int,
    max_overlap: float,
) -> list[Kept]:
    """Keep `n` candidates, again and again the one that gains most of those whose class has room.

    A candidate gains the weights of the missing features that it activates. When no candidate has
    one, it gains those of the features that too few samples have; then it gains what it lowers
    Σ (lacking)² / max(expected, 1), Pearson's distance from the anchor's rates, whatever its sign.
    Ties go to the earlier candidate.

    Args:
        pool: Activations of the candidates.
        texts: What was written, by candidate.
        wanted: What is wanted before.
        open_rows: Candidates that may be kept.
        classes: Length class of each candidate.
        limits: Samples to keep of each length class, at most.
        n: Samples to keep, at most.
        max_overlap: Share of word 4-grams that a text may have in common with kept ones.
    """
    fires, left, kept, known = pool.fires, limits.copy(), list[Kept](), KnownTexts()
    is_open = np.zeros(pool.n_samples, dtype=bool)
    is_open[list(open_rows)] = True
    missing, rare = wanted.missing.copy(), wanted.rare.copy()
    too_few, lacking = wanted.too_few.copy(), wanted.lacking.copy()
    while len(kept) < n and (allowed := is_open & (left[classes] > 0)).any():
        gains = fires @ missing
        if not (gains[allowed] > 0).any():
            gains = fires @ rare
        if not (gains[allowed] > 0).any():
            gains = fires @ (wanted.scale * (2.0 * lacking - 1.0))
        row = int(np.where(allowed, gains, -np.inf).argmax())
        is_open[row] = False
        if known.overlap(texts[row]) > max_overlap:
            continue
        known.add(texts[row])
        active = fires.indices[fires.indptr[row] : fires.indptr[row + 1]]
        new = active[missing[active] > 0]
        missing[active] = 0.0
        too_few[active] -= 1
        rare[active[too_few[active] <= 0]] = 0.0
        lacking[active] -= 1.0
        left[classes[row]] -= 1
        kept.append(Kept(row, tuple(int(f) for f in np.sort(new))))
    return kept
