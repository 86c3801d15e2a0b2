"""What the generator is asked, and how its replies are read.

Texts of data sets are data: they appear between tags or as earlier answers of the generator
itself, never as a request, and the marks that chat templates put between turns are broken in them.
"""

from collections.abc import Sequence
from dataclasses import replace

from facsynth.chat.fence import break_turn_marks, fence, on_one_line
from facsynth.chat.model import ChatReply, Outcome
from facsynth.records import Message
from facsynth.synthesize.task_format import TaskFormat
from facsynth.synthesize.tools import tool_lines
from facsynth.words import count_words, find_sentence_ends

__all__ = [
    "PROMPT_VERSION",
    "check_prompt",
    "clean_reply",
    "completion_prompt",
    "next_prompt",
    "request_prompt",
    "second_prompt",
    "turns_prompt",
    "whole_sentences",
    "with_tools",
    "written_text",
]

PROMPT_VERSION = "4"
"""Part of every sample's provenance; raised when the wording below changes."""

_OPENINGS = ("here is", "here's", "here are", "sure", "certainly", "of course", "okay")
_TITLES = ("a new", "new", "an example", "example")
_LABELS = ("message", "text", "new message", "new text", "instruction", "answer", "user", "person")


def turns_prompt(
    themes: Sequence[str], texts: Sequence[str], *, n_words: int, form: str, task: TaskFormat
) -> tuple[Message, ...]:
    """Ask for one more text, after texts that appear as the generator's own earlier answers.

    Small models imitate what they seem to have written far better than what they are shown
    (docs/studies/fill_rate.md).

    Args:
        themes: What the texts share, in words; one for each feature, or none.
        texts: Texts of the anchor; the last one is imitated most.
        n_words: Length to ask for.
        form: What kind of text is wanted, such as "a message in a casual chat".
        task: Whose templates are used.
    """
    values = {"themes": [on_one_line(theme) for theme in themes], "form": form, "n_words": n_words}
    again = Message("user", task.fill("again", **values))
    shown = [
        part for text in texts for part in (Message("assistant", break_turn_marks(text)), again)
    ]
    return (*_ask(task, task.fill("opening", **values)), *shown)


def request_prompt(
    themes: Sequence[str], texts: Sequence[str], *, n_words: int, form: str, task: TaskFormat
) -> tuple[Message, ...]:
    """Ask for a new text that shares something with quoted texts or excerpts, in one message.

    Args:
        themes: What the texts share, in words; one for each feature, or none.
        texts: Texts of the anchor, or excerpts in which the feature is active.
        n_words: Length to ask for.
        form: What kind of text is wanted.
        task: Whose templates are used.
    """
    quoted, theme = [_quoted(text) for text in texts], _joined(themes)
    return _ask(task, task.fill("first", theme=theme, texts=quoted, form=form, n_words=n_words))


def second_prompt(
    themes: Sequence[str], strong: str, weak: str, *, form: str, task: TaskFormat
) -> tuple[Message, ...]:
    """Step 2: ask again, with a strong and, if there is one, a weak example of the feature."""
    shown = {"strong": _quoted(strong), "weak": _quoted(weak) if weak else ""}
    return _ask(task, task.fill("second", theme=_joined(themes), form=form, **shown))


def with_tools(
    messages: Sequence[Message], tools: Sequence[str], task: TaskFormat
) -> tuple[Message, ...]:
    """A prompt that also says what tools the assistant has, if any."""
    if not tools:
        return tuple(messages)
    *before, last = messages
    told = task.fill("tools", tools=tool_lines(tools))
    return (*before, replace(last, content=f"{last.content} {told}"))


def completion_prompt(task: TaskFormat, text: str, *, flaw: str = "") -> tuple[Message, ...]:
    """Ask for what a written text lacks to be a sample of the task.

    Args:
        task: A task with a completion that is asked for by its own template.
        text: What was written.
        flaw: What is to be wrong with the rejected answer of a pair.
    """
    # Lines stay: a text may be a list or code, and its answer depends on them.
    return _ask(task, task.fill("ask", text=fence(text), flaw=flaw))


def check_prompt(task: TaskFormat, text: str, first: str, second: str) -> tuple[Message, ...]:
    """Ask which of two labels, answers or options is the right one for a text."""
    shown = {"first": fence(first), "second": fence(second)}
    return _ask(task, task.fill("check", text=fence(text), **shown))


def next_prompt(task: TaskFormat, messages: Sequence[Message]) -> tuple[Message, ...]:
    """Ask for the user's next message of a conversation."""
    roles = {"user": "person"}
    turns = [{"role": roles.get(m.role, m.role), "text": fence(m.content)} for m in messages]
    return _ask(task, task.fill("next", turns=turns))


def written_text(reply: Outcome | None, *, max_words: int | None = None) -> str:
    """The text of a reply without what is around it, cut to whole sentences if it is too long.

    Args:
        reply: What the generator answered, if anything; a truncated answer without a whole
            sentence has no text.
        max_words: Longest text; one whose first sentence is longer is not cut.
    """
    if not isinstance(reply, ChatReply):
        return ""
    text = clean_reply(reply.text)
    if not reply.truncated and (max_words is None or count_words(text) <= max_words):
        return text
    return whole_sentences(text, max_words=max_words) or ("" if reply.truncated else text)


def clean_reply(text: str) -> str:
    r"""A generator's answer without what small models put around it.

    >>> clean_reply('Sure, here is one:\n\n"I love the sea."')
    'I love the sea.'
    """
    lines = text.strip().splitlines()
    if len(lines) > 1 and _is_preface(lines[0], lines[1]):
        lines = lines[1:]
    text = "\n".join(lines).strip()
    label, colon, rest = text.partition(":")
    if colon and label.strip().strip("*#").lower() in _LABELS:
        text = rest.strip().removeprefix("**").strip()
    text = text.removeprefix("<text>").removesuffix("</text>").strip()
    for quote, end in ('""', "“”", "''"):
        if len(text) > 1 and text[0] == quote and text[-1] == end and quote not in text[1:-1]:
            text = text[1:-1].strip()
    return text


def whole_sentences(text: str, *, max_words: int | None = None) -> str:
    r"""The longest beginning of a text that ends with a sentence; empty without one.

    Args:
        text: What is too long, or was cut off.
        max_words: Most words of the beginning.

    >>> whole_sentences('What is tea? "I like it." It is mo')
    'What is tea? "I like it."'
    >>> whole_sentences("What is tea? I like it.", max_words=4)
    'What is tea?'
    """
    found = ""
    for end in find_sentence_ends(text):
        beginning = text[:end].strip()
        if max_words is not None and count_words(beginning) > max_words:
            break
        found = beginning
    return found


def _is_preface(first: str, second: str) -> bool:
    """Whether the first line only announces the text."""
    line = first.strip().lower()
    if line.endswith(":"):
        return line.startswith((*_OPENINGS, *_TITLES))
    return line.startswith(_OPENINGS) and not second.strip()


def _ask(task: TaskFormat, request: str) -> tuple[Message, ...]:
    return (Message("system", task.fill("system")), Message("user", request))


def _quoted(text: str) -> str:
    """An excerpt between tags, on one line."""
    return fence(" ".join(text.split()))


def _joined(themes: Sequence[str]) -> str:
    return "; ".join(on_one_line(theme) for theme in themes)
