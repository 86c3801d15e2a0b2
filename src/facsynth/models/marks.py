"""Marks around the words of messages, which tell where a chat template puts them.

A conversation is rendered a second time with marks around contents, reasoning, and the names and
arguments of tool calls; without its marks that text must be the rendered sample.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NamedTuple

from facsynth.records import Message, ToolCall

__all__ = ["MARKS", "THINKING", "Marked", "Piece", "Range", "call_text", "mark_messages"]

_OPEN, _NUMBER_ENDS, _CLOSE = "\ue000", "\ue001", "\ue002"
"""Marks from the private use area, which no text of a data set should hold."""

_MARK = re.compile(f"{_OPEN}(\\d+){_NUMBER_ENDS}|{_CLOSE}")
MARKS = re.compile(f"[{_OPEN}{_NUMBER_ENDS}{_CLOSE}]")
"""Matches any of the marks."""

THINKING = re.compile(r"\s*<think>(?P<thinking>.*?)</think>(?P<answer>.*)", re.DOTALL)
"""Content that begins with thinking, which reasoning templates take apart."""

_VALUE_WINDOW = 60
"""Characters behind the name of an argument in which a value that is not a string is looked for."""

Range = tuple[int, int]
Kind = Literal["words", "thought", "reasoning", "call"]
"""Words of a content, thinking at its head, reasoning in a field of its own, parts of a call."""


class Piece(NamedTuple):
    """Words that a template keeps in one piece."""

    message: int
    kind: Kind
    text: str
    start: int = 0
    """Of words and thoughts within a content, where they stand in it."""


@dataclass
class Marked:
    """Messages with marks, and what each pair of marks encloses."""

    messages: list[Message] = field(default_factory=list)
    pieces: list[Piece] = field(default_factory=list)
    arguments: list[tuple[range, str]] = field(default_factory=list)
    """Pieces of the arguments of each call, and these as JSON text."""

    values: list[tuple[int, str]] = field(default_factory=list)
    """Arguments that are no strings: the piece of the name, and the value as JSON text."""

    def read(self, marked: str) -> tuple[str, dict[int, Range]]:
        """A rendered text without its marks, and the range of each piece that is in it."""
        plain, found, cursor, number = "", dict[int, Range](), 0, -1
        for mark in _MARK.finditer(marked):
            plain += marked[cursor : mark.start()]
            cursor = mark.end()
            if mark[1]:
                number = int(mark[1])
                found[number] = (len(plain), len(plain))
            elif number in found:
                found[number] = (found[number][0], len(plain))
        return plain + marked[cursor:], found

    def calls(self, index: int, text: str, found: Mapping[int, Range]) -> Iterator[Range]:
        """Ranges of the names and arguments of the calls in a message."""
        whole = set[int]()
        for numbers, arguments in self.arguments:
            there = [found[n] for n in numbers if n in found]
            if not there or self.pieces[numbers[0]].message != index:
                continue
            start = min(there)[0] - len('{"')
            if start >= 0 and text.startswith(arguments, start):
                whole.update(numbers)
                yield start, start + len(arguments)
        for number, piece in enumerate(self.pieces):
            is_part = piece.message == index and piece.kind == "call" and number not in whole
            if is_part and number in found:
                yield found[number]
        for number, value in self.values:
            if self.pieces[number].message == index and number in found and number not in whole:
                yield from _find_value(text, found[number][1], value)


def mark_messages(messages: Sequence[Message]) -> Marked:
    """Put marks around the words of messages, without the white space around them."""
    marked = Marked()
    for index, message in enumerate(messages):
        marked.messages.append(_Marker(marked, index).message(message))
    return marked


def call_text(call: ToolCall) -> str:
    """A call as JSON, for templates that know no tools."""
    held = {"name": call.name, "arguments": call.value}
    return json.dumps(held, ensure_ascii=False)


class _Marker:
    """Marks one message."""

    def __init__(self, marked: Marked, index: int) -> None:
        self._marked, self._index = marked, index

    def message(self, message: Message) -> Message:
        """The message with marks."""
        content = message.content
        thinking = THINKING.fullmatch(content) if message.role == "assistant" else None
        if thinking:
            (a, b), (c, d) = thinking.span(1), thinking.span(2)
            thought = self._mark(content[a:b], "thought", a)
            content = content[:a] + thought + content[b:c] + self._mark(content[c:d], "words", c)
        else:
            content = self._mark(content, "words")
        reasoning = message.reasoning
        return replace(
            message,
            content=content,
            reasoning=reasoning if reasoning is None else self._mark(reasoning, "reasoning"),
            tool_calls=tuple(map(self._call, message.tool_calls)),
        )

    def _mark(self, text: str, kind: Kind, start: int = 0) -> str:
        words = text.strip()
        if not words:
            return text
        number, begin = len(self._marked.pieces), text.index(words)
        self._marked.pieces.append(Piece(self._index, kind, words, start + begin))
        # Numbers of one width, because some templates sort the names of arguments.
        mark = f"{_OPEN}{number:06}{_NUMBER_ENDS}{words}{_CLOSE}"
        return text[:begin] + mark + text[begin + len(words) :]

    def _call(self, call: ToolCall) -> ToolCall:
        name, first = self._mark(call.name, "call"), len(self._marked.pieces)
        held = call.value
        if not isinstance(held, dict):
            return replace(call, name=name, arguments=self._mark(call.arguments, "call"))
        arguments = json.dumps(self._tree(held), ensure_ascii=False)
        if numbers := range(first, len(self._marked.pieces)):
            self._marked.arguments.append((numbers, json.dumps(held, ensure_ascii=False)))
        return replace(call, name=name, arguments=arguments)

    def _tree(self, value: Any) -> Any:
        """A JSON value with marks around its names and strings."""
        if isinstance(value, str):
            return self._mark(value, "call")
        if isinstance(value, list):
            return [self._tree(inner) for inner in value]
        if not isinstance(value, dict):
            return value
        names: dict[str, str] = {}
        for name in sorted(value, key=str.lower):
            number = len(self._marked.pieces)
            names[name] = self._mark(name, "call")
            if not isinstance(value[name], str):
                self._marked.values.append((number, json.dumps(value[name], ensure_ascii=False)))
        return {names[name]: self._tree(inner) for name, inner in value.items()}


def _find_value(text: str, start: int, value: str) -> Iterator[Range]:
    """The range of a value behind its name, where it is written as JSON or as Python does."""
    forms = "|".join(re.escape(form) for form in dict.fromkeys((value, value.capitalize())))
    within = re.compile(rf"(?<![\w.])(?:{forms})(?![\w.])")
    if found := within.search(text, start, start + _VALUE_WINDOW + len(value)):
        yield found.span()
