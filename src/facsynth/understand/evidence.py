"""What is known about a feature: spans that show it, spans kept back, and near misses.

Spans are drawn from the whole range of activations, not from the top alone, and a part of them
is kept back so that a name can be tested on text that it was not made from. Near misses are
pieces of samples in which the feature is silent although they share its words.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float64, Int64

from facsynth.coverage.threshold import own_threshold
from facsynth.models.tokens import TokenizedSample
from facsynth.records import FeatureActivations, Span
from facsynth.understand.names import word_weights
from facsynth.understand.settings import EvidenceSettings
from facsynth.understand.spans import ReadTable, span_at
from facsynth.words import find_words, is_word, split_words

__all__ = ["Evidence", "collect_evidence"]

_PER_BIN = 4
"""Samples looked at for every span wanted, so that equal texts can be left out."""

_LEAST_SAMPLES = 6
"""With fewer samples nothing is kept back."""


@dataclass(frozen=True)
class Evidence:
    """What is known about one feature; no two spans have the same text or sample."""

    feature_id: int
    n_samples: int
    """Samples that show the feature."""

    shown: tuple[Span, ...]
    """Spans to make a name from, strongest first."""

    shown_misses: tuple[Span, ...] = ()
    """Near misses to make a name from; their activation is 0."""

    held_out: tuple[Span, ...] = ()
    """Spans to test a name on; empty when there are too few samples."""

    near_misses: tuple[Span, ...] = ()
    """Near misses to test a name on, the nearest first."""

    random_misses: tuple[Span, ...] = ()
    """Random silent pieces to test a name on."""

    threshold: float | None = None
    """Activation above which a sample shows the feature."""


def collect_evidence(
    table: ReadTable, feature_ids: Iterable[int], *, settings: EvidenceSettings | None = None
) -> dict[int, Evidence]:
    """Collect the evidence for features from a feature table, without running the model.

    Near misses are found by TF-IDF: the words of the feature's spans, above all those at the
    peaks, are compared with the samples in which the feature is silent on every scored token. A
    near sample contributes the piece around its most telling word.

    Args:
        table: A feature table with its samples.
        feature_ids: Features to look at.
        settings: How much to collect.

    Returns:
        Evidence by feature; without any span for a feature that no sample shows.
    """
    settings = settings or EvidenceSettings()
    threshold = own_threshold(table.activations, given=settings.threshold).threshold
    texts = list(table.tokenize(range(len(table.samples))).values())
    by_feature = _by_feature(table.activations)
    index = _WordIndex.of(texts)
    return {
        feature: _evidence(feature, by_feature, texts, index, settings, threshold)
        for feature in sorted(set(feature_ids))
    }


@dataclass(frozen=True)
class _Columns:
    """The entries of a table sorted by feature, the strongest first."""

    starts: Int64[np.ndarray, " n_starts"]
    rows: Int64[np.ndarray, " n_entries"]
    values: Float64[np.ndarray, " n_entries"]
    positions: Int64[np.ndarray, " n_entries"]

    def of(self, feature: int) -> slice:
        return slice(int(self.starts[feature]), int(self.starts[feature + 1]))


def _by_feature(activations: FeatureActivations) -> _Columns:
    ids = activations.feature_ids.astype(np.int64)
    order = np.lexsort((np.arange(ids.size), -activations.values, ids))
    rows = np.repeat(np.arange(activations.n_tokens.size), np.diff(activations.row_starts))
    counts = np.bincount(ids, minlength=activations.n_features)
    return _Columns(
        starts=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        rows=rows[order].astype(np.int64),
        values=activations.values[order].astype(np.float64),
        positions=activations.positions[order].astype(np.int64),
    )


@dataclass(frozen=True)
class _WordIndex:
    """Which scored words occur in which sample, weighted by rarity; rows of unit length."""

    numbers: Mapping[str, int]
    rarity: Float64[np.ndarray, " n_words"]
    matrix: Any
    """CSR matrix, samples by words."""

    @classmethod
    def of(cls, texts: Sequence[TokenizedSample]) -> "_WordIndex":
        numbers: dict[str, int] = {}
        rows, columns = [], []
        for row, text in enumerate(texts):
            words = (word for piece in _scored_pieces(text) for word in split_words(piece))
            for word in dict.fromkeys(words):  # a set has another order in each process
                rows.append(row)
                columns.append(numbers.setdefault(word, len(numbers)))
        shape = (len(texts), max(1, len(numbers)))
        present = sp.csr_array((np.ones(len(rows)), (rows, columns)), shape=shape)
        n_with = np.maximum(np.bincount(np.array(columns, dtype=np.int64), minlength=shape[1]), 1)
        rarity = np.log(len(texts) / n_with) + 1e-3
        weighted = present @ sp.diags_array(rarity)
        norms = np.sqrt(np.asarray(weighted.multiply(weighted).sum(axis=1)).ravel())
        scaled = sp.diags_array(1 / np.maximum(norms, 1e-12)) @ weighted
        return cls(numbers, rarity, sp.csr_array(scaled))

    def query(self, spans: Sequence[Span]) -> dict[str, float]:
        """Words of the spans with their weight times their rarity."""
        weights = word_weights(spans)
        return {
            word: weight * float(self.rarity[self.numbers[word]])
            for word, weight in weights.items()
            if word in self.numbers
        }

    def similarity(self, query: Mapping[str, float]) -> Float64[np.ndarray, " n_samples"]:
        """Similarity of every sample with a query, up to a factor."""
        vector = np.zeros(len(self.rarity))
        for word, weight in query.items():
            vector[self.numbers[word]] = weight
        return np.asarray(self.matrix @ vector, dtype=np.float64)


def _scored_pieces(text: TokenizedSample) -> list[str]:
    """The scored text, in pieces that are not interrupted by template or unscored turns."""
    at = np.flatnonzero(text.scored)
    if not at.size:
        return []
    runs = np.split(at, np.flatnonzero(np.diff(at) > 1) + 1)
    return [text.rendered[text.offsets[run[0]][0] : text.offsets[run[-1]][1]] for run in runs]


def _evidence(
    feature: int,
    columns: _Columns,
    texts: Sequence[TokenizedSample],
    index: _WordIndex,
    settings: EvidenceSettings,
    threshold: float,
) -> Evidence:
    part = columns.of(feature)
    rows, values, positions = (a[part] for a in (columns.rows, columns.values, columns.positions))
    n_active = int(np.count_nonzero(values > threshold))
    rng = np.random.default_rng([settings.random_seed, feature])
    seen: set[str] = set()

    def span(i: int) -> Span | None:
        row, position = int(rows[i]), int(positions[i])
        made = span_at(texts[row], position, float(values[i]), settings.context_tokens)
        return made if _is_new(made, seen) else None

    n_back = min(settings.held_out, n_active // 2) if n_active >= _LEAST_SAMPLES else 0
    held_out = _take(span, _spread(n_active, n_back, rng, skip=settings.spans // 2), n_back)
    taken = {made.sample_id for made in held_out}
    left = [i for i in range(n_active) if texts[int(rows[i])].sample_id not in taken]
    n_top = (settings.spans + 1) // 2
    top = _take(span, left, n_top)
    spread = [left[i] for i in _spread(len(left), settings.spans - len(top), rng, skip=n_top)]
    others = _take(span, spread, settings.spans - len(top))
    shown = tuple(sorted([*top, *others], key=lambda made: -made.activation))
    silent = np.ones(len(texts), dtype=np.bool_)
    silent[rows] = False
    near = _near_misses([*shown, *held_out], texts, index, silent, settings, seen)
    random = _random_misses(texts, silent, settings, rng, seen)
    hidden = tuple(span for i, span in enumerate(near) if i % 3)
    kept_back = (tuple(held_out), hidden, random)
    return Evidence(feature, n_active, shown, near[::3], *kept_back, threshold)


def _is_new(span: Span, seen: set[str]) -> bool:
    """Whether no span of this text was seen, up to case and blanks; remembers it."""
    key = " ".join(span.text.split()).lower()
    if key in seen:
        return False
    seen.add(key)
    return True


def _take(make: Any, numbers: Iterable[int], n: int) -> list[Span]:
    """The first `n` spans that can be made."""
    found: list[Span] = []
    for number in numbers:
        if len(found) == n:
            break
        made = make(number)
        if made is not None:
            found.append(made)
    return found


def _spread(n_active: int, n: int, rng: np.random.Generator, *, skip: int) -> list[int]:
    """Ranks spread over all but the strongest `skip`: one from each of `n` equal parts in turn."""
    skip = min(skip, max(0, n_active - n))
    ranks = np.arange(skip, n_active)
    if n < 1 or not ranks.size:
        return []
    bins = [rng.permutation(part)[:_PER_BIN] for part in np.array_split(ranks, n) if part.size]
    return [int(part[i]) for i in range(_PER_BIN) for part in bins if i < part.size]


def _near_misses(
    spans: Sequence[Span],
    texts: Sequence[TokenizedSample],
    index: _WordIndex,
    silent: Bool[np.ndarray, " n_samples"],
    settings: EvidenceSettings,
    seen: set[str],
) -> tuple[Span, ...]:
    query = index.query(spans)
    likeness = np.where(silent, index.similarity(query), 0.0)
    order = np.argsort(-likeness, kind="stable")[: _PER_BIN * settings.near_misses]

    def make(row: int) -> Span | None:
        position = _telling_position(texts[row], query)
        if likeness[row] <= 0 or position is None:
            return None
        made = span_at(texts[row], position, 0.0, settings.context_tokens)
        return made if _is_new(made, seen) else None

    return tuple(_take(make, map(int, order), settings.near_misses))


def _telling_position(text: TokenizedSample, query: Mapping[str, float]) -> int | None:
    """The scored token of the most telling word, with its neighbours counted half."""
    found = list(find_words(text.rendered))
    if not found:
        return None
    weights = np.array([query.get(word, 0.0) for word, _, _ in found])
    around = np.convolve(weights, np.ones(9))[4 : 4 + len(weights)] - weights
    position = np.searchsorted(text.offsets[:, 1], [start for _, start, _ in found], side="right")
    position = np.minimum(position, len(text.scored) - 1)
    scores = np.where((weights > 0) & text.scored[position], weights + around / 2, 0.0)
    best = int(np.argmax(scores))
    return int(position[best]) if scores[best] > 0 else None


def _random_misses(
    texts: Sequence[TokenizedSample],
    silent: Bool[np.ndarray, " n_samples"],
    settings: EvidenceSettings,
    rng: np.random.Generator,
    seen: set[str],
) -> tuple[Span, ...]:
    rows = rng.permutation(np.flatnonzero(silent))[: _PER_BIN * settings.random_misses]

    def make(row: int) -> Span | None:
        scored = np.flatnonzero(texts[row].scored)
        words = [i for i in scored if is_word(_token(texts[row], int(i)).strip())]
        if not words:
            return None
        position = int(words[int(rng.integers(len(words)))])
        made = span_at(texts[row], position, 0.0, settings.context_tokens)
        return made if _is_new(made, seen) else None

    return tuple(_take(make, map(int, rows), settings.random_misses))


def _token(text: TokenizedSample, position: int) -> str:
    start, end = text.offsets[position]
    return text.rendered[start:end]
