"""What calls have cost, and an estimate of their cost before they are made."""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Protocol, runtime_checkable

from facsynth.chat.model import ChatModel, ChatRequest, estimate_tokens
from facsynth.chat.settings import Generator, Policy, ReplySettings

__all__ = [
    "CountedChatModel",
    "Estimate",
    "LimitedChatModel",
    "Usage",
    "estimate",
    "policy_of",
    "shaped",
    "total_of",
]

_TOKENS_PER_MESSAGE = 4
"""Template tokens around a message; typical of chat templates."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What has been spent."""

    n_calls: int = 0
    """Attempts that were started, failed and repeated ones too."""

    n_failures: int = 0
    """Requests that ended without a usable reply."""

    prompt_tokens: int = 0
    """Tokens of the requests."""

    completion_tokens: int = 0
    """Tokens of the answers."""

    @property
    def tokens(self) -> int:
        """Tokens of requests and answers together."""
        return self.prompt_tokens + self.completion_tokens

    def plus(self, other: "Usage") -> "Usage":
        """The sum of both."""
        return Usage(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(self)))


@dataclass(frozen=True, slots=True)
class Estimate:
    """What requests may cost, before any call; a rule of thumb, see `estimate_tokens`."""

    n_calls: int
    """Number of requests."""

    prompt_tokens: int
    """Estimated tokens of the requests: characters / 4, plus 4 for each message."""

    max_completion_tokens: int
    """Tokens if every reply had its full length; replies usually end earlier."""

    max_cost: float | None
    """Price of both, in the currency of the prices; 0 for a local model, None where an endpoint's
    prices are not given."""

    @property
    def max_tokens(self) -> int:
        """Tokens of requests and full-length answers together."""
        return self.prompt_tokens + self.max_completion_tokens

    @property
    def shown_cost(self) -> float | str:
        """The price, or why there is none."""
        return "prices not given" if self.max_cost is None else self.max_cost

    def plus(self, other: "Estimate", times: int = 1) -> "Estimate":
        """With as many of another estimate."""
        return Estimate(
            self.n_calls + times * other.n_calls,
            self.prompt_tokens + times * other.prompt_tokens,
            self.max_completion_tokens + times * other.max_completion_tokens,
            _sum(self.max_cost, other.max_cost, times),
        )

    def __str__(self) -> str:
        cost = self.shown_cost
        said = cost if isinstance(cost, str) else f"cost up to about {cost:.4f}"
        return (
            f"{self.n_calls:,} calls, about {self.prompt_tokens:,} prompt tokens, at most "
            f"{self.max_completion_tokens:,} reply tokens" + (f", {said}" if cost else "")
        )


def _sum(one: float | None, other: float | None, times: int) -> float | None:
    return None if one is None or other is None else one + times * other


def shaped(request: ChatRequest, replies: ReplySettings, thinking_tokens: int) -> ChatRequest:
    """A request as an endpoint is asked: the user's lengths and sampling, and room to think."""
    given = (replies.reply_tokens, replies.temperature, replies.top_p)
    needed = (request.max_tokens, request.temperature, request.top_p)
    pairs = zip(given, needed, strict=True)
    length, temperature, top_p = (b if a is None else a for a, b in pairs)
    n_tokens = int(length) + thinking_tokens
    return replace(request, max_tokens=n_tokens, temperature=temperature, top_p=top_p)


def estimate(
    requests: Sequence[ChatRequest], generator: Generator | Policy | None = None
) -> Estimate:
    """What the requests may cost, without calling anything.

    Args:
        requests: What would be asked; repeated attempts and repairs of replies come on top.
        generator: Prices, and how long an endpoint's replies may be; or the prices alone.

    Returns:
        Counts by heuristics, with every reply at its full length.
    """
    n_in = sum(
        estimate_tokens(message.content) + _TOKENS_PER_MESSAGE
        for request in requests
        for message in request.messages
    )
    replies = generator.replies if isinstance(generator, Generator) else ReplySettings()
    n_out = sum(shaped(request, replies, 0).max_tokens for request in requests)
    return total_of(len(requests), n_in, n_out, generator)


def total_of(
    n_calls: int, n_prompt: int, n_out: int, generator: Generator | Policy | None
) -> Estimate:
    """An estimate from its parts, with room to think in each reply of an endpoint."""
    is_remote = True
    if isinstance(generator, Generator):
        is_remote = bool(generator.chat_model)
        n_out += n_calls * generator.endpoint.thinking_tokens * is_remote
        generator = generator.policy
    policy = generator or Policy()
    is_known = policy.has_prices or not (is_remote and n_calls)
    return Estimate(n_calls, n_prompt, n_out, policy.cost(n_prompt, n_out) if is_known else None)


@runtime_checkable
class LimitedChatModel(ChatModel, Protocol):
    """A chat model that comes with a policy."""

    @property
    def policy(self) -> Policy:
        """What may be spent, and how many calls may fail."""


@runtime_checkable
class CountedChatModel(ChatModel, Protocol):
    """A chat model that tells what its calls have cost."""

    @property
    def spent(self) -> str:
        """Calls, tokens and cost so far, in words."""


def policy_of(chat: ChatModel) -> Policy:
    """The policy that a chat model comes with; the default one for a model without."""
    return chat.policy if isinstance(chat, LimitedChatModel) else Policy()
