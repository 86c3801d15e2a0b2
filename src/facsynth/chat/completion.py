"""What the answer of an OpenAI-compatible server means, and the server's own words on errors."""

import json
import re
import time
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from facsynth.chat.clean import CleanReply, clean_reply
from facsynth.chat.model import ChatFailure, ChatReply, ChatRequest, Outcome, estimate_tokens

__all__ = ["Fault", "error_in", "parse_body", "read_completion", "retry_seconds", "server_words"]

_CUT_OFF = re.compile(r"length|tokens|limit|context_window|incomplete")
"""Finish reasons, in lower case, of an answer that ran into a limit; every server has its own."""

_FILTERED = re.compile(r"filter|safety|recitation|prohibited|blocklist|sensitive|refusal")
_BROKEN = re.compile(r"error|abort|cancel|insufficient_system_resource")

_TEMPLATE_TOKENS = 20_000
"""More tokens of a prompt than a chat template and a server's own instructions can add."""

_THINKING_TOKENS = 100_000
"""More tokens than a model thinks where the server does not count them in the reply length."""


@dataclass(frozen=True, slots=True)
class Fault:
    """An attempt that failed in a way that another attempt may not."""

    reason: str
    after_s: float | None = None
    """Seconds the server asked to wait."""

    is_limit: bool = False
    """Whether the server turned the call away for its rate."""

    is_connection: bool = False
    """Whether there was no answer at all."""

    is_outage: bool = False
    """Whether the server said that it is not ready."""


def parse_body(body: object) -> object:
    """The JSON of a body that the server sent as another type, such as `text/plain`."""
    if isinstance(body, str):
        with suppress(ValueError, RecursionError):
            return json.loads(body)
    return body


def error_in(body: object) -> tuple[int | None, object] | None:
    """The error that a server put into a successful answer: its number, if any, and itself."""
    if not isinstance(body, dict) or body.get("choices"):
        return None
    error = body.get("error") or body.get("detail") or (body if body.get("message") else None)
    if not error:
        return None
    for code in (error.get("code") if isinstance(error, dict) else None, body.get("code")):
        with suppress(ValueError):
            if isinstance(code, int | str) and 400 <= int(code) < 600:
                return int(code), error
    return None, error


def retry_seconds(retry_after: str | None) -> float | None:
    """Seconds that a `Retry-After` header asks to wait; None without a readable one."""
    if retry_after is None:
        return None
    with suppress(ValueError):
        seconds = float(retry_after)
        return seconds if 0 <= seconds < float("inf") else None
    with suppress(ValueError, TypeError):
        return max(0.0, parsedate_to_datetime(retry_after).timestamp() - time.time())
    return None


def server_words(body: object, *, n_most: int = 300) -> str:
    """What a server says went wrong, in one line; empty where it says nothing.

    Messages come as `error.message`, as a plain `error`, or as FastAPI's list of `detail`s.
    """
    said = " ".join(re.sub(r"<[^<>]*>", " ", _words(body)).split())
    return said if len(said) <= n_most else f"{said[:n_most]}…"


def _words(body: object) -> str:
    match body:
        case str():
            return body
        case list():
            return "; ".join(filter(None, map(_words, body[:5])))
        case {"msg": str(said), **rest}:
            place = rest.get("loc")
            where = ".".join(map(str, place)) if isinstance(place, list) else ""
            return f"{where}: {said}" if where else said
        case dict():
            said = next(filter(None, (_words(body.get(name)) for name in _MESSAGES)), "")
            field = body.get("param")
            return f"{said} ({field})" if said and field and str(field) not in said else said
    return ""


_MESSAGES = ("error", "message", "detail", "error_message", "metadata")
"""Fields that hold a message, or an object that does."""


def read_completion(body: object, request: ChatRequest, hint: str = "") -> Outcome | Fault:
    """What the JSON of a successful call means.

    Args:
        body: The parsed answer.
        request: What was asked.
        hint: What to do about an answer that the length limit ended before it began.
    """
    match body:
        case {"choices": [{"message": dict(message), **choice}, *_], **rest}:
            pass
        case {"choices": [{"text": str(text), **choice}, *_], **rest} if request.is_raw:
            message = {"content": text}
        case _:
            return Fault("the answer is not a chat completion")
    content, finish = message.get("content"), str(choice.get("finish_reason") or "").lower()
    if not isinstance(content, str | list | None):
        return Fault("the answer is not a chat completion")
    reply = clean_reply(content)
    aside = message.get("reasoning_content") or message.get("reasoning")
    thinking = "\n".join(filter(None, [aside if isinstance(aside, str) else "", reply.thinking]))
    n_in, n_out = _usage(rest.get("usage"), request, f"{thinking}{reply.text}")
    if _BROKEN.search(finish) and not _CUT_OFF.search(finish):
        said = server_words(choice.get("error"))
        return Fault(f"the server ended the answer with {finish!r}{said and ': '}{said}")
    reason = _unusable(message, finish, reply, thinking, hint)
    if reason:
        return ChatFailure(reason, n_in, n_out)
    return ChatReply(reply.text, n_in, n_out, truncated=bool(_CUT_OFF.search(finish)))


def _unusable(
    message: dict[str, Any], finish: str, reply: CleanReply, thinking: str, hint: str
) -> str:
    """Why an answer is no reply; empty for a usable one."""
    if message.get("refusal"):
        return "the model refused"
    if _FILTERED.search(finish):
        return "a content filter stopped the answer"
    if reply.text:
        return ""
    if reply.is_cut_off or (_CUT_OFF.search(finish) and thinking):
        return f"the answer is empty: it was cut off while the model was thinking{hint}"
    if _CUT_OFF.search(finish):
        return f"the answer is empty: it was cut off before the first word{hint}"
    if message.get("tool_calls"):
        return "the answer is empty: the model called a tool instead"
    if thinking:
        return "the answer is empty: the server sent only the model's thinking"
    return "the answer is empty"


def _usage(usage: object, request: ChatRequest, text: str) -> tuple[int, int]:
    """Tokens of prompt and answer; estimated where the server's counts cannot be true."""
    counts = usage if isinstance(usage, dict) else {}
    names = ("prompt_tokens", "completion_tokens", "total_tokens")
    n_in, n_out, n_total = (_count(counts.get(name)) for name in names)
    if n_in is not None and n_out is None and n_total is not None:
        n_out = n_total - n_in
    prompt = "".join(turn.content for turn in request.messages)
    # No tokenizer makes more tokens of a text than it has bytes.
    if n_in is None or not 0 < n_in <= len(prompt.encode(errors="replace")) + _TEMPLATE_TOKENS:
        n_in = sum(estimate_tokens(turn.content) for turn in request.messages)
    most = request.max_tokens + len(text.encode(errors="replace")) + _THINKING_TOKENS
    if n_out is None or not bool(text) <= n_out <= most:
        n_out = estimate_tokens(text)
    return n_in, n_out


def _count(value: object) -> int | None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int(value) if value == value and abs(value) < float("inf") else None
