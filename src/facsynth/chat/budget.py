"""What calls cost: an estimate before them, an account of them, and a limit that holds."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from facsynth.chat.cache import ReplyStore
from facsynth.chat.model import (
    BatchedChatModel,
    ChatFailure,
    ChatModel,
    ChatReply,
    ChatRequest,
    OnOutcomes,
    Outcome,
    collect,
    deliver,
    estimate_tokens,
)
from facsynth.errors import BudgetError, DataError

__all__ = [
    "BudgetedChat",
    "Estimate",
    "Limits",
    "Usage",
    "estimate",
    "limited_chat",
    "replies_within_budget",
]

_TOKENS_PER_MESSAGE = 4
"""Template tokens around a message; typical of chat templates."""

_PRICED_TOKENS = 1_000_000


@dataclass(frozen=True, slots=True)
class Limits:
    """What may be spent, and what it costs; a limit that is None does not bind."""

    max_calls: int | None = None
    """Most calls."""

    max_tokens: int | None = None
    """Most tokens of requests and answers together."""

    max_cost: float | None = None
    """Most money, in the currency of the prices."""

    price_in: float = 0.0
    """Price of a million prompt tokens."""

    price_out: float = 0.0
    """Price of a million reply tokens."""

    def __post_init__(self) -> None:
        numbers = (self.max_calls, self.max_tokens, self.max_cost, self.price_in, self.price_out)
        if any(number is not None and not 0 <= number < float("inf") for number in numbers):
            raise DataError(f"limits and prices must be 0 or more, but are {numbers}")
        if self.max_cost is not None and not (self.price_in or self.price_out):
            raise DataError(
                f"max_cost is {self.max_cost} but no price is given; set price_in, price_out"
            )

    def cost(self, n_prompt: int, n_completion: int) -> float:
        """Price of so many tokens."""
        return (n_prompt * self.price_in + n_completion * self.price_out) / _PRICED_TOKENS


@dataclass(frozen=True, slots=True)
class Usage:
    """What has been spent."""

    n_calls: int = 0
    """Calls that ended, failed ones too; retries of a call are not counted again."""

    n_failures: int = 0
    """Calls without a usable reply."""

    prompt_tokens: int = 0
    """Tokens of the requests."""

    completion_tokens: int = 0
    """Tokens of the answers."""

    cost: float = 0.0
    """Price of those tokens, in the currency of the prices."""

    @property
    def tokens(self) -> int:
        """Tokens of requests and answers together."""
        return self.prompt_tokens + self.completion_tokens

    def __str__(self) -> str:
        return f"{self.n_calls} calls, {self.tokens} tokens, cost {self.cost:.4f}"


@dataclass(frozen=True, slots=True)
class Estimate:
    """What requests may cost, before any call; a rule of thumb, see `estimate_tokens`."""

    n_calls: int
    """Number of requests."""

    prompt_tokens: int
    """Estimated tokens of the requests: characters / 4, plus 4 for each message."""

    max_completion_tokens: int
    """Tokens if every reply had its full length; replies usually end earlier."""

    max_cost: float
    """Price of both, in the currency of the prices."""

    @property
    def max_tokens(self) -> int:
        """Tokens of requests and full-length answers together."""
        return self.prompt_tokens + self.max_completion_tokens

    def __str__(self) -> str:
        return (
            f"{self.n_calls} calls, about {self.prompt_tokens} prompt tokens, at most "
            f"{self.max_completion_tokens} reply tokens, cost up to about {self.max_cost:.4f}"
        )


def estimate(
    requests: Sequence[ChatRequest], *, price_in: float = 0.0, price_out: float = 0.0
) -> Estimate:
    """What the requests may cost, without calling anything.

    Args:
        requests: What would be asked; repairs of structured replies come on top.
        price_in: Price of a million prompt tokens.
        price_out: Price of a million reply tokens.

    Returns:
        Counts by heuristics, with every reply at its full length.
    """
    n_in = sum(
        estimate_tokens(message.content) + _TOKENS_PER_MESSAGE
        for request in requests
        for message in request.messages
    )
    n_out = sum(request.max_tokens for request in requests)
    cost = Limits(price_in=price_in, price_out=price_out).cost(n_in, n_out)
    return Estimate(len(requests), n_in, n_out, cost)


class BudgetedChat:
    """A chat model with an account and limits.

    Requests are let through while the account and their estimate, with replies at full length,
    stay within every limit, so a limit is passed only by as much as the estimate of the prompts
    under way was short. The first request that does not fit ends the run with a `BudgetError`.
    """

    def __init__(
        self,
        model: ChatModel,
        *,
        max_calls: int | None = None,
        max_tokens: int | None = None,
        max_cost: float | None = None,
        price_in: float = 0.0,
        price_out: float = 0.0,
        usage: Usage | None = None,
    ) -> None:
        """Put limits on a model.

        Args:
            model: The model to ask.
            max_calls: Most calls; None for no limit.
            max_tokens: Most tokens of requests and answers together.
            max_cost: Most money, in the currency of the prices.
            price_in: Price of a million prompt tokens.
            price_out: Price of a million reply tokens.
            usage: What earlier runs have spent, when the limits are for all of them.

        Raises:
            DataError: A limit or price is negative, or `max_cost` comes without prices.
        """
        self._model = model
        self._limits = Limits(max_calls, max_tokens, max_cost, price_in, price_out)
        self._usage = usage or Usage()

    @property
    def name(self) -> str:
        """Identity of the model inside."""
        return self._model.name

    @property
    def usage(self) -> Usage:
        """What has been spent so far."""
        return self._usage

    @property
    def deterministic_batches(self) -> bool:
        """Whether the model inside keeps its promise about batches."""
        return isinstance(self._model, BatchedChatModel) and self._model.deterministic_batches

    def batches(self, requests: Sequence[ChatRequest]) -> list[list[int]]:
        """Batches of the model inside; of a model without batches, one request each."""
        if isinstance(self._model, BatchedChatModel):
            return self._model.batches(requests)
        return [[position] for position in range(len(requests))]

    def reply(
        self, requests: Sequence[ChatRequest], *, on_done: Callable[[int], None] | None = None
    ) -> list[ChatReply | ChatFailure]:
        """Answer the requests, all of them or with an error.

        Raises:
            BudgetError: A request would go over a limit. What was answered before is in
                the cache around this model, if there is one; see also `replies_within_budget`.
        """
        return collect(self, requests, on_done=on_done)

    def stream(self, requests: Sequence[ChatRequest], on_outcomes: OnOutcomes) -> None:
        """Answer the requests and pass outcomes on; see `StreamingChatModel` and `reply`."""
        batches = self.batches(requests)
        while batches:
            n_fit = self._n_affordable(requests, batches)
            positions = [position for batch in batches[:n_fit] for position in batch]
            batches = batches[n_fit:]

            def forward(arrived: Sequence[tuple[int, Outcome]], to: list[int] = positions) -> None:
                for _, outcome in arrived:
                    self._count(outcome)
                on_outcomes([(to[position], outcome) for position, outcome in arrived])

            deliver(self._model, [requests[position] for position in positions], forward)

    def _n_affordable(self, requests: Sequence[ChatRequest], batches: list[list[int]]) -> int:
        """Number of leading batches that fit in what is left; at least one, or an error."""
        limits = self._limits
        calls, tokens, cost = self._usage.n_calls, self._usage.tokens, self._usage.cost
        for n_fit, batch in enumerate(batches):
            more = estimate(
                [requests[position] for position in batch],
                price_in=limits.price_in,
                price_out=limits.price_out,
            )
            calls, tokens, cost = calls + len(batch), tokens + more.max_tokens, cost + more.max_cost
            for what, amount, limit in (
                ("calls", calls, limits.max_calls),
                ("tokens", tokens, limits.max_tokens),
                ("cost", cost, limits.max_cost),
            ):
                if limit is None or amount <= limit:
                    continue
                if n_fit:
                    return n_fit
                raise BudgetError(
                    f"the next call could go over max_{what} = {limit:g}; spent so far: "
                    f"{self._usage}; raise the limit and start again to go on"
                )
        return len(batches)

    def _count(self, outcome: Outcome) -> None:
        n_in, n_out = outcome.prompt_tokens, outcome.completion_tokens
        before = self._usage
        if isinstance(outcome, ChatReply) and outcome.cached:
            return
        self._usage = replace(
            before,
            n_calls=before.n_calls + 1,
            n_failures=before.n_failures + isinstance(outcome, ChatFailure),
            prompt_tokens=before.prompt_tokens + n_in,
            completion_tokens=before.completion_tokens + n_out,
            cost=before.cost + self._limits.cost(n_in, n_out),
        )


def limited_chat(model: ChatModel, limits: Limits, cache: Path) -> BudgetedChat:
    """A model inside its limits; what the replies in a cache have cost was spent before."""
    spent = Usage()
    if cache.is_file():
        n_calls, n_in, n_out = ReplyStore(cache).spent()
        spent = Usage(n_calls, 0, n_in, n_out, limits.cost(n_in, n_out))
    return BudgetedChat(model, **asdict(limits), usage=spent)


def replies_within_budget(
    model: ChatModel,
    requests: Sequence[ChatRequest],
    *,
    on_done: Callable[[int], None] | None = None,
) -> tuple[list[ChatReply | ChatFailure | None], str | None]:
    """Answer as many requests as the budget allows and keep what there is.

    Args:
        model: Any chat model, usually with a `BudgetedChat` in it.
        requests: What to ask.
        on_done: Called with the number of new outcomes.

    Returns:
        The outcomes in order, None where no call was made, and the message of the budget, or
        None when every request was answered.
    """
    outcomes: list[Outcome | None] = [None] * len(requests)

    def keep(arrived: Sequence[tuple[int, Outcome]]) -> None:
        for position, outcome in arrived:
            outcomes[position] = outcome
        if on_done is not None:
            on_done(len(arrived))

    try:
        deliver(model, requests, keep)
    except BudgetError as error:
        return outcomes, str(error)
    return outcomes, None
