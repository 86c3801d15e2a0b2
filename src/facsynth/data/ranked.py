"""Rows with several answers: chosen and rejected, compared, ranked or scored."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from facsynth.data.fields import RowFields

__all__ = ["Answers", "find_answers"]

_COMPARED = (
    ("output_1", "output_2", "label", ("1",), ("2",)),  # LLMBar
    ("response_0", "response_1", "better_response_id", ("0",), ("1",)),  # PKU-SafeRLHF
    ("human_ref_a", "human_ref_b", "labels", ("1",), ("0",)),  # SHP
    ("response_1", "response_2", "overall_preference", ("-3", "-2", "-1"), ("1", "2", "3")),
    ("conversation_a", "conversation_b", "winner", ("model_a",), ("model_b",)),  # Chatbot Arena
    ("response_a", "response_b", "winner", ("model_a", "a"), ("model_b", "b")),
)
"""Fields of two answers and of the verdict, and verdicts for the first and for the second."""

_SCORED = (("answer_0", "answer_1", "score_0", "score_1"),)  # WebGPT comparisons

_LISTS = ("answers", "completions", "responses", "generations", "outputs", "candidates", "output")
_LIST_TEXTS = ("text", "answer", "response", "content", "completion", "generation", "output")
_SCORES = ("score", "scores", "rating", "ratings", "overall_score", "reward", "rewards")
_RANKS = ("rank", "ranks", "ranking")


@dataclass(frozen=True)
class Answers:
    """The preferred answer of a row, and the least preferred one where one is known."""

    chosen: Any
    rejected: Any | None
    fields: tuple[str, ...]
    """Fields with the answers; those of the preferred one first."""

    verdict: str = ""
    """Field that tells which is better."""

    left_out: Mapping[str, str] = field(default_factory=dict)
    """Fields that hold more answers than were taken, and how to name the rest."""

    @property
    def values(self) -> tuple[Any, Any]:
        """Both answers."""
        return self.chosen, self.rejected


def find_answers(row: RowFields) -> Answers | None:
    """The answers of a row that has several, or None."""
    (chosen, one), (rejected, other) = row.peek("chosen"), row.peek("rejected")
    if _is_said(one) and _is_said(other):
        return Answers(one, other, (chosen, rejected))
    return _compared(row) or _scored(row) or _listed(row)


def _is_said(value: object) -> bool:
    return isinstance(value, str | list | Mapping)


def _compared(row: RowFields) -> Answers | None:
    for one, other, verdict, firsts, seconds in _COMPARED:
        first, second = row.held(one), row.held(other)
        if first is None or second is None or row.held(verdict) is None:
            continue
        told = str(row.held(verdict)).lower()
        if told in firsts or told in seconds:
            better = told in firsts
            values = (first, second) if better else (second, first)
            return Answers(*values, (one, other) if better else (other, one), verdict)
        return Answers(first, None, (one,), "", {other: f"{other} (a tie)"})
    return None


def _scored(row: RowFields) -> Answers | None:
    for one, other, score, rival in _SCORED:
        held = [row.held(name) for name in (one, other, score, rival)]
        if all(value is not None for value in held):
            first, second, a, b = held
            if a == b:
                return Answers(first, None, (one,), "", {other: f"{other} (a tie)"})
            values = (first, second) if a > b else (second, first)
            return Answers(*values, (one, other) if a > b else (other, one))
    return None


def _listed(row: RowFields) -> Answers | None:
    for name in (*_LISTS, "text"):
        held = row.held(name)
        if name == "answers" and isinstance(held, Mapping):  # SQuAD
            held = held.get("text")
        if not isinstance(held, list) or not held:
            continue
        texts = [_text(item) for item in held]
        if not all(isinstance(text, str) for text in texts):
            continue
        scores = _scores(row, held)
        if scores is None and name == "output" and len(texts) == 2:
            scores = [1.0, 0.0]  # LLaMA-Factory's older rows: the better answer comes first
        if scores is None and name == "text":
            continue
        if scores is None or max(scores) == min(scores):
            rest = [text for text in texts if text != texts[0]]
            left_out = {name: f"{name} ({len(rest)} of {len(texts)})"} if rest else {}
            return Answers(texts[0], None, (name,), "", left_out)
        best, worst = (scores.index(pick(scores)) for pick in (max, min))
        n_left = len(texts) - 2
        left_out = {name: f"{name} ({n_left} of {len(texts)})"} if n_left else {}
        return Answers(texts[best], texts[worst], (name,), "", left_out)
    return None


def _text(item: object) -> object:
    if not isinstance(item, Mapping):
        return item
    return next((item[key] for key in _LIST_TEXTS if item.get(key) is not None), None)


def _scores(row: RowFields, items: Sequence[object]) -> list[float] | None:
    """Scores of answers, within them or beside them in a list; a low rank is a high score."""
    for names, sign in ((_SCORES, 1.0), (_RANKS, -1.0)):
        for name in names:
            found = [item.get(name) if isinstance(item, Mapping) else None for item in items]
            beside = row.held(name)
            for values in (found, beside):
                if isinstance(values, list) and len(values) == len(items):
                    try:
                        return [sign * float(value) for value in values]
                    except (TypeError, ValueError):
                        continue
    return None
