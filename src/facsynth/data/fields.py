"""The fields of a row: which part of a sample each holds, and which answer is the better one."""

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from facsynth.errors import DataError

__all__ = ["FIELDS", "Answers", "RowFields", "find_answers", "is_choice", "open_path"]

FIELDS: Mapping[str, tuple[str, ...]] = {
    "id": ("sample_id", "id"),
    "label": ("label", "kto_tag"),
    "tools": ("tools", "functions"),
    "reasoning": ("reasoning_content", "reasoning", "thinking"),
    "system": (
        *("system", "system_prompt", "system_message", "system_instruction", "instructions"),
    ),
    "history": ("history", "chat_history"),
    "messages": (
        *("messages", "conversations", "conversation", "dialogue", "dialog", "chat", "data"),
        *("turns", "contents", "trajectory"),
    ),
    "instruction": ("instruction",),
    "user": (
        *("prompt", "question", "query", "problem", "user_prompt", "user_message", "user", "human"),
        *("inputs_pretokenized", "inputs", "user_input", "input_text", "text_input"),
    ),
    "input": ("input", "context", "passage"),
    "chosen": ("chosen", "preferred_output", "chosen_response", "response_chosen", "response_j"),
    "rejected": (
        *("rejected", "non_preferred_output", "rejected_response", "response_rejected"),
        *("response_k", "rejected_messages"),
    ),
    "assistant": (
        *("completion", "response", "output", "solution", "generated_solution", "answer"),
        *("generation", "targets_pretokenized", "target", "targets", "reply", "assistant"),
        *("chosen", "answers", "model_output", "output_text", "actual_output", "expected_output"),
        *("best_answer", "correct_answer", "ideal", "model_response", "assistant_response"),
        "assistant_message",
    ),
    "text": ("text", "content", "raw_content", "document", "comment_text", "sentence"),
}
"""Fields that hold each part of a sample, the preferred one first; compared in lower case."""

_CONTENT = ("history", "messages", "instruction", "user", "input", "chosen", "rejected")
_KNOWN = {name for part in (*_CONTENT, "assistant", "text") for name in FIELDS[part]}
_WORDS = {"role", "from", "content", "value"}
"""Keys of messages, whose objects are no envelopes."""


_FIRST, _SECOND = ("-3", "-2", "-1"), ("1", "2", "3")
_COMPARED = (
    ("output_1", "output_2", "label", ("1",), ("2",)),  # LLMBar
    ("response_0", "response_1", "better_response_id", ("0",), ("1",)),  # PKU-SafeRLHF
    ("human_ref_a", "human_ref_b", "labels", ("1",), ("0",)),  # SHP
    ("response1", "response2", "overall_preference", _FIRST, _SECOND),  # HelpSteer3
    ("response_1", "response_2", "overall_preference", _FIRST, _SECOND),
    ("response_1", "response_2", "preference_strength", _FIRST, _SECOND),  # HelpSteer2
    ("conversation_a", "conversation_b", "winner", ("model_a",), ("model_b",)),  # Chatbot Arena
    ("conversation_a", "conversation_b", "winner_model_a", ("1", "true"), ("0", "false")),  # LMSYS
    *(
        (
            f"{answer}_a",
            f"{answer}_b",
            verdict,
            ("model_a", "response_a", "a"),
            ("model_b", "response_b", "b"),
        )
        for answer in ("response", "completion", "answer")
        for verdict in ("winner", "preference", "preferred", "choice")
    ),
)
"""Fields of two answers and of the verdict, and verdicts for the first and for the second."""

_SCORED = (("answer_0", "answer_1", "score_0", "score_1"),)  # WebGPT comparisons

_LISTS = (
    *("answers", "completions", "responses", "generations", "outputs", "candidates", "output"),
    *("responses_and_scores", "all_generated_responses"),
)
_LIST_TEXTS = ("text", "answer", "response", "content", "completion", "generation", "output")
_SCORES = (
    *("score", "scores", "rating", "ratings", "overall_score", "reward", "rewards", "pm_score"),
    "all_rm_scores",
)
_RANKS = ("rank", "ranks", "ranking")


_ENVELOPES = (
    *("body", "request", "response", "request_body", "response_body", "fields", "data", "doc"),
    *("inputs", "outputs"),
)
"""Fields that may hold the row: those of request logs, OpenAI's batches, LangSmith, Argilla."""


def open_path(fields: Mapping[str, Any], names: Iterable[str]) -> Mapping[str, Any]:
    """The fields, with those within objects and lists that names with dots lead to.

    >>> open_path({"a": {"b": 1, "c": 2}}, ["a.b"])
    {'a.b': 1, 'a.c': 2}
    """
    for name in names:
        steps = name.split(".")
        for n in range(1, len(steps)) if name not in fields else ():
            outer = ".".join(steps[:n])
            held = fields.get(outer)
            if isinstance(held, list):
                held = {str(i): item for i, item in enumerate(held)}
            if isinstance(held, Mapping):
                inner = {f"{outer}.{key}": value for key, value in held.items()}
                fields = {key: value for key, value in fields.items() if key != outer} | inner
    return fields


def _opened(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """The fields, with those of the envelopes among them."""
    for name in _ENVELOPES:
        held = fields.get(name)
        if not isinstance(held, Mapping):
            continue
        if isinstance(choices := held.get("choices"), list) and choices:  # of a completion
            held = {
                "output": choices[0].get("message") if isinstance(choices[0], Mapping) else None
            }
        known = _KNOWN & _spelling(tuple(held)).keys()
        if known and not known & fields.keys() and not _WORDS & held.keys():
            outer = {key: value for key, value in fields.items() if key != name}
            fields = _opened({**held, **outer})
    return fields


def _arena(fields: Mapping[str, Any]) -> Mapping[str, Any]:
    """LMSYS' 55k battles, whose prompts and responses are JSON lists, as two conversations."""
    names = ("prompt", "response_a", "response_b")
    if "winner_model_a" not in fields:
        return fields
    try:
        asked, *told = (json.loads(fields[name]) for name in names)
        pairs = [
            [
                {"prompt": question, "response": answer}
                for question, answer in zip(asked, one, strict=True)
            ]
            for one in told
        ]
    except (KeyError, TypeError, ValueError):
        return fields
    rest = {name: held for name, held in fields.items() if name not in names}
    return {"conversation_a": pairs[0], "conversation_b": pairs[1], **rest}


class RowFields:
    """A row whose fields are taken one after the other."""

    def __init__(self, fields: Mapping[str, Any], named: Mapping[str, str]) -> None:
        self.parts = _vocabulary(named) if named else FIELDS
        self.is_named = bool(named)
        fields = open_path(fields, named.values()) if named else _arena(_opened(fields))
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
        empty: tuple[object, ...] = (None, "", [], {})
        names = (f"`{name}`" + " (empty)" * (held in empty) for name, held in self.each())
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


_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z][a-z])")


@lru_cache(maxsize=1024)
def _spelling(names: tuple[object, ...]) -> Mapping[str, Any]:
    """How the row spells a field, by its name in lower case with `_` for spaces and humps."""
    snake = (_HUMP.sub("_", str(name).strip()).lower().replace(" ", "_") for name in names)
    named = dict(reversed(list(zip(snake, names, strict=True))))
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
    if one is None:
        chosen, one = row.peek("assistant")
    if _is_said(one) and _is_said(other):
        left_out = {}
        for name, held in ((chosen, one), (rejected, other)):
            if is_choice(held):
                left_out[name] = f"{name} ({len(held) - 1} of {len(held)})"
        first, second = (held[0] if is_choice(held) else held for held in (one, other))
        return Answers(first, second, (chosen, rejected), "", left_out)
    return _compared(row) or _scored(row) or _steps(row) or _listed(row)


def _is_turns(held: object) -> bool:
    """Whether an answer is a list of turns."""
    return isinstance(held, list) and bool(held) and isinstance(held[0], Mapping)


def is_choice(held: object) -> bool:
    """Whether a field holds several answers, as in RewardBench 2."""
    return isinstance(held, list) and len(held) > 1 and all(isinstance(x, str) for x in held)


def _is_said(value: object) -> bool:
    return isinstance(value, str | list | Mapping)


def _compared(row: RowFields) -> Answers | None:
    for one, other, verdict, firsts, seconds in _COMPARED:
        first, second = row.held(one), row.held(other)
        if first is None or second is None or row.held(verdict) is None:
            continue
        told = "tie" if _told(row.held("winner_tie")) in ("1", "true") else _told(row.held(verdict))
        if told in firsts or told in seconds:
            better = told in firsts
            values = (first, second) if better else (second, first)
            return Answers(*values, (one, other) if better else (other, one), verdict)
        return Answers(first, None, (one,), "", {other: f"{other} (a tie)"})
    return None


def _told(verdict: object) -> str:
    """A verdict in words; numbers of tables are often floating."""
    whole = isinstance(verdict, float) and verdict.is_integer()
    return str(int(verdict) if whole and isinstance(verdict, float) else verdict).strip().lower()


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


def _steps(row: RowFields) -> Answers | None:
    """The steps of one answer, each with a label, as TRL takes them for process rewards."""
    steps, labels = row.held("completions"), row.held("labels")
    if not (isinstance(steps, list) and isinstance(labels, list) and len(steps) == len(labels)):
        return None
    if not steps or not all(isinstance(step, str) for step in steps):
        return None
    return Answers("\n".join(steps), None, ("completions",), "labels")


def _listed(row: RowFields) -> Answers | None:
    for name in (*_LISTS, "text"):
        held = row.held(name)
        if name == "answers" and isinstance(held, Mapping):  # SQuAD
            held = held.get("text")
        if not isinstance(held, list) or not held:
            continue
        texts = [_text(item) for item in held]
        if not all(isinstance(text, str) or _is_turns(text) for text in texts):
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
