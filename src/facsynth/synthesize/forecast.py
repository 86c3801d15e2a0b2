"""What a run may ask and cost, before its first call."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from facsynth.chat.model import ChatRequest
from facsynth.chat.policy import Estimate, estimate, total_of
from facsynth.chat.settings import Generator, Policy
from facsynth.coverage.threshold import ChosenThreshold
from facsynth.show import TextTable, as_html

__all__ = ["Forecast", "forecast"]


@dataclass(frozen=True)
class Forecast:
    """Estimates by heuristics, with every reply at its full length."""

    n_features: int
    """Features that the run may aim at."""

    first: Estimate
    """The first step."""

    at_most: Estimate
    """The whole run, if every text that is allowed is asked for and completed; runs by the method
    `cover` usually end far below."""

    threshold: ChosenThreshold | None = None
    """δ above which features count as active, and how it was chosen."""

    def row(self) -> dict[str, Any]:
        """The estimates under stable keys."""
        delta = self.threshold.row() if self.threshold else {"threshold_rule": None}
        return asdict(self) | delta

    def tables(self) -> Sequence[TextTable]:
        """The estimates side by side."""
        parts = (self.first, self.at_most)
        rows = [
            ("calls", *(p.n_calls for p in parts)),
            ("prompt tokens, about", *(p.prompt_tokens for p in parts)),
            ("reply tokens, at most", *(p.max_completion_tokens for p in parts)),
            ("cost, at most about", *(p.shown_cost for p in parts)),
        ]
        title = f"Estimate for {self.n_features:,} features; nothing was asked"
        note = f"Threshold δ: {self.threshold}" if self.threshold else ""
        return [TextTable(title, ("", "first step", "whole run at most"), rows, note)]

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
    n_texts: int,
    answer: tuple[int, int] | None = None,
    check: ChatRequest | None = None,
    grade: ChatRequest | None = None,
    policy: Generator | Policy | None = None,
) -> Forecast:
    """Estimate a run from the requests of its first step.

    Args:
        requests: The first step.
        n_features: Features that are missing and common enough to be aimed at.
        n_texts: Texts that the run may ask for.
        answer: Calls that complete one text, and tokens of their longest reply; None without.
        check: What is asked about the label of an empty text, twice; None without a check.
        grade: What a judge is asked about an empty text; None without a judge.
        policy: Prices; or the generator, for its room to think as well.
    """
    first = estimate(requests, policy)
    if not requests:
        return Forecast(n_features, first, first)
    length, n_calls = requests[0].max_tokens, n_texts
    n_prompt = -(-first.prompt_tokens * n_texts // len(requests))
    n_out = n_texts * length
    if answer is not None:  # each text is completed once at most
        n_each, tokens = answer
        n_calls += n_texts * n_each
        n_prompt += n_texts * (n_each * (length + 8) + tokens * n_each * (n_each - 1) // 2)
        n_out += n_texts * n_each * tokens
    for asked, times in ((grade, 1), (check, 2)):
        if asked is not None:
            one = estimate([asked])
            n_calls += n_texts * times
            n_prompt += n_texts * times * (one.prompt_tokens + length)
            n_out += n_texts * times * one.max_completion_tokens
    return Forecast(n_features, first, total_of(n_calls, n_prompt, n_out, policy))
