"""How requests are written for an OpenAI-compatible server, and how its answers are read."""

import json
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Literal

from facsynth.chat.model import ChatFailure, ChatReply, ChatRequest, Outcome, estimate_tokens
from facsynth.errors import ChatError

__all__ = ["Dialect", "read_completion"]


@dataclass(frozen=True, slots=True)
class Dialect:
    """What a server wants to be told differently."""

    token_field: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"
    """Name of the reply length in the protocol; newer OpenAI models want the second."""

    schema_mode: Literal["json_schema", "json_object", "none"] = "json_schema"
    """What is sent for a request with a schema; older servers know only the others."""

    omit: tuple[str, ...] = ()
    """Fields that the server rejects, such as `seed` or `top_p`."""

    extra_json: str = ""
    """More fields of the request body, as the text of a JSON object. No secrets here."""

    def __post_init__(self) -> None:
        with suppress(ValueError):
            if isinstance(json.loads(self.extra_json or "{}"), dict):
                return
        raise ChatError(f"extra_json is not a JSON object: {self.extra_json:.80}")

    @property
    def mark(self) -> str:
        """Hash of what changes the replies, for the name of a model; empty by default."""
        changes = (self.schema_mode, self.omit, self.extra_json)
        if changes == ("json_schema", (), ""):
            return ""
        return f" #{sha256(repr(changes).encode()).hexdigest()[:8]}"

    def body(self, model: str, request: ChatRequest) -> dict[str, Any]:
        """The request as JSON."""
        body: dict[str, Any] = {
            "model": model,
            "messages": [{"role": turn.role, "content": turn.content} for turn in request.messages],
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


def read_completion(body: object, request: ChatRequest) -> Outcome | None:
    """What the JSON of a successful call means; None if it is not a chat completion."""
    match body:
        case {"choices": [{"message": dict(message), **choice}, *_], **rest}:
            pass
        case _:
            return None
    text, finish = message.get("content"), choice.get("finish_reason")
    match rest.get("usage"):
        case {"prompt_tokens": int(n_in), "completion_tokens": int(n_out)}:
            pass
        case _:
            n_in = sum(estimate_tokens(turn.content) for turn in request.messages)
            n_out = estimate_tokens(str(text or ""))
    if message.get("refusal"):
        return ChatFailure("the model refused", n_in, n_out)
    if finish == "content_filter":
        return ChatFailure("a content filter stopped the answer", n_in, n_out)
    if not isinstance(text, str) or not text.strip():
        hint = "; raise max_tokens" if finish == "length" else ""
        return ChatFailure(f"the answer is empty{hint}", n_in, n_out)
    return ChatReply(text, n_in, n_out, truncated=finish == "length")
