"""Asking an LLM about many features: stop when too many calls fail, count calls before them."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import TypeVar

from pydantic import BaseModel

from facsynth.chat.model import ChatFailure, ChatModel, ChatReply, ChatRequest
from facsynth.chat.structured import ask_structured
from facsynth.errors import ChatError
from facsynth.progress import SILENT, Progress

__all__ = ["RecordingChat", "ask_all"]

T = TypeVar("T", bound=BaseModel)

_SLICE = 256
_FEWEST = 20
"""Calls before the share of failures counts; fewer may all but one fail."""


class RecordingChat:
    """A chat model that answers nothing and remembers what it was asked, for estimates.

    Behind a cache it is asked exactly what the model of that name would be asked.
    """

    def __init__(self, name: str) -> None:
        """Stand in for the model of this name."""
        self.name = name
        self.requests: list[ChatRequest] = []
        """Every request so far."""

    def reply(
        self, requests: Sequence[ChatRequest], *, on_done: Callable[[int], None] | None = None
    ) -> list[ChatReply | ChatFailure]:
        """Remember the requests; each of them fails."""
        self.requests += requests
        if on_done is not None:
            on_done(len(requests))
        return [ChatFailure("not asked: this is an estimate") for _ in requests]


def ask_all(
    chat: ChatModel,
    requests: Sequence[ChatRequest],
    schema: type[T],
    *,
    what: str,
    max_failure_share: float,
    complaint: Callable[[int, T], str] | None = None,
    progress: Progress = SILENT,
) -> list[T | ChatFailure]:
    """Ask for structured replies; stop early when too many are unusable.

    What failed is said at the end, with the most frequent reason.

    Args:
        chat: Any chat model; behind a cache, what was answered stays.
        requests: What to ask.
        schema: Form of a reply.
        what: What is asked for, in the plural, for messages.
        max_failure_share: Largest share of failures among 20 or more calls. Fewer calls stop
            when all of them fail, unless the share is 1.
        complaint: Says of the reply to the request at a position what makes it unusable although
            it has the form; "" for a good one.
        progress: Where the bar goes.

    Returns:
        One value or recorded failure per request, in order.

    Raises:
        ChatError: More than that share failed; the message has the most frequent reason.
    """

    def checked(position: int, value: T | ChatFailure) -> T | ChatFailure:
        if complaint is None or isinstance(value, ChatFailure):
            return value
        said = complaint(position, value)
        return ChatFailure(said) if said else value

    values: list[T | ChatFailure] = []
    with progress.task(what, len(requests), "calls") as task:
        for start in range(0, len(requests), _SLICE):
            part = requests[start : start + _SLICE]
            replies = ask_structured(chat, part, schema, hint=False, on_done=task.advance)
            values += [checked(start + i, value) for i, value in enumerate(replies)]
            _check(values, what, max_failure_share)
    if reasons := _reasons(values):
        reason, n_times = reasons.most_common(1)[0]
        progress.say(
            f"{reasons.total():,} of {len(values):,} {what} failed; {n_times:,} times: {reason}"
        )
    return values


def _reasons(values: Sequence[object]) -> Counter[str]:
    return Counter(value.reason for value in values if isinstance(value, ChatFailure))


def _check(values: Sequence[object], what: str, max_failure_share: float) -> None:
    reasons = _reasons(values)
    n_failed, allowed = reasons.total(), max_failure_share
    if len(values) < _FEWEST and max_failure_share < 1:
        allowed = (len(values) - 1) / len(values)
    if n_failed <= allowed * len(values):
        return
    reason, n_times = reasons.most_common(1)[0]
    raise ChatError(
        f"{n_failed} of {len(values)} {what} failed, more than the share of "
        f"{max_failure_share:g} that is allowed; {n_times} times: {reason}; look at the model, or "
        "raise --max-failures; usable replies are kept and not asked for again"
    )
