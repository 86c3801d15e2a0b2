"""Replies in a stated JSON form: the schema of a request, and reading what comes back.

Servers that can enforce a JSON schema get one with the request; the prompt says the form in words
for all others. What comes back is salvaged from prose and code fences and checked against a
pydantic model.
"""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from facsynth.chat.clean import clean_reply
from facsynth.chat.model import ChatFailure, ChatReply, ChatRequest, Outcome, ReplySchema
from facsynth.records import Message

__all__ = ["parse_structured", "read_reply", "repair_request", "reply_schema"]

T = TypeVar("T", bound=BaseModel)

_MAX_STARTS = 50
"""Opening brackets tried as the start of a JSON value."""

_STRING_OR_COMMA = re.compile(r'"(?:[^"\\]|\\.)*"|,(?=\s*[}\]])', re.DOTALL)
_FENCE = re.compile(r"```[\w-]*\s*\n(.*?)```", re.DOTALL)


def reply_schema(schema: type[BaseModel]) -> ReplySchema:
    """The JSON schema of a pydantic model, for `ChatRequest.schema`."""
    name = re.sub(r"[^\w-]", "_", schema.__name__, flags=re.ASCII)[:64]
    return ReplySchema(name, json.dumps(schema.model_json_schema(), sort_keys=True))


def parse_structured(text: str, schema: type[T]) -> T:
    """Read a value of the stated form out of a reply.

    Taken as it is, from a code fence, or from the first JSON value in prose that fits, behind
    the model's thinking and never inside it; trailing commas are forgiven.

    Args:
        text: The reply.
        schema: The form.

    Raises:
        ValueError: Nothing fits; the message says what is wrong, in one line.

    >>> from pydantic import create_model
    >>> Name = create_model("Name", name=(str, ...))
    >>> parse_structured('Sure! {"name": "plants",} Anything else?', Name).name
    'plants'
    """
    reply = clean_reply(text)
    if reply.is_cut_off:
        raise ValueError("the reply holds no JSON: it ends inside the model's thinking")
    complaint = "the reply holds no JSON"
    for candidate in _candidates(reply.text):
        try:
            return schema.model_validate_json(candidate)
        except ValidationError as error:
            if complaint.endswith("no JSON") or "Invalid JSON" in complaint:
                complaint = _one_line(error)
    raise ValueError(complaint)


def _candidates(text: str) -> Iterator[str]:
    """Pieces of a reply that may be the JSON value, the likeliest first."""
    fenced = [match.group(1).strip() for match in _FENCE.finditer(text)]
    pieces = [text.strip(), *fenced]
    for piece in pieces:
        if piece[:1] in ("{", "["):
            yield piece
            yield _without_trailing_commas(piece)
    decoder = json.JSONDecoder()
    tidy = _without_trailing_commas(text)
    end = 0
    for match in list(re.finditer(r"[{\[]", tidy))[:_MAX_STARTS]:
        if match.start() < end:
            continue
        try:
            _, end = decoder.raw_decode(tidy, match.start())
        except (ValueError, RecursionError):
            continue
        yield tidy[match.start() : end]


def _without_trailing_commas(text: str) -> str:
    return _STRING_OR_COMMA.sub(lambda found: "" if found[0] == "," else found[0], text)


def _one_line(error: ValidationError) -> str:
    parts = [
        ": ".join(filter(None, (".".join(map(str, item["loc"])), item["msg"])))
        for item in error.errors(include_url=False, include_context=False, include_input=False)
    ]
    return "; ".join(parts[:5]).replace("\n", " ")[:300]


def read_reply(outcome: Outcome, schema: type[T]) -> T | ChatFailure:
    """The value of a reply; a failure, with the tokens spent, where it does not fit."""
    if isinstance(outcome, ChatFailure):
        return outcome
    try:
        return parse_structured(outcome.text, schema)
    except ValueError as error:
        n_in, n_out = outcome.prompt_tokens, outcome.completion_tokens
        cut = f"; it was cut off at {n_out} tokens: raise reply_tokens (--reply-tokens)"
        said = f"the reply does not fit {schema.__name__}: {error}{cut * outcome.truncated}"
        return ChatFailure(said, n_in, n_out)


def repair_request(request: ChatRequest, reply: ChatReply, complaint: str) -> ChatRequest:
    """Ask once more, with the reply that does not fit and what is wrong with it."""
    again = (
        Message("assistant", reply.text),
        Message("user", f"That cannot be used: {complaint}. Answer again, with the JSON only."),
    )
    return replace(request, messages=(*request.messages, *again))
