"""Samples as the text that a model reads, and where each message's own words stand in it.

A message's text that stands unchanged in the rendered sample is scored, whatever the template
adds around it. To find it, the chat template is rendered a second time with marks around the
contents; without its marks that text must be the rendered sample, so the marks show where the
contents are. Conversations of one shape share the text between the contents, which is kept, so
that most samples are rendered once.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any, NamedTuple

from facsynth.errors import DataError
from facsynth.records import BETWEEN, Message, Sample, fold_system

__all__ = ["Range", "Rendered", "chat_format", "render_sample"]

_OPEN, _NUMBER_ENDS, _CLOSE = "\ue000", "\ue001", "\ue002"
"""Marks from the private use area, which no text of a data set should hold."""

_MARK = re.compile(f"{_OPEN}(\\d+){_NUMBER_ENDS}|{_CLOSE}")
_MARKS = re.compile(f"[{_OPEN}{_NUMBER_ENDS}{_CLOSE}]")

_THINKING = re.compile(r"\s*<think>(?P<thinking>.*?)</think>(?P<answer>.*)", re.DOTALL)
"""Content that begins with thinking, which reasoning templates take apart."""

_LONG_ENOUGH = 12
"""Characters from which on a content is looked for by itself; shorter ones may be template."""

Range = tuple[int, int]


@dataclass(frozen=True)
class Rendered:
    """A sample as text."""

    text: str
    """What the model reads, template included."""

    spans: tuple[tuple[Range, ...], ...]
    """For each message the character ranges of its own words; for plain text one entry."""


class _Piece(NamedTuple):
    """A part of a content that a template keeps in one piece."""

    message: int
    start: int
    """Where it stands in the message's content."""

    text: str
    is_thinking: bool


def chat_format(tokenizer: Any) -> str:
    """How conversations become text: the tokenizer's template, or its absence in words."""
    if not tokenizer.chat_template:
        return "no template: contents joined by a blank line"
    return str(tokenizer.get_chat_template())


def render_sample(sample: Sample, tokenizer: Any) -> Rendered:
    """Render a sample by the tokenizer's chat template, without a generation prompt.

    A system message that the template refuses or drops is folded into the first user turn. A
    tokenizer without a template gets the contents joined by blank lines.

    Raises:
        DataError: The template refuses the conversation, or drops or rewrites a message.
    """
    if not sample.messages:
        text = sample.text or ""
        return Rendered(text, (((0, len(text)),),))
    if not tokenizer.chat_template:
        return _join(sample.messages)
    shape = _shape(tokenizer, chat_format(tokenizer), tuple(m.role for m in sample.messages))
    messages = fold_system(sample.messages) if shape.folds_system else sample.messages
    template = _Template(tokenizer, shape.takes_parts, sample.sample_id)
    text = template.render(messages)
    spans = _match_pieces(text, messages, shape.between)
    if spans is None:
        spans = _match_marks(template, messages, text)
    return Rendered(text, _unfold(spans, sample) if shape.folds_system else spans)


@dataclass(frozen=True)
class _Template:
    """A tokenizer's chat template, as conversations of one shape are put into it."""

    tokenizer: Any
    takes_parts: bool
    """Whether contents are lists of parts, as templates of models with images want them."""

    sample_id: str = ""

    def render(self, messages: Sequence[Message]) -> str:
        """The text of a conversation."""
        from jinja2 import TemplateError

        chat = [{"role": m.role, "content": self._content(m.content)} for m in messages]
        try:
            return str(self.tokenizer.apply_chat_template(chat, tokenize=False))
        except (TemplateError, TypeError) as error:
            roles = ", ".join(m.role for m in messages)
            raise DataError(
                f"the chat template refuses sample {self.sample_id!r} with the roles {roles}: "
                f"{error}"
            ) from error

    def _content(self, text: str) -> Any:
        return [{"type": "text", "text": text}] if self.takes_parts else text

    def changed(self, message: Message) -> DataError:
        """The error for a message whose words are not in the rendered text."""
        return DataError(
            f"the chat template drops or rewrites the {message.role} message of sample "
            f"{self.sample_id!r}, so its own words cannot be found; leave the message out, or "
            "turn the sample into plain text"
        )


class _Shape(NamedTuple):
    """What a template does to conversations with the same roles."""

    between: tuple[str, ...] | None
    """Text before, between and after the contents; None where contents are moved or dropped."""

    folds_system: bool = False
    takes_parts: bool = False


@lru_cache(maxsize=4096)
def _shape(tokenizer: Any, template: str, roles: tuple[str, ...]) -> _Shape:
    """The shape of conversations with these roles in the tokenizer's present `template`.

    Where no form of them shows all contents, it is the plain one, whose errors users understand.
    """
    marked = tuple(Message(role, f"{_OPEN}{i}{_NUMBER_ENDS}") for i, role in enumerate(roles))
    for takes_parts in (False, True):
        for folds in (False, True) if roles[:2] == ("system", "user") else (False,):
            messages = marked[1:] if folds else marked
            try:
                text = _Template(tokenizer, takes_parts).render(messages)
            except DataError:
                continue
            if between := _between(text, [m.content for m in messages]):
                return _Shape(between, folds, takes_parts)
    return _Shape(None)


def _between(text: str, marks: Sequence[str]) -> tuple[str, ...] | None:
    pieces = []
    for mark in marks:
        piece, found, text = text.partition(mark)
        if not found:
            return None
        pieces.append(piece)
    return (*pieces, text)


def _match_pieces(
    text: str, messages: Sequence[Message], between: tuple[str, ...] | None
) -> tuple[tuple[Range, ...], ...] | None:
    """Ranges of the contents where a text consists of them and the pieces between them."""
    if between is None or not text.startswith(between[0]):
        return None
    spans, cursor = [], len(between[0])
    for message, piece in zip(messages, between[1:], strict=True):
        # Many templates strip contents.
        for content in (message.content, message.content.strip()):
            if text.startswith(content + piece, cursor):
                break
        else:
            return None
        spans.append(((cursor, cursor + len(content)),))
        cursor += len(content) + len(piece)
    return tuple(spans) if cursor == len(text) else None


def _match_marks(
    template: _Template, messages: Sequence[Message], text: str
) -> tuple[tuple[Range, ...], ...]:
    """Ranges of the contents where the text between them depends on what they say."""
    if _MARKS.search(text):
        raise DataError(
            f"sample {template.sample_id!r} holds a character from U+E000 to U+E002, which mark "
            "contents; remove it"
        )
    pieces = [piece for i, message in enumerate(messages) for piece in _pieces(i, message)]
    plain, found = _read_marks(template.render(_with_marks(messages, pieces)))
    if plain != text:
        return _search(template, messages, text)
    spans: list[tuple[Range, ...]] = []
    for i, message in enumerate(messages):
        own = [n for n, piece in enumerate(pieces) if piece.message == i]
        lost = [n for n in own if n not in found and not pieces[n].is_thinking]
        if lost:
            raise template.changed(message)
        spans.append(_whole(text, message, [(pieces[n], found[n]) for n in own if n in found]))
    return tuple(spans)


def _pieces(index: int, message: Message) -> list[_Piece]:
    """Parts of a content that templates may take apart, without the white space around them."""
    parts = _THINKING.fullmatch(message.content) if message.role == "assistant" else None
    ranges = [parts.span(1), parts.span(2)] if parts else [(0, len(message.content))]
    found = []
    for number, (start, end) in enumerate(ranges):
        text = message.content[start:end]
        if words := text.strip():
            begin = start + text.index(words)
            found.append(_Piece(index, begin, words, bool(parts) and number == 0))
    return found


def _with_marks(messages: Sequence[Message], pieces: Sequence[_Piece]) -> list[Message]:
    contents = [message.content for message in messages]
    for number, piece in reversed(list(enumerate(pieces))):
        content, end = contents[piece.message], piece.start + len(piece.text)
        marked = f"{_OPEN}{number}{_NUMBER_ENDS}{piece.text}{_CLOSE}"
        contents[piece.message] = content[: piece.start] + marked + content[end:]
    return [replace(m, content=content) for m, content in zip(messages, contents, strict=True)]


def _read_marks(marked: str) -> tuple[str, dict[int, Range]]:
    """A text without its marks, and the range that each pair of them encloses."""
    plain, found, cursor, number = "", {}, 0, -1
    for mark in _MARK.finditer(marked):
        plain += marked[cursor : mark.start()]
        cursor = mark.end()
        if mark[1]:
            number = int(mark[1])
            found[number] = (len(plain), len(plain))
        elif number in found:
            found[number] = (found[number][0], len(plain))
    return plain + marked[cursor:], found


def _whole(text: str, message: Message, found: Sequence[tuple[_Piece, Range]]) -> tuple[Range, ...]:
    """The ranges of a message's pieces, or one range where its whole content stands unchanged."""
    if not found:
        return ()
    content, (piece, (start, _)) = message.content.strip(), found[0]
    offset = piece.start - (len(message.content) - len(message.content.lstrip()))
    if offset <= start and text.startswith(content, start - offset):
        return ((start - offset, start - offset + len(content)),)
    return tuple(span for _, span in found)


def _search(
    template: _Template, messages: Sequence[Message], text: str
) -> tuple[tuple[Range, ...], ...]:
    """Contents looked for one behind the other; for templates that compare contents themselves."""
    spans: list[tuple[Range, ...]] = []
    cursor = 0
    for message in messages:
        content = message.content.strip()
        start = text.find(content, cursor) if len(content) >= _LONG_ENOUGH else -1
        if content and start < 0:
            raise template.changed(message)
        spans.append(((start, start + len(content)),) if content else ())
        cursor = start + len(content) if content else cursor
    return tuple(spans)


def _unfold(spans: tuple[tuple[Range, ...], ...], sample: Sample) -> tuple[tuple[Range, ...], ...]:
    """Ranges of the system message and of the first user turn out of those of both together."""
    if not spans[0]:
        return ((), (), *spans[1:])
    system, user = (message.content for message in sample.messages[:2])
    folded = f"{system}{BETWEEN}{user}"
    [(start, end)] = spans[0]
    # Shorter, the turn was stripped, and its first words are further left than the system's start.
    stripped = len(folded) - len(folded.lstrip()) if end - start < len(folded) else 0
    border = start - stripped + len(system)
    both = (start, min(border, end)), (max(start, border + len(BETWEEN)), end)
    return (*(((first, last),) if first < last else () for first, last in both), *spans[1:])


def _join(messages: Sequence[Message]) -> Rendered:
    spans, start = [], 0
    for message in messages:
        spans.append(((start, start + len(message.content)),))
        start += len(message.content) + len(BETWEEN)
    return Rendered(BETWEEN.join(m.content for m in messages), tuple(spans))
