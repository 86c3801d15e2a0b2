"""How requests are written for an OpenAI-compatible server, and what its refusals teach."""

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, Literal

from facsynth.chat.model import ChatRequest
from facsynth.errors import DataError
from facsynth.records import Message, fold_system
from facsynth.settings import Settings

__all__ = ["OPTIONS", "Dialect", "EndpointSettings", "read_options"]

_OPTIONAL = ("temperature", "top_p", "seed")
"""Fields that a request can do without."""

_UNWANTED = re.compile(
    r"unsupported|n[o']t (?:\w+ )?support|permitted|allowed|forbidden|unknown|unrecogni[sz]ed"
    r"|unexpected|not known|deprecated|not enabled|cannot|unavailable"
    r"|invalid (?:param|arg|field|key)|extra (?:input|field|param)",
    re.IGNORECASE,
)
"""Words of a refusal of a field, rather than of its value."""

_SYSTEM = re.compile(
    r"system['\"]? (?:role|message|prompt|instruction)|developer instruction|role\b.{0,30}\bsystem"
    r"|roles must alternate|only (?:the )?user\b.{0,30}\bassistant|\brole: input should be",
    re.IGNORECASE,
)
_SCHEMA = re.compile(
    r"response_?format|json_?schema|json_?object|grammar|structured|guided|xgrammar|outlines", re.I
)


@dataclass(frozen=True, slots=True)
class Dialect:
    """What a server wants to be told differently."""

    token_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """Name of the reply length in the protocol; newer OpenAI models want the second."""

    schema_mode: Literal["json_schema", "json_object", "none"] = "json_schema"
    """What is sent for a request with a schema; older servers know only the others."""

    omit: tuple[str, ...] = ()
    """Fields that the server rejects, such as `seed` or `top_p`."""

    folds_system: bool = False
    """Whether the system message goes into the first user turn."""

    extra_json: str = ""
    """More fields of the request body, as the text of a JSON object. No secrets here."""

    @property
    def mark(self) -> str:
        """Hash of what changes the replies, for the name of a model; empty by default."""
        changes = (self.schema_mode, self.omit, self.folds_system, self.extra_json)
        if changes == ("json_schema", (), False, ""):
            return ""
        return f" #{sha256(repr(changes).encode()).hexdigest()[:8]}"

    def body(self, model: str, request: ChatRequest) -> dict[str, Any]:
        """The request as JSON."""
        turns = fold_system(request.messages) if self._folds(request) else request.messages
        body: dict[str, Any] = {
            "model": model,
            "messages": [{"role": turn.role, "content": turn.content} for turn in turns],
            self.token_field: request.max_tokens,
            "temperature": request.temperature,
            "top_p": request.top_p,
            "seed": request.seed,
        }
        if request.schema is not None and self.schema_mode == "json_object":
            body["response_format"] = {"type": "json_object"}
        elif request.schema is not None and self.schema_mode == "json_schema":
            schema = json.loads(request.schema.json_schema)
            form = {"name": request.schema.name, "schema": schema}
            body["response_format"] = {"type": "json_schema", "json_schema": form}
        body |= json.loads(self.extra_json or "{}")
        return {name: value for name, value in body.items() if name not in self.omit}

    def _folds(self, request: ChatRequest) -> bool:
        return self.folds_system and _starts_with_system(request.messages)

    def without_schema(self) -> "Dialect":
        """The same without a JSON schema in the request."""
        return replace(self, schema_mode="none")

    def adapted(self, words: str, request: ChatRequest) -> "Dialect":
        """The dialect without what a server says it does not take; the same where it names none.

        Args:
            words: The server's own words.
            request: What it refused.
        """
        new = self
        if _SYSTEM.search(words) and _starts_with_system(request.messages):
            new = replace(new, folds_system=True)
        if not _UNWANTED.search(words) and not _SCHEMA.search(words):
            return new
        if request.schema is not None and _SCHEMA.search(words):
            new = new.without_schema()
        named = set(re.findall(r"\w+", words)) if _UNWANTED.search(words) else set()
        unwanted = [name for name in _OPTIONAL if name in named and name not in self.omit]
        if {"temperature", "top_p"} <= named and re.search(r"\bboth\b", words):
            unwanted = ["top_p"]  # either may be set alone
        if self.token_field in named and "max_tokens" in named:
            new = replace(new, token_field="max_completion_tokens")
        elif self.token_field in named:
            new = replace(new, token_field="max_tokens")
        return replace(new, omit=(*new.omit, *unwanted))

    def differs_from(self, other: "Dialect") -> str:
        """What this dialect does otherwise than another, in words for the user."""
        said = [f"without `{name}`" for name in self.omit if name not in other.omit]
        if self.token_field != other.token_field:
            said.append(f"with `{self.token_field}`")
        if self.schema_mode != other.schema_mode:
            said.append("without `response_format`")
        if self.folds_system and not other.folds_system:
            said.append("with the system message in the first user turn")
        return ", ".join(said)


def _starts_with_system(messages: Sequence[Message]) -> bool:
    return [turn.role for turn in messages[:2]] == ["system", "user"]


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


def read_options(options: Sequence[str]) -> Dialect:
    """The dialect that options describe.

    Args:
        options: Names of `OPTIONS`, or `NAME=VALUE` for a further field of the request body, with
            the value as JSON or plain text.

    Raises:
        DataError: An option is unknown.
    """
    dialect, extra = Dialect(), {}
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
        omit = (*dialect.omit, *changes.get("omit", ()))
        dialect = replace(dialect, **{**changes, "omit": omit})
    return replace(dialect, extra_json=json.dumps(extra) if extra else "")


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
        read_options(self.endpoint_option)
