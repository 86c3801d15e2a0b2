"""One protocol behind all LLM calls, and the frozen records that travel through it.

A chat model takes requests and gives back one outcome per request, in order: a reply or a
recorded failure. Endpoints, local models, caches, budgets and fakes all look the same from
outside, so they can be stacked, the cache outermost so that a cached reply costs nothing:
`CachedChat(BudgetedChat(EndpointChat(...), spending), path)`.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol, runtime_checkable

from facsynth.errors import ChatError, DataError
from facsynth.records import Message

__all__ = [
    "BatchedChatModel",
    "ChatFailure",
    "ChatModel",
    "ChatReply",
    "ChatRequest",
    "MeteredChatModel",
    "OnOutcomes",
    "Outcome",
    "Permit",
    "RAW",
    "ReplySchema",
    "StreamingChatModel",
    "collect",
    "deliver",
    "estimate_tokens",
]

RAW = "raw"
"""Role of the only message of a request for a plain continuation: its content is the whole prompt,
which no chat template surrounds."""

_SLICE = 64
"""Requests handed at once to a model that cannot stream."""


@dataclass(frozen=True, slots=True)
class ReplySchema:
    """The JSON form that a reply must have."""

    name: str
    """Letters, digits, `_` and `-`, as servers ask for."""

    json_schema: str
    """The JSON schema, as JSON text, so that a request can be hashed."""


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """One call of an LLM: what is said, and how the reply is drawn."""

    messages: tuple[Message, ...]
    """The conversation so far; the reply is the next turn of the assistant."""

    seed: int = 0
    """Seed of the sampling; ask again with another one for another reply."""

    max_tokens: int = 256
    """Most tokens of the reply."""

    temperature: float = 0.8
    """Temperature of the sampling; 0 takes the most likely token each time."""

    top_p: float = 0.9
    """Share of the probability mass that is sampled from, in (0, 1]."""

    schema: ReplySchema | None = None
    """JSON form of the reply, for servers that can enforce one."""

    def __post_init__(self) -> None:
        if not self.messages:
            raise DataError("a chat request has no messages; give at least one user turn")
        if self.max_tokens < 1:
            raise DataError(f"max_tokens is {self.max_tokens}; it must be at least 1")
        if not 0 <= self.temperature < float("inf"):
            raise DataError(f"temperature is {self.temperature}; it must be 0 or more")
        if not 0 < self.top_p <= 1:
            raise DataError(f"top_p is {self.top_p}; it must be in (0, 1]")

    @property
    def is_raw(self) -> bool:
        """Whether its only message is a prompt that is continued without a chat template."""
        return len(self.messages) == 1 and self.messages[0].role == RAW

    @property
    def key(self) -> str:
        """SHA-256 over everything that shapes the reply, as 64 hexadecimal digits."""
        schema = None if self.schema is None else [self.schema.name, self.schema.json_schema]
        parts = [
            [[message.role, message.content] for message in self.messages],
            self.seed,
            self.max_tokens,
            float(self.temperature),
            float(self.top_p),
            schema,
        ]
        return sha256(json.dumps(parts).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class ChatReply:
    """What a model answered."""

    text: str
    """The answer as it came, never empty."""

    prompt_tokens: int
    """Tokens of the request, as the model counts them."""

    completion_tokens: int
    """Tokens of the answer, as the model counts them."""

    cached: bool = False
    """Whether the reply came from a cache and cost nothing now."""

    truncated: bool = False
    """Whether `max_tokens` ended the answer; its text is kept."""


@dataclass(frozen=True, slots=True)
class ChatFailure:
    """A call without a usable reply; a failure is never data."""

    reason: str
    """What happened, in one line."""

    prompt_tokens: int = 0
    """Tokens spent on the request all the same."""

    completion_tokens: int = 0
    """Tokens spent on an unusable answer."""


Outcome = ChatReply | ChatFailure
"""What becomes of a request."""

OnOutcomes = Callable[[Sequence[tuple[int, Outcome]]], None]
"""Takes outcomes as they arrive, each with the position of its request."""

Permit = Callable[[ChatRequest, bool], None]
"""Called before each attempt with its request and whether an attempt was made before; an error
from it, such as a `BudgetError`, starts no further attempt."""


@runtime_checkable
class ChatModel(Protocol):
    """Anything that answers chat requests."""

    @property
    def name(self) -> str:
        """Identity of the model: two models of one name give the same replies."""

    def reply(
        self, requests: Sequence[ChatRequest], *, on_done: Callable[[int], None] | None = None
    ) -> list[ChatReply | ChatFailure]:
        """Answer the requests: one outcome each, in their order.

        Args:
            requests: What to ask.
            on_done: Called with the number of outcomes that have arrived since the last call.
        """


@runtime_checkable
class StreamingChatModel(ChatModel, Protocol):
    """A chat model that hands out outcomes while others are still under way."""

    def stream(self, requests: Sequence[ChatRequest], on_outcomes: OnOutcomes) -> None:
        """Answer the requests and pass each outcome on, once, as it arrives.

        `on_outcomes` runs in the thread of the caller. When it raises, or on Ctrl-C, no new call
        starts, what is under way is passed on, and then the exception is raised.
        """


@runtime_checkable
class MeteredChatModel(StreamingChatModel, Protocol):
    """A model that repeats failed attempts by itself and asks before each."""

    def stream(
        self, requests: Sequence[ChatRequest], on_outcomes: OnOutcomes, *, permit: Permit = ...
    ) -> None:
        """Like `StreamingChatModel.stream`, with `permit` called before each attempt."""

    @property
    def is_metered(self) -> bool:
        """True; wrappers that do not pass `permit` on lack it."""

    def shaped(self, request: ChatRequest) -> ChatRequest:
        """The request as it is asked, with the user's lengths and room to think."""


@runtime_checkable
class BatchedChatModel(StreamingChatModel, Protocol):
    """A model whose replies depend on the batch that a request is in.

    Running the requests of one batch by themselves gives the same outcomes as running the whole
    list, so a cache that keeps or drops batches as a whole makes a restarted run end with the
    texts of an undisturbed one.
    """

    @property
    def deterministic_batches(self) -> bool:
        """Whether the promise above holds; wrappers pass on the answer of what they wrap."""

    def batches(self, requests: Sequence[ChatRequest]) -> list[list[int]]:
        """Positions of the requests that run together: consecutive, and each exactly once."""


def deliver(model: ChatModel, requests: Sequence[ChatRequest], on_outcomes: OnOutcomes) -> None:
    """Ask any chat model and pass outcomes on as early as it can.

    Args:
        model: A streaming model passes on each outcome; any other one is asked in slices.
        requests: What to ask.
        on_outcomes: Takes the outcomes; see `StreamingChatModel.stream`.

    Raises:
        ChatError: The model gave back a wrong number of outcomes.
    """
    if isinstance(model, StreamingChatModel):
        model.stream(requests, on_outcomes)
        return
    for start in range(0, len(requests), _SLICE):
        part = requests[start : start + _SLICE]
        outcomes = model.reply(part)
        if len(outcomes) != len(part):
            raise ChatError(
                f"chat model {model.name} gave {len(outcomes)} outcomes for {len(part)} requests; "
                "`reply` must return exactly one each"
            )
        on_outcomes(list(enumerate(outcomes, start)))


def collect(
    model: ChatModel,
    requests: Sequence[ChatRequest],
    *,
    on_done: Callable[[int], None] | None = None,
) -> list[ChatReply | ChatFailure]:
    """Outcomes of a streaming model in the order of the requests; the body of its `reply`."""
    outcomes: list[Outcome | None] = [None] * len(requests)

    def keep(arrived: Sequence[tuple[int, Outcome]]) -> None:
        for position, outcome in arrived:
            outcomes[position] = outcome
        if on_done is not None:
            on_done(len(arrived))

    deliver(model, requests, keep)
    complete = [outcome for outcome in outcomes if outcome is not None]
    assert len(complete) == len(requests), "a request was lost"
    return complete


def estimate_tokens(text: str) -> int:
    """Rough number of tokens of a text: a quarter of its ASCII characters, and all others.

    A rule of thumb for English; code takes more. Chinese and other scripts take about a token a
    character. Use it before a call, never in place of the counts that come back.

    >>> estimate_tokens("twelve chars"), estimate_tokens("你好")
    (3, 2)
    """
    n_ascii = sum(map(str.isascii, text))
    return -(-n_ascii // 4) + len(text) - n_ascii
