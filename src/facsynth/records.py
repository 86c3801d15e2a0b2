"""The frozen records that stages exchange.

Array axes: `n_samples`, `n_tokens`, `n_features`, `n_entries` (stored activations).
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Int64, UInt16, UInt32

from facsynth.errors import DataError

__all__ = [
    "BETWEEN",
    "FeatureActivations",
    "Message",
    "Sample",
    "Span",
    "ToolCall",
    "fold_system",
    "sample_from_row",
    "sample_text",
    "user_text",
]

BETWEEN = "\n\n"
"""Joins a folded system message and the user turn, and contents where there is no template."""


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call of a tool by the assistant."""

    name: str
    """Name of the tool."""

    arguments: str
    """The arguments as JSON text."""

    call_id: str | None = None
    """Id that the answer of the tool repeats; None where the data has none."""

    @property
    def value(self) -> Any:
        """The arguments as an object, or their text where they are not JSON."""
        try:
            return json.loads(self.arguments)
        except (ValueError, RecursionError):
            return self.arguments


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation."""

    role: str
    """`system`, `user`, `assistant` or `tool`."""

    content: str
    """The text of the turn; empty beside a tool call without words."""

    reasoning: str | None = None
    """Reasoning that the data keeps in a field of its own; a `<think>` block stays in `content`."""

    tool_calls: tuple[ToolCall, ...] = ()
    """Tools that the assistant calls in this turn."""

    tool_call_id: str | None = None
    """Of a `tool` turn, the call that it answers."""

    name: str | None = None
    """Name of the speaker, or of the tool that answers."""


def fold_system(messages: Sequence[Message]) -> tuple[Message, ...]:
    """The same conversation with its system message at the head of the first user turn.

    Templates and servers without a system role read it there.

    Raises:
        DataError: No user turn follows the system message.
    """
    system, *rest = messages
    if not rest or rest[0].role != "user":
        raise DataError("no user turn follows the system message, which the model cannot read")
    content = f"{system.content}{BETWEEN}{rest[0].content}"
    return (replace(rest[0], content=content), *rest[1:])


@dataclass(frozen=True, slots=True)
class Sample:
    """One training example: a conversation, a plain text, or a preference pair."""

    sample_id: str
    """Unique within its data set."""

    messages: tuple[Message, ...] = ()
    """The conversation; of a preference pair, the one with the chosen answer."""

    text: str | None = None
    """A plain text without roles; None when there are messages."""

    rejected: tuple[Message, ...] = ()
    """Of a preference pair, the conversation with the rejected answer."""

    label: str | None = None
    """Class of the sample, when the data has one."""

    tools: tuple[str, ...] = ()
    """Tools that the assistant may call: one JSON object each, in OpenAI's form
    (`{"type": "function", "function": {…}}`)."""


def sample_from_row(row: Mapping[str, Any]) -> Sample:
    """The sample whose `asdict` this is, with lists in place of tuples."""
    sides = {name: tuple(map(_message, row[name])) for name in ("messages", "rejected")}
    return Sample(**{**row, **sides, "tools": tuple(row["tools"])})


def _message(row: Mapping[str, Any]) -> Message:
    return Message(**{**row, "tool_calls": tuple(ToolCall(**call) for call in row["tool_calls"])})


@dataclass(frozen=True)
class FeatureActivations:
    """Sparse activations of features by samples, one row per sample (CSR layout).

    Only activations above zero are stored, so one table serves every threshold.
    """

    n_features: int
    """Width of the SAE."""

    sample_ids: tuple[str, ...]
    """One id per row."""

    n_tokens: Int64[np.ndarray, " n_samples"]
    """Scored tokens of each sample."""

    row_starts: Int64[np.ndarray, " n_row_starts"]
    """Sample `i` owns the entries `row_starts[i]:row_starts[i + 1]`."""

    feature_ids: UInt32[np.ndarray, " n_entries"]
    """Feature of each entry, in `[0, n_features)`, ascending within a row."""

    values: Float32[np.ndarray, " n_entries"]
    """Pooled activation of the feature over the scored tokens, in SAE units, above zero."""

    positions: UInt16[np.ndarray, " n_entries"]
    """Token position of the largest activation within the rendered sample."""

    hidden: Float32[np.ndarray, "n_samples d_model"] | None = None
    """Mean over the scored tokens of the residual stream that the SAE reads, zeros for a sample
    without scored tokens; None where it was not kept."""

    def keep_entries(self, kept: Bool[np.ndarray, " n_entries"]) -> "FeatureActivations":
        """The same samples with some of the entries only."""
        places = np.flatnonzero(kept)  # ten times faster than to index with flags
        if places.size == kept.size:
            return self
        return replace(
            self,
            row_starts=np.searchsorted(places, self.row_starts),
            feature_ids=self.feature_ids[places],
            values=self.values[places],
            positions=self.positions[places],
        )


@dataclass(frozen=True, slots=True)
class Span:
    """A piece of text around the token at which a feature is most active."""

    sample_id: str
    before: str
    """Text in front of the peak token."""

    peak: str
    """The token with the largest activation, as written in the text."""

    after: str
    """Text behind the peak token."""

    activation: float
    """Activation at the peak, in SAE units."""

    @property
    def text(self) -> str:
        """The whole span, peak included."""
        return self.before + self.peak + self.after


def sample_text(sample: Sample) -> str:
    """All turns of a sample, one below the other; of a pair those with the chosen answer."""
    if sample.text is not None:
        return sample.text
    return "\n".join(message.content for message in sample.messages)


def user_text(sample: Sample) -> str:
    """The plain text, or what the user says first."""
    if sample.text is not None:
        return sample.text
    return next((message.content for message in sample.messages if message.role == "user"), "")
