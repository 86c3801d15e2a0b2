"""Samples as the text that a model reads, and where each message's own words stand in it.

A message's text that stands unchanged in the rendered sample is scored, whatever the template
adds around it, and so are its reasoning and the names and arguments of its tool calls. They are
found by rendering a second time with marks around them; see `facsynth.models.marks`. Plain
conversations of one shape share the text between the contents, which is kept, so that most samples
are rendered once.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import product
from typing import Any, NamedTuple

from facsynth.errors import DataError
from facsynth.models.marks import MARKS, THINKING, Piece, Range, call_text, mark_messages
from facsynth.records import BETWEEN, Message, Sample, ToolCall, fold_system

__all__ = ["Range", "Rendered", "chat_format", "render_sample"]

_LONG_ENOUGH = 12
"""Characters from which on a content is looked for by itself; shorter ones may be template."""

Spans = tuple[tuple[Range, ...], ...]
"""Character ranges of each message."""


@dataclass(frozen=True)
class Rendered:
    """A sample as text."""

    text: str
    """What the model reads, template included."""

    spans: Spans
    """For each message the ranges of its own words; for plain text one entry."""

    reasoning: tuple[Range, ...] = ()
    """Ranges of reasoning among them."""

    left_out: tuple[str, ...] = ()
    """What of the sample the template does not show: `reasoning`, `tool calls`, `tools`."""


def chat_format(tokenizer: Any) -> str:
    """How conversations become text: the tokenizer's template, or its absence in words."""
    if not tokenizer.chat_template:
        return "no template: contents joined by a blank line"
    return str(tokenizer.get_chat_template())


def render_sample(sample: Sample, tokenizer: Any) -> Rendered:
    """Render a sample by the tokenizer's chat template, without a generation prompt.

    A system message that the template refuses or drops is folded into the first user turn, and
    tool calls stand as JSON below the words of their turn where the template knows none. A
    tokenizer without a template gets contents, reasoning and calls joined by blank lines.

    Raises:
        DataError: The template refuses the conversation, or drops or rewrites a message.
    """
    if not sample.messages:
        text = sample.text or ""
        return Rendered(text, (((0, len(text)),),))
    if not tokenizer.chat_template:
        return _join(sample)
    shape = _shape(tokenizer, chat_format(tokenizer), _outline(sample))
    messages = fold_system(sample.messages) if shape.form.folds_system else sample.messages
    template = _Template(tokenizer, shape.form, sample.tools, sample.sample_id)
    text = template.render(messages)
    spans = _match_pieces(text, messages, shape.between)
    if spans is None:
        spans, thoughts, left_out = _match_marks(template, messages, text)
    else:
        thoughts, left_out = tuple(_thoughts(text, messages, spans)), ()
    if sample.tools and not shape.shows_tools:
        left_out += ("tools",)
    spans = _unfold(spans, sample) if shape.form.folds_system else spans
    return Rendered(text, spans, thoughts, left_out)


# Forms of a conversation


class _Form(NamedTuple):
    """How conversations of one shape are put into a template."""

    takes_parts: bool = False
    """Whether contents are lists of parts, as templates of models with images want them."""

    folds_system: bool = False
    """Whether the system message goes into the first user turn."""

    calls: str = "object"
    """How tool calls go in: with their arguments as an `object` or as `text`, each also with the
    content `null` where it is empty; or as `words` below the content."""


class _Turn(NamedTuple):
    """What decides how a template treats a message."""

    role: str
    has_words: bool
    n_calls: int
    has_reasoning: bool


class _Outline(NamedTuple):
    turns: tuple[_Turn, ...]
    has_tools: bool


class _Shape(NamedTuple):
    """What a template does to conversations with the same outline."""

    form: _Form
    between: tuple[str, ...] | None = None
    """Text before, between and after the contents; None where there is more than contents, or
    where they are moved or dropped."""

    shows_tools: bool = False


def _outline(sample: Sample) -> _Outline:
    turns = (
        _Turn(m.role, bool(m.content) or not m.tool_calls, len(m.tool_calls), bool(m.reasoning))
        for m in sample.messages
    )
    return _Outline(tuple(turns), bool(sample.tools))


@lru_cache(maxsize=4096)
def _shape(tokenizer: Any, template: str, outline: _Outline) -> _Shape:
    """The shape of such conversations in the tokenizer's present `template`.

    The first form that shows most is taken. Where none is accepted, it is the plain one, whose
    errors users understand.
    """
    messages = [_stand_in(i, turn) for i, turn in enumerate(outline.turns)]
    tool = json.dumps({"type": "function", "function": _STAND_IN_TOOL})
    tools = (tool,) if outline.has_tools else ()
    best, most = _Shape(_Form()), -1
    for form in _forms(outline):
        used = fold_system(messages) if form.folds_system else tuple(messages)
        marked = mark_messages(used)
        try:
            text = _Template(tokenizer, form, tools).render(marked.messages)
        except DataError:
            continue
        plain, found = marked.read(text)
        if len(found) > most:
            is_plain = all(piece.kind == "words" for piece in marked.pieces)
            between = _between(plain, found, len(used)) if is_plain else None
            best, most = _Shape(form, between, _STAND_IN_TOOL["name"] in text), len(found)
        if len(found) == len(marked.pieces):
            break
    return best


_STAND_IN_TOOL: dict[str, Any] = {
    "name": "facsynth_tool",
    "description": "A tool.",
    "parameters": {"type": "object", "properties": {}},
}


def _stand_in(index: int, turn: _Turn) -> Message:
    calls = tuple(ToolCall(f"call{i}", '{"a": "b"}', "abcdefgh1") for i in range(turn.n_calls))
    return Message(
        turn.role,
        f"Words {index}" if turn.has_words else "",
        reasoning=f"Thought {index}" if turn.has_reasoning else None,
        tool_calls=calls,
        tool_call_id="abcdefgh1" if turn.role == "tool" else None,
        name="call0" if turn.role == "tool" else None,
    )


def _forms(outline: _Outline) -> Iterator[_Form]:
    """Forms to try, the plainest first."""
    has_calls = any(turn.n_calls for turn in outline.turns)
    roles = [turn.role for turn in outline.turns[:2]]
    ways = ("object", "object null", "text", "text null", "words") if has_calls else ("object",)
    folds = (False, True) if roles == ["system", "user"] else (False,)
    for calls, takes_parts, folds_system in product(ways, (False, True), folds):
        yield _Form(takes_parts, folds_system, calls)


def _between(text: str, found: dict[int, Range], n_contents: int) -> tuple[str, ...] | None:
    if len(found) < n_contents or list(found.values()) != sorted(found.values()):
        return None
    edges = [0, *(edge for span in found.values() for edge in span), len(text)]
    return tuple(text[a:b] for a, b in zip(edges[::2], edges[1::2], strict=True))


@dataclass(frozen=True)
class _Template:
    """A tokenizer's chat template, as conversations of one shape are put into it."""

    tokenizer: Any
    form: _Form
    tools: tuple[str, ...] = ()
    sample_id: str = ""

    def render(self, messages: Sequence[Message]) -> str:
        """The text of a conversation."""
        from jinja2 import TemplateError

        chat = [self._turn(message) for message in messages]
        tools = [json.loads(tool) for tool in self.tools]
        described = [_described(tool) for tool in tools]
        for given in (tools,) if described == tools else (tools, described):
            try:
                text = self.tokenizer.apply_chat_template(chat, tools=given or None, tokenize=False)
                return str(text)
            except (TemplateError, TypeError) as error:
                refusal = error
        roles = ", ".join(m.role for m in messages)
        raise DataError(
            f"the chat template refuses sample {self.sample_id!r} with the roles {roles}: {refusal}"
        ) from refusal

    def _turn(self, message: Message) -> dict[str, Any]:
        words: Any = message.content
        if message.tool_calls and self.form.calls == "words":
            words = "\n".join(filter(None, [words, *map(call_text, message.tool_calls)]))
        elif message.tool_calls and not words and self.form.calls.endswith("null"):
            words = None
        if self.form.takes_parts and words is not None:
            words = [{"type": "text", "text": words}]
        turn: dict[str, Any] = {"role": message.role, "content": words}
        if message.tool_calls and self.form.calls != "words":
            turn["tool_calls"] = [self._call(call) for call in message.tool_calls]
        if message.reasoning:  # gpt-oss and LFM2 call it thinking
            turn |= {"reasoning_content": message.reasoning, "thinking": message.reasoning}
        extra = {"tool_call_id": message.tool_call_id, "name": message.name}
        return turn | {key: value for key, value in extra.items() if value is not None}

    def _call(self, call: ToolCall) -> dict[str, Any]:
        arguments = call.value if self.form.calls.startswith("object") else call.arguments
        named = {} if call.call_id is None else {"id": call.call_id}
        return {
            **named,
            "type": "function",
            "function": {"name": call.name, "arguments": arguments},
        }

    def changed(self, message: Message) -> DataError:
        """The error for a message whose words are not in the rendered text."""
        return DataError(
            f"the chat template drops or rewrites the {message.role} message of sample "
            f"{self.sample_id!r}, so its own words cannot be found; leave the message out, or "
            "turn the sample into plain text"
        )


def _described(tool: Any) -> Any:
    """A tool with an empty description, which some templates cannot do without."""
    function = tool.get("function")
    if not isinstance(function, dict):
        return tool
    return {**tool, "function": {"description": "", **function}}


# Where the words stand


def _match_pieces(
    text: str, messages: Sequence[Message], between: tuple[str, ...] | None
) -> Spans | None:
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
) -> tuple[Spans, tuple[Range, ...], tuple[str, ...]]:
    """Ranges of all words, those of reasoning among them, and what the template does not show."""
    if MARKS.search(text):
        raise DataError(
            f"sample {template.sample_id!r} holds a character from U+E000 to U+E002, which mark "
            "contents; remove it"
        )
    marked = mark_messages(messages)
    plain, found = marked.read(template.render(marked.messages))
    if plain != text:
        found = _search(template, marked.pieces, text)
    spans, thoughts, lost = list[tuple[Range, ...]](), list[Range](), set[str]()
    for i, message in enumerate(messages):
        own = [(n, piece) for n, piece in enumerate(marked.pieces) if piece.message == i]
        lost |= {piece.kind for n, piece in own if n not in found}
        if "words" in lost:
            raise template.changed(message)
        there = [(piece, found[n]) for n, piece in own if n in found]
        content = _whole(text, message, [one for one in there if one[0].kind in _IN_CONTENT])
        thoughts += [span for piece, span in there if piece.kind == "reasoning"]
        if len(content) == 1:
            thoughts += _thoughts(text, [message], [content])
        else:
            thoughts += [span for piece, span in there if piece.kind == "thought"]
        aside = [span for piece, span in there if piece.kind == "reasoning"]
        spans.append(tuple(sorted([*aside, *content, *marked.calls(i, text, found)])))
    names = {"thought": "reasoning", "reasoning": "reasoning", "call": "tool calls"}
    return tuple(spans), tuple(thoughts), tuple(sorted({names[kind] for kind in lost}))


_IN_CONTENT = ("words", "thought")


def _whole(text: str, message: Message, found: Sequence[tuple[Piece, Range]]) -> tuple[Range, ...]:
    """The ranges of a content's pieces, or one range where the whole content stands unchanged."""
    if not found:
        return ()
    content, (piece, (start, _)) = message.content.strip(), found[0]
    offset = piece.start - (len(message.content) - len(message.content.lstrip()))
    if offset <= start and text.startswith(content, start - offset):
        return ((start - offset, start - offset + len(content)),)
    return tuple(span for _, span in found)


def _thoughts(
    text: str, messages: Sequence[Message], spans: Sequence[Sequence[Range]]
) -> list[Range]:
    """Ranges of the thinking at the head of contents that stand unchanged."""
    found = []
    for message, own in zip(messages, spans, strict=True):
        if own and message.role == "assistant" and THINKING.fullmatch(message.content):
            start, end = own[0]
            if (ends := text.find(_THINKING_ENDS, start, end)) >= 0:
                found.append((start, ends + len(_THINKING_ENDS)))
    return found


_THINKING_ENDS = "</think>"


def _search(template: _Template, pieces: Sequence[Piece], text: str) -> dict[int, Range]:
    """Words looked for one behind the other; for templates that compare contents themselves."""
    found: dict[int, Range] = {}
    cursor = 0
    for number, piece in enumerate(pieces):
        start = text.find(piece.text, cursor) if len(piece.text) >= _LONG_ENOUGH else -1
        if start >= 0:
            cursor = start + len(piece.text)
            found[number] = (start, cursor)
    return found


def _unfold(spans: Spans, sample: Sample) -> Spans:
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


def _join(sample: Sample) -> Rendered:
    blocks, spans, thoughts, start = list[str](), list[tuple[Range, ...]](), list[Range](), 0
    for message in sample.messages:
        calls = [call_text(call) for call in message.tool_calls]
        content = [message.content] if message.content or not calls else []
        own = []
        for block in (*filter(None, [message.reasoning]), *content, *calls):
            blocks.append(block)
            own.append((start, start + len(block)))
            start += len(block) + len(BETWEEN)
        spans.append(tuple(own))
        thoughts += own[: bool(message.reasoning)]
    text = BETWEEN.join(blocks)
    contents = [own[bool(m.reasoning) :] for own, m in zip(spans, sample.messages, strict=True)]
    thoughts += _thoughts(text, sample.messages, contents)
    return Rendered(text, tuple(spans), tuple(thoughts), ("tools",) if sample.tools else ())
