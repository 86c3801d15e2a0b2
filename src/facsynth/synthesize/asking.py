"""Asking the generator for many texts; a few failures are recorded, many end the run.

A budget that is spent ends the asking, not the run: what was answered before it is worked with.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from facsynth.chat.budget import replies_within_budget
from facsynth.chat.model import (
    ChatFailure,
    ChatModel,
    ChatRequest,
    OnOutcomes,
    Outcome,
    collect,
    deliver,
)
from facsynth.errors import BudgetError, ChatError
from facsynth.progress import Progress

__all__ = ["NOT_ASKED", "Asked", "WithinBudget", "ask", "check_failures"]

NOT_ASKED = "not asked: budget"
_MAX_FAILED_SHARE = 0.5


@dataclass(frozen=True)
class Asked:
    """What came of a list of requests."""

    outcomes: tuple[Outcome | None, ...]
    """One per request, in their order; None where the budget allowed no call."""

    stopped: str | None
    """What the budget said; None when every request was put."""


def ask(
    requests: Sequence[ChatRequest], chat: ChatModel, *, name: str, progress: Progress
) -> Asked:
    """Put requests to the generator, as many as its budget allows.

    Args:
        requests: What to ask.
        chat: Who is asked.
        name: Words beside the progress bar.
        progress: Where the bar is drawn.

    Raises:
        ChatError: More than half of the requests that were put failed.
    """
    with progress.task(name, len(requests), "texts") as task:
        outcomes, stopped = replies_within_budget(chat, requests, on_done=lambda n: task.advance(n))
    failures = [outcome.reason for outcome in outcomes if isinstance(outcome, ChatFailure)]
    n_put = sum(outcome is not None for outcome in outcomes)
    check_failures(failures, n_put=n_put, name=chat.name)
    return Asked(tuple(outcome and _writable(outcome) for outcome in outcomes), stopped)


def check_failures(reasons: Sequence[str], *, n_put: int, name: str) -> None:
    """Raise a ChatError when more than half of the requests that were put failed."""
    if len(reasons) > _MAX_FAILED_SHARE * n_put:
        raise ChatError(
            f"{len(reasons)} of {n_put} requests to {name} failed, the first with: "
            f"{reasons[0]}; check the endpoint and run the command again, which goes on from here"
        )


class WithinBudget:
    """Answers what the budget of another model allows; the rest are failures named `NOT_ASKED`."""

    def __init__(self, chat: ChatModel) -> None:
        """Wrap a model, usually with a `BudgetedChat` in it."""
        self._chat = chat
        self.name = chat.name
        self.stopped: str | None = None
        """What the budget said first, if anything."""

    def reply(
        self, requests: Sequence[ChatRequest], *, on_done: Callable[[int], None] | None = None
    ) -> list[Outcome]:
        """Answer the requests in order."""
        return collect(self, requests, on_done=on_done)

    def stream(self, requests: Sequence[ChatRequest], on_outcomes: OnOutcomes) -> None:
        """Answer the requests and pass on what comes; see `StreamingChatModel`."""
        left = set(range(len(requests)))

        def note(arrived: Sequence[tuple[int, Outcome]]) -> None:
            left.difference_update(position for position, _ in arrived)
            on_outcomes([(position, _writable(outcome)) for position, outcome in arrived])

        try:
            deliver(self._chat, requests, note)
        except BudgetError as error:
            self.stopped = self.stopped or str(error)
            on_outcomes([(position, ChatFailure(NOT_ASKED)) for position in sorted(left)])


def _writable(outcome: Outcome) -> Outcome:
    """The outcome without halves of characters, which some servers send and no file holds."""
    if isinstance(outcome, ChatFailure):
        return outcome
    return replace(outcome, text=outcome.text.encode(errors="ignore").decode())
