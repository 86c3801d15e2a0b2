"""The fields of a row, by the part of a sample that they hold."""

import math
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any

from facsynth.errors import DataError

__all__ = ["FIELDS", "RowFields"]

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
        *("targets", "reply", "assistant", "chosen", "answers"),
    ),
    "text": ("text", "content", "raw_content", "document"),
}
"""Fields that hold each part of a sample, the preferred one first; compared in lower case."""

_CONTENT = ("history", "messages", "instruction", "user", "input", "chosen", "rejected")


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
