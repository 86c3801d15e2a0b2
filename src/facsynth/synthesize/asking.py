"""Asking the generator for many texts; a few failures are recorded, many end the run."""

from collections.abc import Sequence
from dataclasses import replace

from facsynth.chat.model import ChatFailure, ChatModel, ChatReply, ChatRequest, Outcome
from facsynth.errors import ChatError
from facsynth.progress import Progress

__all__ = ["ask"]

_MAX_FAILED_SHARE = 0.5


def ask(
    requests: Sequence[ChatRequest], chat: ChatModel, *, name: str, progress: Progress
) -> list[ChatReply | ChatFailure]:
    """One outcome per request, in their order.

    Args:
        requests: What to ask.
        chat: Who is asked.
        name: Words beside the progress bar.
        progress: Where the bar is drawn.

    Raises:
        ChatError: More than half of the requests failed.
    """
    with progress.task(name, len(requests), "texts") as task:
        outcomes = chat.reply(requests, on_done=lambda n: task.advance(n))
    failures = [outcome.reason for outcome in outcomes if isinstance(outcome, ChatFailure)]
    if len(failures) > _MAX_FAILED_SHARE * len(requests):
        raise ChatError(
            f"{len(failures)} of {len(requests)} requests to {chat.name} failed, the first with: "
            f"{failures[0]}; check the endpoint and run the command again, which goes on from here"
        )
    return [_writable(outcome) for outcome in outcomes]


def _writable(outcome: Outcome) -> Outcome:
    """The outcome without halves of characters, which some servers send and no file holds."""
    if isinstance(outcome, ChatFailure):
        return outcome
    return replace(outcome, text=outcome.text.encode(errors="ignore").decode())
