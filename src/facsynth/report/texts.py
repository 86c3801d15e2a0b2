"""The texts of a page, each piece of a sample once, with its tokens.

Spans overlap and come from samples that may be listed, too. So the token ranges that anything on
the page wants are collected first, joined where they touch, and cut out once.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np

from facsynth.models.tokens import TokenizedSample
from facsynth.records import Sample
from facsynth.report.data import Part, ShownText

__all__ = ["RowKey", "Texts", "digits"]

MAX_TOKENS = 1_500
"""Tokens shown of one listed sample."""

MAX_CHARACTERS = 6_000
"""Characters shown of a turn that was not scored."""


class RowKey(NamedTuple):
    """A row of one of the tables."""

    kind: str
    row: int


class _Piece(NamedTuple):
    first: int
    """First token, counted in the sample."""

    end: int
    place: int
    """Place among the shown texts."""


@dataclass
class Texts:
    """Collects ranges with `want`, cuts them out with `cut`, and finds them again."""

    read: Mapping[RowKey, TokenizedSample]
    shown: list[ShownText] = field(default_factory=list)
    _wanted: dict[RowKey, list[tuple[int, int]]] = field(
        default_factory=lambda: defaultdict(list[tuple[int, int]])
    )
    _pieces: dict[RowKey, list[_Piece]] = field(default_factory=dict)

    def want(self, key: RowKey, first: int, end: int) -> None:
        """Ask for the tokens `first:end` of a row, which are all scored."""
        self._wanted[key].append((first, end))

    def want_all(self, key: RowKey) -> None:
        """Ask for every scored token of a row, up to `MAX_TOKENS`."""
        for first, end in scored_runs(self.read[key])[:MAX_TOKENS]:
            self._wanted[key].append((first, min(end, max(first + 1, MAX_TOKENS))))

    def cut(self) -> None:
        """Make the shown texts from what was asked for."""
        for key, ranges in self._wanted.items():
            text = self.read[key]
            self._pieces[key] = [
                _Piece(first, end, self._add(_tokens(text, first, end)))
                for first, end in _joined(ranges, text)
            ]

    def plain(self, text: str, lengths: Sequence[int] = ()) -> int:
        """Place of a text that is not of a table."""
        return self._add(ShownText(text, tuple(lengths)))

    def pieces(self, key: RowKey) -> list[_Piece]:
        """What was cut out of a row."""
        return self._pieces.get(key, [])

    def find(self, key: RowKey, token: int) -> tuple[int, int] | None:
        """Place of the text that holds a token of a row, and the token's number in it."""
        for piece in self.pieces(key):
            if piece.first <= token < piece.end:
                return piece.place, token - piece.first
        return None

    def parts(self, sample: Sample, key: RowKey | None) -> tuple[Part, ...]:
        """The turns of a listed sample; scored words are the pieces of its row."""
        turns = [(m.role, _said(m.content, m.reasoning, m.tool_calls)) for m in sample.messages]
        if sample.text is not None:
            turns = [("text", sample.text)]
        if sample.rejected:
            turns.append(("rejected answer", sample.rejected[-1].content))
        pieces = [piece.place for piece in self.pieces(key)] if key else []
        return tuple(Part(role, tuple(self._turn(content, pieces))) for role, content in turns)

    def _turn(self, content: str, pieces: list[int]) -> list[int]:
        """Texts of one turn; takes the pieces that it holds from the front of the list."""
        texts, left = [], content
        while pieces:
            words = self.shown[pieces[0]].text.strip()
            at = left.find(words)
            if at < 0 or not words:
                break
            if left[:at].strip():
                texts.append(self._short(left[:at]))
            texts.append(pieces.pop(0))
            left = left[at + len(words) :]
        if left.strip() or not texts:
            texts.append(self._short(left))
        return texts

    def _short(self, text: str) -> int:
        n_more = len(text) - MAX_CHARACTERS
        more = f" […{n_more:,} more characters]" if n_more > 0 else ""
        return self.plain(text[:MAX_CHARACTERS] + more)

    def _add(self, text: ShownText) -> int:
        self.shown.append(text)
        return len(self.shown) - 1


def scored_runs(text: TokenizedSample) -> list[tuple[int, int]]:
    """Ranges of scored tokens that no template or unscored turn interrupts."""
    at = np.flatnonzero(text.scored)
    if not at.size:
        return []
    runs = np.split(at, np.flatnonzero(np.diff(at) > 1) + 1)
    return [(int(run[0]), int(run[-1]) + 1) for run in runs]


def digits(values: np.ndarray, most: float) -> str:
    """Activations as digits: 0 for none, 9 for the feature's largest."""
    if most <= 0:
        return ""
    levels = np.where(values > 0, np.clip(np.ceil(9 * values / most), 1, 9), 0)
    return "".join(map(str, levels.astype(int).tolist()))


def _joined(ranges: Sequence[tuple[int, int]], text: TokenizedSample) -> list[tuple[int, int]]:
    """Ranges joined where they touch; a gap in the scored tokens parts them."""
    wanted = np.zeros(len(text.scored) + 1, dtype=bool)
    for first, end in ranges:
        wanted[first:end] = True
    wanted[:-1] &= text.scored
    edges = np.flatnonzero(np.diff(np.concatenate([[False], wanted])))
    return [(int(a), int(b)) for a, b in edges.reshape(-1, 2)]


def _tokens(text: TokenizedSample, first: int, end: int) -> ShownText:
    """The tokens of a range as one text; white space between two belongs to the one before."""
    starts = np.maximum.accumulate(text.offsets[first:end, 0])
    stop = int(text.offsets[first:end, 1].max())
    cuts = [*starts.tolist(), max(stop, int(starts[-1]))]
    pieces = [text.rendered[a:b] for a, b in zip(cuts, cuts[1:], strict=False)]
    return ShownText("".join(pieces), tuple(map(_units, pieces)))


def _units(piece: str) -> int:
    """Length as JavaScript counts it: two units for a character beyond the basic plane."""
    return len(piece) + sum(character > "\uffff" for character in piece)


def _said(content: str, reasoning: str | None, calls: Sequence[object]) -> str:
    """All words of a turn, in the order in which templates write them."""
    named = [f"{call.name}({call.arguments})" for call in calls]  # type: ignore[attr-defined]
    return "\n".join(filter(None, [reasoning, content, *named]))
