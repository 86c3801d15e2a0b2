"""How an endpoint is talked to; light, since the options of commands are made from it."""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from facsynth.errors import DataError
from facsynth.settings import Settings

__all__ = ["OPTIONS", "EndpointSettings", "dialect_fields"]

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
