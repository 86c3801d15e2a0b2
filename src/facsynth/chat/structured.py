"""Replies in a stated JSON form: asked for, checked, and repaired once.

Servers that can enforce a JSON schema get one with the request. Others, and local models, are
told the schema in words; what comes back is salvaged from prose and code fences, checked against
a pydantic model, and asked for once more with the complaint when it does not fit.
"""

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from facsynth.chat.model import (
    ChatFailure,
    ChatModel,
    ChatReply,
    ChatRequest,
    Outcome,
    ReplySchema,
    deliver,
)
from facsynth.records import Message

__all__ = ["ask_structured", "parse_structured", "reply_schema"]

T = TypeVar("T", bound=BaseModel)

_MAX_STARTS = 50
"""Opening brackets tried as the start of a JSON value."""

_STRING_OR_COMMA = re.compile(r'"(?:[^"\\]|\\.)*"|,(?=\s*[}\]])', re.DOTALL)
_FENCE = re.compile(r"```[\w-]*\s*\n(.*?)```", re.DOTALL)


def reply_schema(schema: type[BaseModel]) -> ReplySchema:
    """The JSON schema of a pydantic model, for `ChatRequest.schema`."""
    name = re.sub(r"[^\w-]", "_", schema.__name__, flags=re.ASCII)[:64]
    return ReplySchema(name, json.dumps(schema.model_json_schema(), sort_keys=True))


def ask_structured(
    model: ChatModel,
    requests: Sequence[ChatRequest],
    schema: type[T],
    *,
    hint: bool = True,
    on_done: Callable[[int], None] | None = None,
) -> list[T | ChatFailure]:
    """Ask for replies of one form; a reply that does not fit is asked for once more.

    Args:
        model: Any chat model.
        requests: What to ask, without a schema.
        schema: The form of a reply.
        hint: Whether to add the JSON schema in words to the last message; switch it off when
            the prompt describes the form itself.
        on_done: Called with the number of replies that are settled since the last call.

    Returns:
        One value or recorded failure per request, in order.
    """
    form = reply_schema(schema)
    asked = [_with_schema(request, form, hint=hint) for request in requests]
    values, unfit = _ask_round(model, asked, schema, on_done, is_last=False)
    order = sorted(unfit)
    if order:
        repairs = [_repair(asked[position], *unfit[position]) for position in order]
        repaired, _ = _ask_round(model, repairs, schema, on_done, is_last=True)
        for number, position in enumerate(order):
            values[position] = _after_repair(repaired[number], unfit[position][0])
    return [values[position] for position in range(len(requests))]


def _ask_round(
    model: ChatModel,
    requests: list[ChatRequest],
    schema: type[T],
    on_done: Callable[[int], None] | None,
    *,
    is_last: bool,
) -> tuple[dict[int, T | ChatFailure], dict[int, tuple[ChatReply, str]]]:
    """Values by position, and of the replies that do not fit the reply and the complaint."""
    values: dict[int, T | ChatFailure] = {}
    unfit: dict[int, tuple[ChatReply, str]] = {}

    def check(arrived: Sequence[tuple[int, Outcome]]) -> None:
        for position, outcome in arrived:
            value = values[position] = _checked(outcome, schema)
            if isinstance(outcome, ChatReply) and isinstance(value, ChatFailure):
                unfit[position] = (outcome, value.reason)
        n_settled = sum(is_last or position not in unfit for position, _ in arrived)
        if on_done is not None and n_settled:
            on_done(n_settled)

    deliver(model, requests, check)
    return values, unfit


def parse_structured(text: str, schema: type[T]) -> T:
    """Read a value of the stated form out of a reply.

    Taken as it is, from a code fence, or from the first JSON value in prose that fits;
    trailing commas are forgiven.

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
    complaint = "the reply holds no JSON"
    for candidate in _candidates(text):
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


def _checked(outcome: Outcome, schema: type[T]) -> T | ChatFailure:
    if isinstance(outcome, ChatFailure):
        return outcome
    try:
        return parse_structured(outcome.text, schema)
    except ValueError as error:
        n_in, n_out = outcome.prompt_tokens, outcome.completion_tokens
        return ChatFailure(f"the reply is not a {schema.__name__}: {error}", n_in, n_out)


def _with_schema(request: ChatRequest, form: ReplySchema, *, hint: bool) -> ChatRequest:
    if not hint:
        return replace(request, schema=form)
    last = request.messages[-1]
    line = f"Answer with JSON only, without any other text, by this schema: {form.json_schema}"
    told = Message(last.role, f"{last.content}\n\n{line}")
    return replace(request, messages=(*request.messages[:-1], told), schema=form)


def _repair(request: ChatRequest, reply: ChatReply, complaint: str) -> ChatRequest:
    again = (
        Message("assistant", reply.text),
        Message("user", f"That cannot be used: {complaint}. Answer again, with the JSON only."),
    )
    return replace(request, messages=(*request.messages, *again))


def _after_repair(value: T | ChatFailure, first: ChatReply) -> T | ChatFailure:
    """The value of the second round; a failure also bears the tokens of the first."""
    if not isinstance(value, ChatFailure):
        return value
    return ChatFailure(
        f"{value.reason} (after one repair)",
        value.prompt_tokens + first.prompt_tokens,
        value.completion_tokens + first.completion_tokens,
    )
