"""Asking a model many things under one policy: until the budget is spent, or too many fail."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Generic, TypeVar, overload

from pydantic import BaseModel

from facsynth.chat.model import (
    ChatFailure,
    ChatModel,
    ChatReply,
    ChatRequest,
    OnOutcomes,
    Outcome,
    deliver,
)
from facsynth.chat.policy import CountedChatModel, policy_of
from facsynth.chat.structured import read_reply, repair_request, reply_schema
from facsynth.errors import BudgetError, ChatError
from facsynth.progress import SILENT, Progress, Task

__all__ = ["Asked", "ask"]

R = TypeVar("R")
T = TypeVar("T", bound=BaseModel)

_SHOWN_REASON = 60
"""Characters of a reason that are shown beside the bar."""

_N_REASONS = 3
"""Most reasons of failures that are named at the end."""

_SLICE = 256
"""Requests after which the share of failures is checked."""


@dataclass(frozen=True)
class Asked(Generic[R]):
    """What came of a list of requests."""

    outcomes: tuple[R | ChatFailure | None, ...]
    """A value or a recorded failure per request, in order; None where the budget allowed no call
    or no repair."""

    stopped: str | None = None
    """Which limit ended the asking; None if every request was asked."""

    def complete(self) -> list[R | ChatFailure]:
        """All outcomes.

        Raises:
            BudgetError: The budget did not allow every request.
        """
        if self.stopped is not None:
            raise BudgetError(self.stopped)
        return [outcome for outcome in self.outcomes if outcome is not None]


@overload
def ask(
    chat: ChatModel, requests: Sequence[ChatRequest], *, what: str, progress: Progress = SILENT
) -> Asked[ChatReply]: ...


@overload
def ask(
    chat: ChatModel,
    requests: Sequence[ChatRequest],
    *,
    what: str,
    schema: type[T],
    complaint: Callable[[int, T], str] | None = None,
    progress: Progress = SILENT,
) -> Asked[T]: ...


def ask(
    chat: ChatModel,
    requests: Sequence[ChatRequest],
    *,
    what: str,
    schema: type[BaseModel] | None = None,
    complaint: Callable[[int, Any], str] | None = None,
    progress: Progress = SILENT,
) -> Asked[Any]:
    """Ask a model many things, under the policy that it comes with.

    The first call that does not fit into the budget ends the asking; what was answered before it
    is returned. The number of failures, with the most frequent reasons, is reported at the end.

    Args:
        chat: Any chat model; behind a cache, no reply is asked for twice.
        requests: What to ask.
        what: What is asked for, in the plural, for messages.
        schema: Form of a reply; one that does not fit is asked for once more. Without it replies
            are texts.
        complaint: Says of the value for the request at a position what makes it unusable although
            it has the form; empty for a good one.
        progress: Where the bar goes.

    Raises:
        ChatError: More replies are unusable than the policy allows.
    """
    outcomes: list[Any] = []
    stopped: str | None = None
    with progress.task(what, len(requests), "calls") as task:
        watch = _Watch(chat, task)
        for start in range(0, len(requests), _SLICE):
            part = _Part(chat, requests[start : start + _SLICE], schema, watch.advance)
            stopped = part.ask()
            for position, value in enumerate(part.values, start):
                if complaint and value is not None and not isinstance(value, ChatFailure):
                    said = complaint(position, value)
                    value = ChatFailure(said) if said else value
                outcomes.append(value)
            _check_failures(outcomes, what, chat, progress, is_last=len(outcomes) == len(requests))
            if stopped is not None:
                break
    outcomes += [None] * (len(requests) - len(outcomes))
    return Asked(tuple(outcomes), stopped)


class _Watch:
    """Tells how far the asking is, what it has cost, and why calls fail."""

    def __init__(self, chat: ChatModel, task: Task) -> None:
        self._chat, self._task = chat, task
        self._failed: Counter[str] = Counter()

    def advance(self, values: Sequence[object]) -> None:
        """Count requests that have ended, with their values or failures."""
        failures = (value for value in values if isinstance(value, ChatFailure))
        self._failed.update(failure.reason[:_SHOWN_REASON] for failure in failures)
        said = [self._chat.spent] if isinstance(self._chat, CountedChatModel) else []
        if n_failed := self._failed.total():
            shown = ", ".join(f"{n:,} × {why}" for why, n in self._failed.most_common(2))
            said.append(f"{n_failed:,} failed: {shown}")
        self._task.advance(len(values), "; ".join(filter(None, said)))


class _Part:
    """Some requests and what came of each."""

    def __init__(
        self,
        chat: ChatModel,
        requests: Sequence[ChatRequest],
        schema: type[BaseModel] | None,
        advance: Callable[[Sequence[object]], None],
    ) -> None:
        self._chat, self._schema, self._advance = chat, schema, advance
        form = None if schema is None else reply_schema(schema)
        self._requests = [
            replace(request, schema=form) if form else request for request in requests
        ]
        self.values: list[Any] = [None] * len(requests)
        self._unfit: dict[int, ChatReply] = {}
        """Replies that do not have the form."""

    def ask(self) -> str | None:
        """Ask, and repair once; which limit ended it."""
        stopped = self._deliver(self._requests, self._take)
        order = sorted(self._unfit)
        failures = {position: self.values[position] for position in order}
        for position in order:
            self.values[position] = None
        if order and stopped is None:
            repairs = [
                repair_request(self._requests[p], self._unfit[p], failures[p].reason) for p in order
            ]
            stopped = self._deliver(
                repairs, lambda arrived: self._take_repaired([(order[n], o) for n, o in arrived])
            )
        return stopped

    def _deliver(self, requests: Sequence[ChatRequest], take: OnOutcomes) -> str | None:
        try:
            deliver(
                self._chat, requests, lambda arrived: take([(n, _whole(o)) for n, o in arrived])
            )
        except BudgetError as error:
            return str(error)
        return None

    def _take(self, arrived: Sequence[tuple[int, Outcome]]) -> None:
        for position, outcome in arrived:
            value = outcome if self._schema is None else read_reply(outcome, self._schema)
            self.values[position] = value
            if isinstance(outcome, ChatReply) and isinstance(value, ChatFailure):
                self._unfit[position] = outcome
        self._advance([self.values[p] for p, _ in arrived if p not in self._unfit])

    def _take_repaired(self, arrived: Sequence[tuple[int, Outcome]]) -> None:
        assert self._schema is not None
        for position, outcome in arrived:
            value = read_reply(outcome, self._schema)
            if isinstance(value, ChatFailure):
                first = self._unfit[position]
                value = ChatFailure(
                    f"{value.reason} (after one repair)",
                    value.prompt_tokens + first.prompt_tokens,
                    value.completion_tokens + first.completion_tokens,
                )
            self.values[position] = value
        self._advance([self.values[position] for position, _ in arrived])


def _whole(outcome: Outcome) -> Outcome:
    """The outcome without halves of characters, which some servers send and no file holds."""
    if isinstance(outcome, ChatFailure):
        return outcome
    return replace(outcome, text=outcome.text.encode(errors="ignore").decode())


def _check_failures(
    outcomes: Sequence[object], what: str, chat: ChatModel, progress: Progress, *, is_last: bool
) -> None:
    """Raise a ChatError if too many failed; at the end say how many did."""
    reasons = Counter(outcome.reason for outcome in outcomes if isinstance(outcome, ChatFailure))
    if not reasons:
        return
    n_failed, n_asked = reasons.total(), sum(outcome is not None for outcome in outcomes)
    why = "; ".join(f"{n:,} times: {reason}" for reason, n in reasons.most_common(_N_REASONS))
    said = f"{n_failed:,} of {n_asked:,} {what} from {chat.name} failed"
    share = policy_of(chat).max_failures
    if n_failed > share * n_asked:
        raise ChatError(
            f"{said}, more than the allowed share of {share:g}; {why}; check "
            "the model or raise --max-failures, and run again to resume: usable replies are kept"
        )
    if is_last:
        progress.say(f"{said}; {why}")
