"""Messages in the forms of public data sets: OpenAI, ShareGPT, HH-RLHF, Anthropic, exchanges."""

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from facsynth.data.turns import (
    answered_by_system,
    is_transcript,
    turns_of_columns,
    turns_of_text,
)
from facsynth.errors import DataError
from facsynth.records import Message, ToolCall

__all__ = ["is_turn", "kind_of", "read_string", "read_tools", "read_turns"]

_CALL = "function_call"
_SPEAKERS = {
    "system": "system developer system_prompt",
    "user": "user human prompter usr customer instruction input",
    "assistant": (
        "assistant gpt chatgpt model bot ai chatbot bing bard claude gemini llm gpt4 gpt_4 "
        "gpt_3.5 output agent"
    ),
    "tool": "tool observation function function_response tool_response tool_result ipython",
    _CALL: "function_call tool_call tool_calls",
}
_ROLES = {name: role for role, names in _SPEAKERS.items() for name in names.split()}
"""Role of each speaker, by its name in lower case with `_` for `-` and spaces."""

_SPEAKER_KEYS = ("role", "from", "speaker", "sender")
_WORD_KEYS = ("content", "value", "text", "full_text", "message", "utterance", "parts")
_EXCHANGES = (
    ("input", "output"),
    ("human", "assistant"),
    ("human", "gpt"),
    ("user", "assistant"),
    ("prompt", "response"),
    ("question", "answer"),
)
"""Keys of two turns in one object, as in LDJnr/Capybara."""

_HH_TURN = re.compile(r"\n\n(Human|Assistant): ?")
"""Opens a turn in the strings of HH-RLHF; the text before the first turn is empty."""

_KINDS: dict[type, str] = {
    type(None): "null",
    bool: "true or false",
    int: "a number",
    float: "a number",
    str: "a string",
    list: "a list",
    dict: "an object",
}


def kind_of(value: object) -> str:
    """What a JSON value is, in words for an error."""
    return _KINDS.get(type(value), f"a {type(value).__name__}")


def read_string(value: object, what: str) -> str:
    """The value, which must be a string that UTF-8 can hold.

    Raises:
        DataError: It is something else; the message begins with `what`.
    """
    if not isinstance(value, str):
        raise DataError(f"{what} is {kind_of(value)} where a string was expected")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{what} has an unpaired surrogate; repair its encoding") from error
    return value


def is_turn(value: object) -> bool:
    """Whether a value looks like a message: it names a speaker, or holds an exchange."""
    return isinstance(value, Mapping) and (
        not value.keys().isdisjoint(_SPEAKER_KEYS)
        or any(value.keys() >= set(exchange) for exchange in _EXCHANGES)
    )


def read_turns(value: object, what: str, role: str | None = None) -> tuple[Message, ...]:
    """Messages of a list, an object, an HH-RLHF string, or the one message that a string is.

    Args:
        value: What the field holds.
        what: The field, for errors.
        role: Who speaks where the value does not say; without it strings in a list alternate
            between user and assistant, and a string must be JSON.

    Raises:
        DataError: There is no message, or one of them cannot be read; unknown roles are listed.
    """
    if isinstance(value, str):
        if role is not None:
            return _spoken_turns(read_string(value, what), role)
        is_said = is_transcript(value)
        value = turns_of_text(read_string(value, what)) if is_said else _parsed(value, what)
    if isinstance(value, Mapping):
        value = value.get("messages") or turns_of_columns(value) or [dict(value)]
    if not isinstance(value, list) or not value:
        kind = "an empty conversation" if value == [] else kind_of(value)
        raise DataError(f"{what} is {kind} where a list of messages was expected")
    if unknown := _unknown_roles(value):
        raise DataError(
            f"{what} has the unknown roles {', '.join(unknown)}; known are {', '.join(_ROLES)}"
        )
    if all(isinstance(turn, str) for turn in value) and (role != "assistant" or len(value) == 1):
        turns = [{"role": role or ("user", "assistant")[n % 2]} for n in range(len(value))]
        value = [{**turn, "content": words} for turn, words in zip(turns, value, strict=True)]
    return tuple(
        message
        for number, turn in enumerate(answered_by_system(value), 1)
        for message in _messages(turn, f"message {number} of {what}", role)
    )


def read_tools(value: object) -> tuple[str, ...]:
    """Tools in OpenAI's form as JSON texts, from a list, an object or the JSON text of these.

    Raises:
        DataError: The value is none of these.
    """
    if isinstance(value, str):
        value = _parsed(value, "`tools`") if value.strip() else []
    tools = [value] if isinstance(value, Mapping) else value
    if not isinstance(tools, list) or not all(isinstance(tool, Mapping) for tool in tools):
        raise DataError("`tools` is not a list of objects; remove it or write JSON")
    wrapped = (t if "function" in t else {"type": "function", "function": t} for t in tools)
    return tuple(read_string(_json(tool), "`tools`") for tool in wrapped)


def _spoken_turns(text: str, role: str) -> tuple[Message, ...]:
    pieces = _HH_TURN.split(text)
    if len(pieces) == 1 or pieces[0]:
        return (Message(role, text),)
    turns = zip(pieces[1::2], pieces[2::2], strict=True)
    return tuple(Message(_ROLES[speaker.lower()], words) for speaker, words in turns)


def _role(speaker: str) -> str | None:
    return _ROLES.get(speaker.strip().lower().replace("-", "_").replace(" ", "_"))


def _unknown_roles(turns: Sequence[object]) -> list[str]:
    named = [_first(turn, _SPEAKER_KEYS)[1] for turn in turns if isinstance(turn, Mapping)]
    unknown = (name for name in named if isinstance(name, str) and _role(name) is None)
    return sorted({f"{name[:40]!r}" for name in unknown})


def _first(turn: Mapping[str, Any], keys: Sequence[str]) -> tuple[str, Any]:
    return next(((key, turn[key]) for key in keys if turn.get(key) is not None), ("", None))


def _messages(turn: object, what: str, default: str | None) -> tuple[Message, ...]:
    """One turn; several where an object holds an exchange, or the results of several tools."""
    if not isinstance(turn, Mapping):
        raise DataError(f"{what} is {kind_of(turn)} where role and content were expected")
    key, speaker = _first(turn, _SPEAKER_KEYS)
    if not key:
        if (item := _item(turn)) is not None:
            return item
        for asked, told in _EXCHANGES:
            if turn.get(asked) is not None and told in turn:
                pair = (("user", turn[asked]), ("assistant", turn[told]))
                said = ((role, words) for role, words in pair if words is not None)
                return tuple(Message(role, read_string(words, what)) for role, words in said)
    role = _role(read_string(speaker, f"`{key}` of {what}")) if key else default
    word_key, words = _first(turn, _WORD_KEYS)
    if role is None or (not word_key and role in ("user", "system")):
        found = ", ".join(f"`{name}`" for name, held in turn.items() if held is not None)
        lacks = "role" if role is None else "content"
        raise DataError(f"{what} lacks `{lacks}`; found {found or 'nothing'}")
    spoken = _Spoken(role, turn, f"`{word_key}` of {what}", words)
    return spoken.messages()


def _item(turn: Mapping[str, Any]) -> tuple[Message, ...] | None:
    """A call, an answer to one or a thought that stands alone, as in OpenAI's Responses."""
    kind = turn.get("type")
    if kind == "function_call":
        return (Message("assistant", "", tool_calls=(_call(turn),)),)
    if kind == "function_call_output":
        return (
            Message(
                "tool",
                held if isinstance(held := turn.get("output"), str) else _json(held),
                tool_call_id=_text(turn["call_id"]),
            ),
        )
    if kind == "reasoning":
        words = "\n".join(str(part.get("text", "")) for part in turn.get("summary") or ())
        return (Message("assistant", "", reasoning=words),) if words else ()
    return None


class _Spoken:
    """The contents of one turn: words, reasoning, tool calls and tool results."""

    def __init__(self, role: str, turn: Mapping[str, Any], what: str, words: object) -> None:
        self.role, self.turn, self.what = role, turn, what
        self.words: list[str] = []
        self.reasoning: list[str] = []
        self.calls: list[ToolCall] = []
        self.results: list[Message] = []
        self.refused: Counter[str] = Counter()
        if role == _CALL:
            self._add_calls_in_words(words)
        elif words is not None:
            self._add(_json(words) if role == "tool" and isinstance(words, Mapping) else words)
        if self.refused:
            kinds = ", ".join(f"{kind} {n}" for kind, n in sorted(self.refused.items()))
            raise DataError(f"{what} has a part that is not text ({kinds}); only text is measured")

    def messages(self) -> tuple[Message, ...]:
        """The turn, after the tool results that it contains."""
        turn = self.turn
        reasoning = _first(turn, ("reasoning_content", "reasoning", "thinking"))[1]
        calls = [*self.calls, *_calls(turn.get("tool_calls")), *_calls(turn.get("function_call"))]
        refusal = turn.get("refusal")
        if isinstance(refusal, str):
            self.words.append(refusal)
        if self.results and not self.words:
            return tuple(self.results)
        thought = [reasoning] if isinstance(reasoning, str) else self.reasoning
        message = Message(
            "assistant" if self.role == _CALL else self.role,
            "".join(self.words),
            reasoning="".join(thought) or None,
            tool_calls=tuple(calls),
            tool_call_id=_text(turn.get("tool_call_id")),
            name=_text(turn.get("name")),
        )
        return (*self.results, message)

    def _add_calls_in_words(self, words: object) -> None:
        try:
            self.calls += _calls(words)
        except DataError:  # LLaMA-Factory trains on the text of such a turn
            self.words.append(read_string(words, self.what))

    def _add(self, words: object) -> None:
        if not isinstance(words, list):
            self.words.append(read_string(words, self.what))
            return
        for part in words:
            self._add_part({"type": "text", "text": part} if isinstance(part, str) else part)

    def _add_part(self, part: object) -> None:
        if not isinstance(part, Mapping):
            raise DataError(f"{self.what} has a part that is {kind_of(part)}; expected an object")
        kind = str(part.get("type", "text" if "text" in part else "part"))
        if kind in ("text", "input_text", "output_text"):
            self.words.append(read_string(part.get("text"), f"a part of {self.what}"))
        elif kind in ("thinking", "reasoning"):
            self.reasoning.append(read_string(part.get(kind), f"a part of {self.what}"))
        elif kind == "refusal":
            self.words.append(read_string(part.get("refusal"), f"a part of {self.what}"))
        elif kind == "tool_use":
            self.calls += _calls(part)
        elif kind == "tool_result":
            self._add_result(part.get("content"), part.get("tool_use_id"))
        elif held := _first(part, ("functionCall", "function_call", "toolUse"))[1]:
            self.calls += _calls(held)
        elif held := _first(part, ("functionResponse", "function_response", "toolResult"))[1]:
            words = held.get("content", held.get("response"))
            self._add_result(words, held.get("toolUseId"), held.get("name"))
        elif isinstance(held := part.get("json"), Mapping | list):  # in a result of Bedrock
            self.words.append(_json(held))
        else:
            self.refused[kind] += 1

    def _add_result(self, words: object, call_id: object, name: object = None) -> None:
        inner = _Spoken(
            "tool", {}, self.what, _json(words) if isinstance(words, Mapping) else words
        )
        message = Message("tool", "".join(inner.words), tool_call_id=_text(call_id))
        self.results.append(replace(message, name=_text(name)))


def _calls(value: object) -> list[ToolCall]:
    if value is None:
        return []
    if isinstance(value, str):
        value = _parsed(value, "a tool call")
    listed = value if isinstance(value, list) else [value]
    return [_call(call) for call in listed]


def _call(call: object) -> ToolCall:
    held = call.get("function", call) if isinstance(call, Mapping) else None
    if not isinstance(call, Mapping) or not isinstance(held, Mapping):
        raise DataError(f"a tool call is {kind_of(call)} where an object was expected")
    name = read_string(held.get("name"), "`name` of a tool call")
    arguments = _first(held, ("arguments", "args", "parameters", "input"))[1]
    if not isinstance(arguments, str):
        arguments = _json(arguments or {})
    call_id = _first(call, ("call_id", "id", "toolUseId"))[1]
    return ToolCall(name, read_string(arguments, f"the arguments of {name}"), _text(call_id))


def _parsed(text: str, what: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{what} is a string that is not JSON ({error})") from error


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _text(value: object) -> str | None:
    return None if value in (None, "") else read_string(str(value), "an id or a name")
