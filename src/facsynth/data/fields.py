"""The fields of a row: which part of a sample each holds, and which answer is the better one."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from facsynth.errors import DataError

__all__ = ["FIELDS", "Answers", "RowFields", "find_answers"]

FIELDS: Mapping[str, tuple[str, ...]] = {
    "id": ("sample_id", "id"),
    "label": ("label",),
    "tools": ("tools", "functions"),
    "reasoning": ("reasoning_content", "reasoning", "thinking"),
    "system": ("system", "system_prompt", "system_message"),
    "history": ("history",),
    "messages": ("messages", "conversations", "conversation", "dialogue", "dialog", "chat", "data"),
    "instruction": ("instruction",),
    "user": ("prompt", "question", "query", "problem", "user_prompt", "user", "human", "inputs"),
    "input": ("input", "context"),
    "chosen": ("chosen", "preferred_output", "chosen_response", "response_chosen"),
    "rejected": ("rejected", "non_preferred_output", "rejected_response", "response_rejected"),
    "assistant": (
        *("completion", "response", "output", "answer", "generation", "solution", "target"),
        *("targets", "reply", "assistant", "generated_solution", "chosen", "answers"),
    ),
    "text": ("text", "content", "raw_content", "document"),
}
"""Fields that hold each part of a sample, the preferred one first; compared in lower case."""

_CONTENT = ("history", "messages", "instruction", "user", "input", "chosen", "rejected")


_FIRST, _SECOND = ("-3", "-2", "-1"), ("1", "2", "3")
_COMPARED = (
    ("output_1", "output_2", "label", ("1",), ("2",)),  # LLMBar
    ("response_0", "response_1", "better_response_id", ("0",), ("1",)),  # PKU-SafeRLHF
    ("human_ref_a", "human_ref_b", "labels", ("1",), ("0",)),  # SHP
    ("response_1", "response_2", "overall_preference", _FIRST, _SECOND),  # HelpSteer3
    ("response_1", "response_2", "preference_strength", _FIRST, _SECOND),  # HelpSteer2
    ("conversation_a", "conversation_b", "winner", ("model_a",), ("model_b",)),  # Chatbot Arena
    ("response_a", "response_b", "winner", ("model_a", "a"), ("model_b", "b")),
)
"""Fields of two answers and of the verdict, and verdicts for the first and for the second."""

_SCORED = (("answer_0", "answer_1", "score_0", "score_1"),)  # WebGPT comparisons

_LISTS = ("answers", "completions", "responses", "generations", "outputs", "candidates", "output")
_LIST_TEXTS = ("text", "answer", "response", "content", "completion", "generation", "output")
_SCORES = ("score", "scores", "rating", "ratings", "overall_score", "reward", "rewards")
_RANKS = ("rank", "ranks", "ranking")


class RowFields:
    """A row whose fields are taken one after the other."""

    def __init__(self, fields: Mapping[str, Any], named: Mapping[str, str]) -> None:
        self.parts = _vocabulary(named) if named else FIELDS
        self.is_named = bool(named)
        self.fields = fields
        self.spelling = _spelling(tuple(fields))
        self.taken: set[str] = set()
        if (wanted := named.get("label")) and wanted not in fields:
            raise DataError(f"no label field `{wanted}`; found {self.found()}")

    def held(self, name: str) -> Any:
        """The value of a field by its name in lower case, or None; NaN is None."""
        spelled = self.spelling.get(name)
        value = None if spelled is None else self.fields[spelled]
        return None if isinstance(value, float) and math.isnan(value) else value

    def take(self, part: str) -> tuple[str, Any]:
        """Name and value of the first field of a part that is not null; ("", None) for none."""
        found = self.peek(part)
        self.mark(found[0])
        return found

    def peek(self, part: str) -> tuple[str, Any]:
        """As `take`, and the field still is unread."""
        for name in self.parts[part]:
            if (value := self.held(name)) is not None:
                return name, value
        return "", None

    def mark(self, *names: str) -> None:
        """Count fields as read."""
        self.taken.update(self.spelling[name] for name in names if name)

    def found(self) -> str:
        """The fields of the row, for an error."""
        names = (f"`{name}`" + (" (empty)" if held is None else "") for name, held in self.each())
        return ", ".join(names) or "no field at all"

    def each(self) -> Iterator[tuple[str, Any]]:
        """Names and values as the row has them."""
        return iter(self.fields.items())


def _vocabulary(named: Mapping[str, str]) -> Mapping[str, tuple[str, ...]]:
    """Fields of each part; where the user names fields of content, no other content is read."""
    parts = dict(FIELDS)
    if set(named) - {"label", "id", "tools"}:
        parts |= dict.fromkeys((*_CONTENT, "assistant", "text", "system", "reasoning"), ())
    return parts | {part: (name,) for part, name in named.items()}


@lru_cache(maxsize=1024)
def _spelling(names: tuple[object, ...]) -> Mapping[str, Any]:
    """How the row spells a field, by its name in lower case with `_` for spaces."""
    named = {str(name).strip().lower().replace(" ", "_"): name for name in reversed(names)}
    return named | {str(name): name for name in names}


# Several answers


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
