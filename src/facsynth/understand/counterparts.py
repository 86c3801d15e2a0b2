"""Features of two SAEs side by side: their names, an example each, and whether they peak together.

Two models split text into different tokens, so peaks are compared as words: in the samples in
which both features are active, how often do both peak on the same word?
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from facsynth.models.tokens import TokenizedSample
from facsynth.understand.names import count_terms, name_feature, peak_word
from facsynth.understand.spans import ReadTable, collect_spans, mark_peak, span_at

__all__ = ["Counterparts", "describe_counterparts"]

_PEAKS = 20
"""Samples of a pair whose peaks are compared: those that activate the first feature most."""

_CONTEXT_TOKENS = 16


@dataclass(frozen=True)
class Counterparts:
    """Two features that match, in words."""

    names: tuple[str, str]
    examples: tuple[str | None, str | None]
    """The strongest span of each as one line, its peak between angle quotes."""

    n_both: int
    """Samples in which both are active."""

    same_word: float | None
    """Share of up to 20 of them in which both peak on the same word; None without any."""


def describe_counterparts(
    a: ReadTable, b: ReadTable, pairs: Sequence[tuple[int, int]]
) -> list[Counterparts]:
    """Describe pairs of features of two tables, which hold the same samples in one order."""
    words = count_terms(a.samples)
    sides = [
        collect_spans(side, [pair[i] for pair in pairs], context_tokens=_CONTEXT_TOKENS)
        for i, side in enumerate((a, b))
    ]
    places = [_places(side, {pair[i] for pair in pairs}) for i, side in enumerate((a, b))]
    common = [_common(places[0][one], places[1][other]) for one, other in pairs]
    rows = sorted({row for found in common for row in found[:_PEAKS]})
    texts = [side.tokenize(rows) for side in (a, b)]
    described = []
    for pair, found in zip(pairs, common, strict=True):
        spans = [side[feature] for side, feature in zip(sides, pair, strict=True)]
        same = [
            len({_word(texts[i][row], places[i][pair[i]][row][0]) for i in (0, 1)}) == 1
            for row in found[:_PEAKS]
        ]
        names = [name_feature(one, words) for one in spans]
        examples = [mark_peak(one[0]) if one else None for one in spans]
        described.append(
            Counterparts(
                (names[0], names[1]),
                (examples[0], examples[1]),
                len(found),
                float(np.mean(same)) if same else None,
            )
        )
    return described


def _places(side: ReadTable, wanted: set[int]) -> dict[int, dict[int, tuple[int, float]]]:
    """By feature and row: position of the peak and activation."""
    table = side.activations
    found: dict[int, dict[int, tuple[int, float]]] = {feature: {} for feature in wanted}
    entries = np.flatnonzero(np.isin(table.feature_ids, np.array(sorted(wanted), dtype=np.uint32)))
    rows = np.searchsorted(table.row_starts, entries, side="right") - 1
    for entry, row in zip(entries.tolist(), rows.tolist(), strict=True):
        place = (int(table.positions[entry]), float(table.values[entry]))
        found[int(table.feature_ids[entry])][row] = place
    return found


def _common(one: dict[int, tuple[int, float]], other: dict[int, tuple[int, float]]) -> list[int]:
    """Rows in which both are active, those with the strongest first feature first."""
    return sorted(one.keys() & other.keys(), key=lambda row: (-one[row][1], row))


def _word(text: TokenizedSample, position: int) -> str:
    return peak_word(span_at(text, position, 0.0, _CONTEXT_TOKENS))
