"""Who writes, how an endpoint is talked to, and what may be spent.

It loads nothing heavy, because the options of commands are made from it.
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, fields
from typing import Any

from facsynth.errors import DataError
from facsynth.settings import Settings

__all__ = ["OPTIONS", "EndpointSettings", "Generator", "Policy", "ReplySettings", "dialect_fields"]

_PRICED_TOKENS = 1_000_000

OPTIONS: dict[str, dict[str, Any]] = {
    "max-completion-tokens": {"token_field": "max_completion_tokens"},
    "no-temperature": {"omit": ("temperature",)},
    "no-top-p": {"omit": ("top_p",)},
    "no-seed": {"omit": ("seed",)},
    "no-system": {"folds_system": True},
    "no-response-format": {"schema_mode": "none"},
    "json-object": {"schema_mode": "json_object"},
}
"""Names of options and the fields of `Dialect` that they set."""


def dialect_fields(options: Sequence[str]) -> dict[str, Any]:
    """The fields of `Dialect` that options set.

    Args:
        options: Names of `OPTIONS`, or `NAME=VALUE` for a further field of the request body, with
            the value as JSON or plain text.

    Raises:
        DataError: An option is unknown.
    """
    found: dict[str, Any] = {}
    omit: tuple[str, ...] = ()
    extra = {}
    for option in options:
        name, equals, value = option.partition("=")
        if equals and name.strip():
            extra[name.strip()] = _json_or_text(value)
            continue
        changes = OPTIONS.get(name.strip().replace("_", "-"))
        if changes is None:
            raise DataError(
                f"unknown endpoint option {option!r}; use {', '.join(OPTIONS)}, or NAME=VALUE for "
                "a field of the request body"
            )
        omit += changes.get("omit", ())
        found |= changes
    return {**found, "omit": omit, "extra_json": json.dumps(extra) if extra else ""}


def _json_or_text(value: str) -> Any:
    with suppress(ValueError):
        return json.loads(value)
    return value


@dataclass(frozen=True, slots=True)
class EndpointSettings(Settings):
    """How an endpoint is talked to."""

    endpoint_option: tuple[str, ...] = ()
    """Set what is otherwise learnt from the server's refusals: max-completion-tokens,
    no-temperature, no-top-p, no-seed, no-system, no-response-format, json-object. NAME=VALUE adds
    a field to each request."""

    thinking_tokens: int = 0
    """Tokens added to the length of every reply, for models that think before they answer."""

    server_patience: float = 900.0
    """Longest wait in seconds for a server that is down or limits rates."""

    concurrency: int = 32
    """Calls at once; a server's rate limit is obeyed."""

    attempt_timeout_s: float = 120.0
    """Longest time of one attempt."""

    max_attempts: int = 6
    """Attempts of a call that fail; those that meet a server that is down (HTTP 502 to 504) or
    limits rates (429) are not counted."""

    backoff_s: float = 0.5
    """Wait after the first failed attempt; each further one doubles it, up to half is random."""

    grace_s: float = 20.0
    """Longest time for the calls under way to end after Ctrl-C or an error."""

    def __post_init__(self) -> None:
        for name in ("concurrency", "max_attempts"):
            if getattr(self, name) < 1:
                raise DataError(f"{name} is {getattr(self, name)}; it must be at least 1")
        for name in ("server_patience", "thinking_tokens"):
            if not 0 <= getattr(self, name) < float("inf"):
                raise DataError(f"{name} is {getattr(self, name)}; it must be 0 or more")
        if self.attempt_timeout_s <= 0:
            raise DataError(f"attempt_timeout_s is {self.attempt_timeout_s}; it must be above 0")
        dialect_fields(self.endpoint_option)


@dataclass(frozen=True, slots=True)
class ReplySettings(Settings):
    """How replies are drawn, where it is not what each question needs."""

    reply_tokens: int | None = None
    """Most tokens of a reply; by default what a question needs (60 to 150)."""

    temperature: float | None = None
    """Temperature of the sampling; by default what a question needs."""

    top_p: float | None = None
    """Share of the probability mass that is sampled from, in (0, 1]; by default what a question
    needs."""

    def __post_init__(self) -> None:
        if self.reply_tokens is not None and self.reply_tokens < 1:
            raise DataError(f"reply_tokens is {self.reply_tokens}; it must be at least 1")
        if self.temperature is not None and not 0 <= self.temperature < float("inf"):
            raise DataError(f"temperature is {self.temperature}; it must be 0 or more")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise DataError(f"top_p is {self.top_p}; it must be in (0, 1]")


@dataclass(frozen=True, slots=True)
class Policy(Settings):
    """What calls to a language model may cost, and how many may fail."""

    budget_calls: int | None = None
    """Call limit: repeated and failed requests and those of earlier runs count too. No limit by
    default."""

    budget_tokens: int | None = None
    """Token limit, prompts and replies together. No limit by default."""

    budget_cost: float | None = None
    """Spending limit, in the currency of the prices; requires prices. No limit by default."""

    price_in: float = 0.0
    """Price of a million prompt tokens."""

    price_out: float = 0.0
    """Price of a million reply tokens."""

    max_failures: float = 0.5
    """Stop if a larger share of the replies is unusable, in [0, 1]."""

    def __post_init__(self) -> None:
        for one in fields(self):
            value = getattr(self, one.name)
            if value is not None and not 0 <= value < float("inf"):
                raise DataError(f"{one.name} is {value}; it must be 0 or more")
        if self.max_failures > 1:
            raise DataError(f"max_failures is {self.max_failures}; it is a share, 0 to 1")
        if self.budget_cost is not None and not self.has_prices:
            raise DataError(
                f"budget_cost is {self.budget_cost} but no price is given; set price_in, price_out"
            )

    @property
    def has_prices(self) -> bool:
        """Whether a price is given."""
        return bool(self.price_in or self.price_out)

    def cost(self, n_prompt: int, n_completion: int) -> float:
        """Price of so many tokens."""
        return (n_prompt * self.price_in + n_completion * self.price_out) / _PRICED_TOKENS


@dataclass(frozen=True)
class Generator(Settings):
    """Who writes."""

    model: str | None = None
    """Local model that writes; by default the one that reads the features. Not used with
    `chat_model`."""

    chat_model: str | None = None
    """Model name at an OpenAI-compatible endpoint."""

    api_base: str = "https://api.openai.com/v1"
    """Address of the endpoint, usually up to /v1; several servers of the same model, with commas
    between them, take turns, and one that fails rests for half a minute."""

    api_key_env: str = "OPENAI_API_KEY"
    """Name of the environment variable that holds the key, never the key; may be unset for local
    servers."""

    batch_size: int = 32
    """Texts per batch of a local model."""

    endpoint: EndpointSettings = field(default_factory=EndpointSettings)
    """How the endpoint is talked to. Not part of what identifies a run."""

    replies: ReplySettings = field(default_factory=ReplySettings)
    """How an endpoint's replies are drawn, if not as each question needs."""

    policy: Policy = field(default_factory=Policy)
    """What may be spent. Not part of what identifies a run: raise a limit and run again to
    resume."""
