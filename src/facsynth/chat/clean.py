"""What a reply says, without what models and servers leave around it.

Servers differ in how much of a model's output they take apart. Some hand on the thinking of a
reasoning model, in one of several notations, cut off or without its opening mark; some hand on
the marks that end a turn, and what the model wrote behind them in somebody else's role; some send
a list of parts in place of a text.
"""

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple

__all__ = ["CleanReply", "clean_reply", "is_mark", "opened_thinking"]

_THINKING = (
    ("<think>", "</think>"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("[THINK]", "[/THINK]"),
    ("◁think▷", "◁/think▷"),
    ("<|channel>thought", "<channel|>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
)
"""Marks around thinking, of DeepSeek, Qwen, GLM, Seed, Magistral, Kimi, Gemma and Command."""

_HARMONY = re.compile(r"<\|channel\|>(\w+)[^<]*<\|message\|>")
"""Head of a message in gpt-oss' harmony notation; the channel `final` holds the answer."""

_HEADER = re.compile(
    r"\s*(?:<\|im_start\|>\s*assistant\s*\n?|<start_of_turn>model\s*\n?|<\|start\|>assistant"
    r"|<\|start_header_id\|>assistant<\|end_header_id\|>|<\|assistant\|>|<\|START_RESPONSE\|>"
    r"|<s>|<\|begin_of_text\|>|<bos>)"
)
"""Opening of the assistant's own turn, repeated by the model."""

_END = re.compile(
    r"<\|(?:im_end|im_start|eot_id|eom_id|end_of_text|endoftext|end|return|call|start_header_id|start"
    r"|user|assistant|system|observation|END_RESPONSE|END_OF_TURN_TOKEN)\|>"
    r"|</s>|<end_of_turn>|<start_of_turn>|<eos>|<end_of_utterance>|\[/?INST\]|<｜end▁of▁sentence｜>"
)
"""Marks that end a turn or begin another; nothing behind the first of them is the answer."""


class CleanReply(NamedTuple):
    """A reply taken apart."""

    text: str
    """The answer; empty where there is none."""

    thinking: str
    """What the model thought before it, without the marks."""

    is_cut_off: bool
    """Whether the thinking never ended, so that no answer was reached."""


def clean_reply(content: str | Sequence[object] | None) -> CleanReply:
    """The answer in a reply, and the thinking in front of it.

    Marks are looked for where models write them: thinking stands in front of the answer, so a
    text that mentions `<think>` further in keeps it. A reply that is JSON is all answer: marks
    in its strings are what it tells about.

    Args:
        content: `content` of the message: a text, a list of parts, or null.
    """
    if content is None:
        return CleanReply("", "", False)
    if not isinstance(content, str):
        answer, thinking = _join_parts(content)
        cleaned = clean_reply(answer)
        return cleaned._replace(thinking="\n".join(filter(None, [thinking, cleaned.thinking])))
    if _is_json(content):
        return CleanReply(content.strip(), "", False)
    text = _HEADER.sub("", content, count=1) if _HEADER.match(content) else content
    if "<|channel|>" in text[:200]:
        return _from_harmony(text)
    thoughts: list[str] = []
    while block := _leading_block(text, is_first=not thoughts):
        thought, rest = block
        thoughts.append(thought.strip())
        if rest is None:
            return CleanReply("", "\n".join(thoughts), True)
        text = rest
    return CleanReply(_before_end(text), "\n".join(filter(None, thoughts)), False)


def is_mark(token: str) -> bool:
    """Whether a token, as text, begins a mark that tells thinking from the answer."""
    marks = ("<|channel|>", "<|message|>", *(mark for pair in _THINKING for mark in pair))
    return bool(token.strip()) and any(mark.startswith(token.strip()) for mark in marks)


def opened_thinking(prompt: str) -> str:
    """The opening mark at the end of a rendered prompt, which the reply then lacks; or nothing."""
    end = prompt.rstrip()
    return next((opening for opening, _ in _THINKING if end.endswith(opening)), "")


def _is_json(text: str) -> bool:
    with suppress(ValueError, RecursionError):
        return isinstance(json.loads(text), dict | list)
    return False


def _leading_block(text: str, *, is_first: bool) -> tuple[str, str | None] | None:
    """Thinking in front of a text, and the text behind it; None where it never ends."""
    start = text.lstrip()
    for opening, closing in _THINKING:
        if start.startswith(opening):
            thought, mark, rest = start.removeprefix(opening).partition(closing)
            return thought, rest if mark else None
        # Templates that open the thinking themselves leave only its end in the reply.
        thought, mark, rest = text.partition(closing)
        if is_first and mark and opening not in thought:
            return thought, rest
    return None


def _before_end(text: str) -> str:
    text = _HEADER.sub("", text, count=1) if _HEADER.match(text) else text
    return _END.split(text, maxsplit=1)[0].strip()


def _join_parts(parts: Sequence[object]) -> tuple[str, str]:
    """The texts of a list of parts, and the thinking among them."""
    texts, thoughts = [], []
    for part in parts:
        if isinstance(part, str):
            texts.append(part)
        elif not isinstance(part, dict):
            continue
        elif part.get("type") in ("thinking", "reasoning"):
            inner = part.get("thinking") or part.get("reasoning") or part.get("text") or ""
            thoughts.append(inner if isinstance(inner, str) else _join_parts(inner)[0])
        elif isinstance(part.get("text"), str):
            texts.append(part["text"])
    return "".join(texts), "".join(thoughts)


def _from_harmony(text: str) -> CleanReply:
    """The final channel of a harmony reply; the others are thinking."""
    heads = list(_HARMONY.finditer(text))
    ends = [head.start() for head in heads[1:]] + [len(text)]
    said = {"final": "", "other": ""}
    for head, end in zip(heads, ends, strict=True):
        channel = "final" if head[1] == "final" else "other"
        said[channel] += _before_end(text[head.end() : end])
    has_final = any(head[1] == "final" for head in heads)
    return CleanReply(said["final"], said["other"], not has_final)
