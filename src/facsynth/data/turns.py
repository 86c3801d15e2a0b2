"""Turns in other forms than a list of messages: transcripts, trees of replies, columns."""

import re
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = [
    "answered_by_system",
    "is_transcript",
    "main_thread",
    "turns_of_columns",
    "turns_of_text",
]

_SPEAKER = re.compile(
    r"(?:^|\n)\s*(SYSTEM|System|USER|User|Human|ASSISTANT|Assistant|FUNCTION RESPONSE):\s"
)
"""Opens a turn in strings such as those of Glaive's function calls."""

_NO_RANK = 1e9


def is_transcript(text: str) -> bool:
    """Whether a string begins with a speaker."""
    return bool(_SPEAKER.match(text))


def turns_of_text(text: str) -> list[dict[str, Any]]:
    """The turns of a transcript, without the mark at the end of Glaive's answers."""
    _, *pieces = _SPEAKER.split(text)
    said = (words.strip().removesuffix("<|endoftext|>").strip() for words in pieces[1::2])
    return [{"role": who, "content": words} for who, words in zip(pieces[::2], said, strict=True)]


def turns_of_columns(value: Mapping[str, Any]) -> list[dict[str, Any]] | None:
    """Turns that stand in columns, as `datasets` keeps lists of objects; None for anything else.

    >>> turns_of_columns({"role": ["user"], "content": ["Hi"]})
    [{'role': 'user', 'content': 'Hi'}]
    """
    columns = list(value.values())
    is_table = len(columns) > 1 and all(isinstance(one, list) for one in columns)
    if not is_table or len({len(one) for one in columns}) != 1:
        return None
    return [dict(zip(value, row, strict=True)) for row in zip(*columns, strict=True)]


def main_thread(tree: Mapping[str, Any]) -> tuple[list[dict[str, Any]], int]:
    """The turns of a tree of replies, by the best rank at each, and the number of other replies."""
    thread: list[dict[str, Any]] = []
    n_left, turn = 0, tree
    while True:
        thread.append({key: held for key, held in turn.items() if key != "replies"})
        replies = [reply for reply in turn.get("replies") or () if isinstance(reply, Mapping)]
        if not replies:
            return thread, n_left
        n_left += len(replies) - 1
        turn = min(replies, key=_rank)


def _rank(reply: Mapping[str, Any]) -> float:
    rank = reply.get("rank")
    return float(rank) if isinstance(rank, int | float) else _NO_RANK


def answered_by_system(turns: Sequence[Any]) -> list[Any]:
    """Turns in which SYSTEM answers USER, as in dialogues with a machine, as an assistant's."""
    said = [turn.get("speaker") if isinstance(turn, Mapping) else None for turn in turns]
    names = [name.lower() if isinstance(name, str) else "" for name in said]
    if set(names) != {"user", "system"} or names[0] != "user":
        return list(turns)
    roles = {"user": "user", "system": "assistant"}
    return [{**turn, "speaker": roles[name]} for turn, name in zip(turns, names, strict=True)]
