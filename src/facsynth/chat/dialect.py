"""How requests are written for an OpenAI-compatible server, and what its refusals teach."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, Literal

from facsynth.chat.model import ChatRequest
from facsynth.chat.settings import dialect_fields
from facsynth.records import Message, fold_system

__all__ = ["Dialect", "read_options"]

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
_SCHEMA_ALONE = re.compile(r"json_?schema|response_?format\W*type", re.I)
"""Words of a refusal of the schema, where any JSON object may do."""


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
        if request.is_raw:  # the older protocol, which has no turns
            del body["messages"], body[self.token_field]
            body |= {"prompt": turns[0].content, "max_tokens": request.max_tokens}
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
            is_form = self.schema_mode == "json_schema" and _SCHEMA_ALONE.search(words)
            new = replace(new, schema_mode="json_object") if is_form else new.without_schema()
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
            is_gone = self.schema_mode == "none"
            said.append("without `response_format`" if is_gone else "with `json_object`")
        if self.folds_system and not other.folds_system:
            said.append("with the system message in the first user turn")
        return ", ".join(said)


def _starts_with_system(messages: Sequence[Message]) -> bool:
    return [turn.role for turn in messages[:2]] == ["system", "user"]


def read_options(options: Sequence[str]) -> Dialect:
    """The dialect that options describe; see `dialect_fields`.

    Raises:
        DataError: An option is unknown.
    """
    return Dialect(**dialect_fields(options))
