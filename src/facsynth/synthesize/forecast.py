"""What a run may ask and cost, before its first call."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from facsynth.chat.model import ChatRequest
from facsynth.chat.policy import Estimate, estimate
from facsynth.chat.settings import Policy
from facsynth.show import TextTable, as_html
from facsynth.synthesize.settings import Effort

__all__ = ["Forecast", "forecast"]


@dataclass(frozen=True)
class Forecast:
    """Estimates by heuristics, with every reply at its full length."""

    n_features: int
    """Features that the run may aim at."""

    first: Estimate
    """Step 1 of the first round."""

    at_most: Estimate
    """The whole run, if every round is needed, no candidate hits at once, and all slots are
    filled; runs usually end far below."""

    def row(self) -> dict[str, Any]:
        """The estimates under stable keys."""
        return asdict(self)

    def tables(self) -> Sequence[TextTable]:
        """The estimates side by side."""
        parts = (self.first, self.at_most)
        rows = [
            ("calls", *(p.n_calls for p in parts)),
            ("prompt tokens, about", *(p.prompt_tokens for p in parts)),
            ("reply tokens, at most", *(p.max_completion_tokens for p in parts)),
            ("cost, at most about", *(p.max_cost for p in parts)),
        ]
        title = f"Estimate for {self.n_features:,} features; nothing was asked"
        return [TextTable(title, ("", "first step", "whole run at most"), rows)]

    _repr_html_ = as_html

    def __str__(self) -> str:
        return (
            f"{self.n_features} features to aim at; first step: {self.first}; "
            f"whole run at most: {self.at_most}"
        )


def forecast(
    requests: list[ChatRequest],
    *,
    n_features: int,
    effort: Effort,
    n_answers: int | None,
    answer_tokens: int = 128,
    is_repeated: bool = False,
    grade: ChatRequest | None = None,
    policy: Policy | None = None,
) -> Forecast:
    """Estimate a run from the requests of its first step.

    Args:
        requests: Step 1 of the first round.
        n_features: Features that are missing and common enough to be aimed at.
        effort: How much the run may write.
        n_answers: Completions, such as answers of the assistant, at most; None for one per
            candidate.
        answer_tokens: Longest completion.
        is_repeated: Whether a feature may be aimed at in every round; else in `max_attempts`.
        grade: What a judge is asked about an empty text; None without a judge.
        policy: Prices.
    """
    policy = policy or Policy()
    first = estimate(requests, policy)
    n_aimed = min(n_features, effort.max_features)
    slots = effort.max_rounds * effort.features_per_round
    if not is_repeated:
        slots = min(effort.max_attempts * n_aimed, slots)
    n_texts = slots * (effort.first_candidates + effort.second_candidates)
    n_answers = n_texts if n_answers is None else min(n_answers, n_texts)
    if not requests:
        return Forecast(n_aimed, first, first)
    n_prompt = -(-first.prompt_tokens * n_texts // len(requests))
    length = requests[0].max_tokens
    n_prompt += n_answers * (length + 8)
    n_out = n_texts * length + n_answers * answer_tokens
    n_calls = n_texts + n_answers
    if grade is not None:  # each text is graded once at most
        graded = estimate([grade])
        n_calls += n_texts
        n_prompt += n_texts * (graded.prompt_tokens + length)
        n_out += n_texts * graded.max_completion_tokens
    at_most = Estimate(n_calls, n_prompt, n_out, policy.cost(n_prompt, n_out))
    return Forecast(n_aimed, first, at_most)
