"""An account of what calls have cost, and a chat model that stays within its limits."""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from facsynth.chat.cache import CachedChat, ReplyStore
from facsynth.chat.model import (
    BatchedChatModel,
    ChatFailure,
    ChatModel,
    ChatReply,
    ChatRequest,
    MeteredChatModel,
    OnOutcomes,
    Outcome,
    collect,
    deliver,
)
from facsynth.chat.policy import Usage, estimate
from facsynth.chat.settings import Policy
from facsynth.errors import BudgetError

__all__ = ["BudgetedChat", "Spending", "limited_chat"]


class Spending:
    """Counts what calls have cost under a policy, for all models that share it.

    With a file of replies, the counts are kept there, so they hold for all runs that use the file.
    """

    def __init__(self, policy: Policy | None = None, replies: Path | None = None) -> None:
        """Start counting.

        Args:
            policy: The limits; none by default.
            replies: SQLite file of replies that also holds what was spent before; it is created
                with the first count.
        """
        self.policy, self.replies = policy or Policy(), replies
        self._store = ReplyStore(replies) if replies is not None and replies.is_file() else None
        self.usage = Usage() if self._store is None else Usage(*self._store.spent())
        """What has been spent so far."""

        self._unsaved = Usage()
        self._reserved = 0, 0
        """Prompt and reply tokens that the calls under way may cost."""

        self._lock = threading.Lock()  # calls are permitted and settled in different threads

    def __str__(self) -> str:
        n_in, n_out = self.usage.prompt_tokens, self.usage.completion_tokens
        cost = f", cost {self.policy.cost(n_in, n_out):.4f}" if self.policy.has_prices else ""
        return f"{self.usage.n_calls:,} calls, {self.usage.tokens:,} tokens{cost}"

    def permit(self, request: ChatRequest, is_repeat: bool = False) -> None:
        """Count an attempt that is about to start, and set its tokens aside.

        Raises:
            BudgetError: The attempt could go over a limit.
        """
        with self._lock:
            self._check([request], is_repeat=is_repeat)
            self._count(Usage(n_calls=1))

    def permit_all(self, requests: Sequence[ChatRequest]) -> None:
        """The same for requests that are asked together or not at all."""
        with self._lock:
            self._check(requests)
            self._count(Usage(n_calls=len(requests)))

    def settle(self, requests: Sequence[ChatRequest], outcomes: Sequence[Outcome]) -> None:
        """Replace what was set aside for requests by what they have cost."""
        expected = estimate(requests)
        with self._lock:
            n_in, n_out = self._reserved
            self._reserved = n_in - expected.prompt_tokens, n_out - expected.max_completion_tokens
            self._count(
                Usage(
                    0,
                    sum(isinstance(outcome, ChatFailure) for outcome in outcomes),
                    sum(outcome.prompt_tokens for outcome in outcomes),
                    sum(outcome.completion_tokens for outcome in outcomes),
                )
            )
        self.save()

    def close(self) -> None:
        """No call is under way any more: give back what is set aside, and save the counts."""
        self._reserved = 0, 0
        self.save()

    def save(self) -> None:
        """Write new counts into the file of replies, if there is one."""
        with self._lock:
            unsaved, self._unsaved = self._unsaved, Usage()
        if self.replies is None or unsaved == Usage():
            return
        if self._store is None:
            self._store = ReplyStore(self.replies)
        self._store.add_spent(
            unsaved.n_calls, unsaved.n_failures, unsaved.prompt_tokens, unsaved.completion_tokens
        )

    def _count(self, more: Usage) -> None:
        self.usage, self._unsaved = self.usage.plus(more), self._unsaved.plus(more)

    def _check(self, requests: Sequence[ChatRequest], *, is_repeat: bool = False) -> None:
        """Set the tokens of requests aside if they stay within every limit."""
        n_in, n_out = self._reserved
        if not is_repeat:  # a repeated attempt has its tokens set aside already
            expected = estimate(requests)
            n_in, n_out = n_in + expected.prompt_tokens, n_out + expected.max_completion_tokens
        used, policy = self.usage, self.policy
        cost = policy.cost(used.prompt_tokens + n_in, used.completion_tokens + n_out)
        for name, amount in (
            ("budget_calls", used.n_calls + len(requests)),
            ("budget_tokens", used.tokens + n_in + n_out),
            ("budget_cost", cost),
        ):
            limit = getattr(policy, name)
            if limit is not None and amount > limit:
                raise BudgetError(
                    f"the next call could exceed {name} = {limit:g}; spent so far: {self}; raise "
                    "the limit and run again to resume"
                )
        self._reserved = n_in, n_out


class BudgetedChat:
    """A chat model whose calls are counted and limited.

    A call is let through while what was spent and what the calls under way may cost, with replies
    at full length, stay within every limit. So the limit of calls is never exceeded, and that of
    tokens or cost only by as much as the estimate of the prompts under way was short.
    """

    def __init__(self, model: ChatModel, spending: Spending) -> None:
        """Put a limit on a model.

        Args:
            model: The model to ask.
            spending: Counts the calls, with those of other models that share it.
        """
        self._model = model
        self.spending = spending

    @property
    def name(self) -> str:
        """Identity of the model inside."""
        return self._model.name

    @property
    def policy(self) -> Policy:
        """What may be spent, and how many calls may fail."""
        return self.spending.policy

    @property
    def spent(self) -> str:
        """Calls, tokens and cost so far, in words."""
        return str(self.spending)

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
            BudgetError: A request would go over a limit. What was answered before is in the
                cache around this model, if there is one; `ask` keeps it in any case.
        """
        return collect(self, requests, on_done=on_done)

    def stream(self, requests: Sequence[ChatRequest], on_outcomes: OnOutcomes) -> None:
        """Answer the requests and pass outcomes on; see `StreamingChatModel` and `reply`."""
        left = dict.fromkeys(range(len(requests)))
        while left:
            asked = list(left)

            def forward(arrived: Sequence[tuple[int, Outcome]], asked: list[int] = asked) -> None:
                self.spending.settle(
                    [self._at_length(requests[asked[place]]) for place, _ in arrived],
                    [outcome for _, outcome in arrived],
                )
                done = [(asked[place], outcome) for place, outcome in arrived]
                for position, _ in done:
                    del left[position]
                on_outcomes(done)

            try:
                self._ask([requests[position] for position in asked], forward)
            except BudgetError:
                if len(left) == len(asked):  # nothing has ended that could make room
                    raise
            finally:
                self.spending.close()

    def _at_length(self, request: ChatRequest) -> ChatRequest:
        """The request as the model asks it, with room to think."""
        if not isinstance(self._model, MeteredChatModel):
            return request
        return self._model.shaped(request)

    def _ask(self, requests: list[ChatRequest], forward: OnOutcomes) -> None:
        """Ask as many leading requests as fit; an error when not all do."""
        if isinstance(self._model, MeteredChatModel):
            self._model.stream(
                requests,
                forward,
                permit=lambda request, is_repeat: self.spending.permit(
                    self._at_length(request), is_repeat
                ),
            )
            return
        fitting: list[int] = []
        error: BudgetError | None = None
        for batch in self.batches(requests):
            try:
                self.spending.permit_all([requests[position] for position in batch])
            except BudgetError as caught:
                error = caught
                break
            fitting += batch
        if fitting:
            deliver(self._model, [requests[position] for position in fitting], forward)
        if error is not None:
            raise error


def limited_chat(model: ChatModel, spending: Spending) -> ChatModel:
    """A model within a policy, behind the file of its replies if the spending has one."""
    budgeted = BudgetedChat(model, spending)
    return budgeted if spending.replies is None else CachedChat(budgeted, spending.replies)
