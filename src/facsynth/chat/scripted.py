"""Chat models that call nothing: one with a script, for tests, and one for estimates."""

from collections.abc import Callable, Iterator, Sequence

from facsynth.chat.model import (
    ChatFailure,
    ChatReply,
    ChatRequest,
    OnOutcomes,
    Outcome,
    collect,
    estimate_tokens,
)
from facsynth.chat.settings import Policy
from facsynth.errors import ChatError

__all__ = ["RecordingChat", "ScriptedChat"]


class ScriptedChat:
    """Answers from a script, and remembers what it was asked.

    >>> from facsynth.records import Message
    >>> chat = ScriptedChat(lambda request: request.messages[-1].content.upper())
    >>> [reply.text for reply in chat.reply([ChatRequest((Message("user", "hello"),))])]
    ['HELLO']
    >>> len(chat.history)
    1
    """

    def __init__(
        self,
        replies: str | Sequence[str | ChatFailure] | Callable[[ChatRequest], str | ChatFailure],
        *,
        name: str = "scripted",
    ) -> None:
        """Set the script.

        Args:
            replies: One text for every request, texts and failures to use up in order, or a
                function of the request.
            name: Identity of the model, for caches.
        """
        self.name = name
        self.history: list[ChatRequest] = []
        """Every request so far, in order."""
        self._queue: Iterator[str | ChatFailure] = iter(())
        self._answer: Callable[[ChatRequest], str | ChatFailure] = self._next
        if isinstance(replies, str):
            text = replies
            self._answer = lambda request: text
        elif callable(replies):
            self._answer = replies
        else:
            self._queue = iter(tuple(replies))

    def reply(
        self, requests: Sequence[ChatRequest], *, on_done: Callable[[int], None] | None = None
    ) -> list[ChatReply | ChatFailure]:
        """Answer the requests from the script.

        Raises:
            ChatError: The script is used up.
        """
        return collect(self, requests, on_done=on_done)

    def stream(self, requests: Sequence[ChatRequest], on_outcomes: OnOutcomes) -> None:
        """Answer the requests one by one; see `StreamingChatModel`."""
        for position, request in enumerate(requests):
            self.history.append(request)
            on_outcomes([(position, self._outcome(request))])

    def _outcome(self, request: ChatRequest) -> Outcome:
        answer = self._answer(request)
        if isinstance(answer, ChatFailure):
            return answer
        if not answer.strip():
            return ChatFailure("the answer is empty")
        n_prompt = sum(estimate_tokens(message.content) for message in request.messages)
        return ChatReply(answer, n_prompt, estimate_tokens(answer))

    def _next(self, request: ChatRequest) -> str | ChatFailure:
        for answer in self._queue:
            return answer
        raise ChatError(
            f"the script of {self.name} ended before request {len(self.history)}; "
            "give ScriptedChat more replies, or a function"
        )


class RecordingChat:
    """Answers nothing and remembers what it was asked, for estimates.

    Behind a cache it is asked exactly what the model of that name would be asked.
    """

    policy = Policy(max_failures=1.0)
    """Every reply is a failure."""

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
