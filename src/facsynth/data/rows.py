"""One row of a data set becomes a sample.

A row is recognised by its fields: `_SHAPES` lists what is looked for, first match wins, and
fields that are null count as absent. Texts are never changed.
"""

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from facsynth.errors import DataError
from facsynth.records import Message, Sample

__all__ = ["PlacedRow", "kind_of", "row_sample"]

Row = Mapping[str, object]

_KINDS: dict[type, str] = {
    type(None): "null",
    bool: "true or false",
    int: "a number",
    float: "a number",
    str: "a string",
    list: "a list",
    dict: "an object",
}


class PlacedRow(NamedTuple):
    """What stands at one place of a data set."""

    place: str
    """Where a user finds the row, such as `a.jsonl, line 7`."""
    fallback_id: str
    """Id of the sample when the row brings none."""
    value: object


class _Content(NamedTuple):
    messages: tuple[Message, ...] = ()
    text: str | None = None
    rejected: tuple[Message, ...] = ()


def row_sample(
    row: PlacedRow, *, text_field: str | None = None, label_field: str | None = None
) -> Sample:
    """The sample that a row holds.

    Args:
        row: What stands in the data set.
        text_field: Take this one field as plain text, whatever else the row holds.
        label_field: Field of the label; by default `label`, where a row has one.

    Raises:
        DataError: The row has no known fields, or they do not hold what they should.
    """
    fields = row.value
    try:
        if not isinstance(fields, Mapping):
            raise DataError(f"{kind_of(fields)} where an object with fields was expected")
        if label_field is not None and label_field not in fields:
            raise DataError(f"no label field `{label_field}`; found {_found(fields)}")
        content = _content(fields) if text_field is None else _plain_text(fields, text_field)
        sample_id = _first(fields, "sample_id", "id")
        return Sample(
            sample_id=row.fallback_id if sample_id is None else sample_id,
            label=_first(fields, label_field or "label"),
            **content._asdict(),
        )
    except DataError as error:
        raise DataError(f"{row.place}: {error}") from error


def _content(row: Row) -> _Content:
    for names, build in _SHAPES:
        if all(row.get(name) is not None for name in names):
            return build(row)
    wanted = ", ".join(" + ".join(f"`{name}`" for name in names) for names, _ in _SHAPES)
    raise DataError(f"no known fields; looked for {wanted}; found {_found(row)}; rename them")


def _plain_text(row: Row, name: str) -> _Content:
    if row.get(name) is None:
        raise DataError(f"no field `{name}`; found {_found(row)}; name one of these")
    return _Content(text=_string(row[name], f"`{name}`"))


def _first(row: Row, *names: str) -> str | None:
    """The first of the fields that is not null, as a string."""
    values = (row.get(name) for name in names)
    return next((_string(str(value), names[0]) for value in values if value is not None), None)


def _found(row: Row) -> str:
    names = (f"`{name}`" + (" (empty)" if row[name] is None else "") for name in row)
    return ", ".join(names) or "no field at all"


# The shapes of rows


def _preference(row: Row) -> _Content:
    chosen, rejected = (_exchange(row, "prompt", name) for name in ("chosen", "rejected"))
    return _Content(messages=chosen, rejected=rejected)


def _alpaca(row: Row, answer: str | None = None) -> tuple[Message, ...]:
    """The instruction, with its input below it, and the answer unless it is empty."""
    names = (name for name in ("instruction", "input") if row.get(name))
    asked = Message("user", "\n\n".join(_string(row[name], f"`{name}`") for name in names))
    told = _string(row[answer], f"`{answer}`") if answer else ""
    return (asked, Message("assistant", told)) if told else (asked,)


_SHAPES: tuple[tuple[tuple[str, ...], Callable[[Row], _Content]], ...] = (
    (("messages",), lambda row: _Content(_listed(row["messages"], "`messages`"))),
    (("conversations",), lambda row: _Content(_listed(row["conversations"], "`conversations`"))),
    (("chosen", "rejected"), _preference),
    (("prompt", "completion"), lambda row: _Content(_exchange(row, "prompt", "completion"))),
    (("prompt", "response"), lambda row: _Content(_exchange(row, "prompt", "response"))),
    (("instruction", "output"), lambda row: _Content(_alpaca(row, "output"))),
    (("instruction", "response"), lambda row: _Content(_alpaca(row, "response"))),
    (("question", "answer"), lambda row: _Content(_exchange(row, "question", "answer"))),
    (("prompt",), lambda row: _Content(_exchange(row, "prompt"))),
    (("instruction",), lambda row: _Content(_alpaca(row))),
    (("text",), lambda row: _plain_text(row, "text")),
)
"""Fields that a row must have, and what it is then read as; the first match wins."""


# Messages

_ROLE_KEYS = {"role": "content", "from": "value"}
"""Field with the speaker, and the field beside it with the words."""

_ROLES = {"human": "user", "gpt": "assistant", "Human": "user", "Assistant": "assistant"}
"""Speakers of ShareGPT and HH-RLHF; other names stay as they are."""

_HH_TURN = re.compile(r"\n\n(Human|Assistant): ?")
"""Opens a turn in the strings of HH-RLHF; the text before the first turn is empty."""


def _exchange(row: Row, prompt_name: str, answer_name: str | None = None) -> tuple[Message, ...]:
    """Join a prompt, if the row has one, and an answer, which may repeat the prompt."""
    prompt = row.get(prompt_name)
    answer = row[answer_name] if answer_name else None
    if isinstance(prompt, str) and isinstance(answer, str) and _HH_TURN.match(prompt):
        whole = answer if answer.startswith(prompt) else prompt + answer
        return _turns(whole, f"`{answer_name}`", "assistant")
    asked = () if prompt is None else _turns(prompt, f"`{prompt_name}`", "user")
    told = () if answer is None else _turns(answer, f"`{answer_name}`", "assistant")
    repeats = bool(told) and told[0].role != "assistant" and set(asked) <= set(told)
    return told if repeats else asked + told


def _turns(value: object, what: str, role: str) -> tuple[Message, ...]:
    """Messages of a list, of an HH-RLHF string, or the one message that a string is."""
    if not isinstance(value, str):
        return _listed(value, what)
    pieces = _HH_TURN.split(_string(value, what))
    if len(pieces) == 1 or pieces[0]:
        return (Message(role, value),)
    turns = zip(pieces[1::2], pieces[2::2], strict=True)
    return tuple(Message(_ROLES[speaker], words) for speaker, words in turns)


def _listed(value: object, what: str) -> tuple[Message, ...]:
    if not isinstance(value, list) or not value:
        kind = "an empty conversation" if value == [] else kind_of(value)
        raise DataError(f"{what} is {kind} where a list of messages was expected")
    return tuple(_message(turn, f"message {n} of {what}") for n, turn in enumerate(value, 1))


def _message(turn: object, what: str) -> Message:
    if not isinstance(turn, Mapping):
        raise DataError(f"{what} is {kind_of(turn)} where role and content were expected")
    for speaker, words in _ROLE_KEYS.items():
        if turn.get(speaker) is not None and words in turn:
            role = _string(turn[speaker], f"`{speaker}` of {what}")
            role = _ROLES.get(role, role) if speaker == "from" else role
            return Message(role, _spoken(turn[words], f"`{words}` of {what}"))
    wanted = " or ".join(f"`{speaker}` + `{words}`" for speaker, words in _ROLE_KEYS.items())
    raise DataError(f"{what} lacks {wanted}; found {_found(turn)}")


def _spoken(content: object, what: str) -> str:
    """The content itself, or the joined texts of a list of OpenAI content parts."""
    if not isinstance(content, list):
        return _string(content, what)
    for part in content:
        if not isinstance(part, Mapping) or part.get("type") != "text":
            raise DataError(f"{what} has a part that is not text; only text can be measured")
    return "".join(_string(part.get("text"), f"a part of {what}") for part in content)


def _string(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise DataError(f"{what} is {kind_of(value)} where a string was expected")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{what} holds half of a character ({error.reason}); repair it") from error
    return value


def kind_of(value: object) -> str:
    """What a JSON value is, in words for an error."""
    return _KINDS.get(type(value), f"a {type(value).__name__}")
