"""What OpenAI-compatible servers do otherwise, one test each, against a mock server."""

import logging
import time
from dataclasses import replace

import pytest
from pydantic import BaseModel

from facsynth.chat import endpoint as endpoint_module
from facsynth.chat.ask import ask as ask_many
from facsynth.chat.budget import BudgetedChat, Spending
from facsynth.chat.dialect import read_options
from facsynth.chat.endpoint import open_endpoint
from facsynth.chat.model import ChatFailure, ChatReply, ChatRequest, ReplySchema
from facsynth.chat.policy import estimate
from facsynth.chat.settings import EndpointSettings, Generator, Policy, ReplySettings
from facsynth.errors import BudgetError, ChatError, DataError
from facsynth.records import Message
from test_chat_endpoint import IN_TIME, SECRET, ask, chat_with, completion
from test_chat_endpoint import serve as serve  # the fixture

ANSWER = "The market opens at nine."
THOUGHT = "Okay, the user wants a text."
ITEM = ReplySchema("Item", "{}")


class Item(BaseModel):
    """A form of reply."""

    name: str


def sends(body):
    """A server that always answers the same."""
    return lambda server, text, n: body


def refused(message, status=400, **fields):
    return status, {"error": {"message": message, **fields}}, {}


def extra(field):
    return {"detail": [{"loc": ["body", field], "msg": "Extra inputs are not permitted"}]}


def refuses(is_bad, answer):
    """A server that answers some bodies otherwise; `server.bodies` ends with the present one."""

    def reply(server, text, n):
        with server.lock:
            body = [b for b in server.bodies if b["messages"][-1]["content"] == text][-1]
        return answer if is_bad(body) else completion("ok")

    return reply


# What is left of a reply


@pytest.mark.parametrize(
    "content",
    [
        f"<think>\n{THOUGHT}\n</think>\n\n{ANSWER}",
        f"{THOUGHT}</think>{ANSWER}",
        f"[THINK]{THOUGHT}[/THINK]{ANSWER}",
        f"<|channel|>analysis<|message|>{THOUGHT}<|end|><|channel|>final<|message|>{ANSWER}",
        [{"type": "thinking", "thinking": [{"type": "text", "text": THOUGHT}]}, {"text": ANSWER}],
        f"{ANSWER}<|im_end|>",
        f"{ANSWER}<|eot_id|><|start_header_id|>user<|end_header_id|>\n\nThanks",
    ],
    ids=["think", "unopened", "brackets", "harmony", "parts", "end", "next-turn"],
)
def test_only_the_answer_of_a_reply_is_kept(serve, content):
    (outcome,) = chat_with(serve(sends(completion(content)))).reply([ask()])
    assert outcome == ChatReply(ANSWER, 7, 3)


@pytest.mark.parametrize(
    "body",
    [
        completion(f"<think>{THOUGHT}", "length"),
        completion(f"<think>{THOUGHT}", "stop"),
        completion(None, "length", reasoning_content=THOUGHT),
        completion("", "MAX_TOKENS", reasoning=THOUGHT),
    ],
)
def test_thinking_that_was_cut_off_is_a_failure_that_says_what_to_raise(serve, body):
    (outcome,) = chat_with(serve(sends(body)), thinking_tokens=9).reply([ask()])
    assert "cut off while the model was thinking" in outcome.reason
    assert "raise thinking_tokens (--thinking-tokens), now 9" in outcome.reason


def test_answer_that_stands_in_the_thinking_is_none(serve):
    body = completion(None, reasoning_content=ANSWER)
    (outcome,) = chat_with(serve(sends(body))).reply([ask()])
    assert outcome.reason == "the answer is empty: the server sent only the model's thinking"


def test_room_for_thinking_is_added_to_the_reply_length(serve):
    server = serve(sends(completion("ok")))
    chat_with(server, thinking_tokens=1000).reply([ask(max_tokens=60)])
    assert server.bodies[0]["max_tokens"] == 1060


def test_lengths_and_sampling_of_replies_are_settings(serve):
    server = serve(sends(completion("ok")))
    replies = ReplySettings(reply_tokens=9, temperature=0.0, top_p=1.0)
    wanted = Generator(chat_model="m", api_base=server.url, replies=replies)
    chat = open_endpoint(wanted)
    chat.reply([ask(max_tokens=60)])
    names = ("max_tokens", "temperature", "top_p")
    assert [server.bodies[0][name] for name in names] == [9, 0.0, 1.0]
    assert chat.name != open_endpoint(replace(wanted, replies=ReplySettings())).name


def test_estimates_count_the_length_that_is_asked_for():
    endpoint, replies = EndpointSettings(thinking_tokens=100), ReplySettings(reply_tokens=9)
    wanted = Generator(chat_model="m", endpoint=endpoint, replies=replies)
    assert estimate([ask(max_tokens=60)], wanted).max_completion_tokens == 109


def test_room_for_thinking_is_set_aside_in_the_budget(serve):
    spending = Spending(Policy(budget_tokens=500))
    chat = chat_with(serve(sends(completion("ok"))), thinking_tokens=1000)
    with pytest.raises(BudgetError, match="budget_tokens = 500"):
        BudgetedChat(chat, spending).reply([ask(max_tokens=60)])


def test_json_is_taken_from_behind_the_thinking(serve):
    body = completion('<think>Say {"name": "draft"}.</think>{"name": "final"}')
    asked = ask_many(chat_with(serve(sends(body))), [ask()], what="items", schema=Item)
    assert asked.outcomes == (Item(name="final"),)


@pytest.mark.parametrize(
    "finish", ["length", "max_tokens", "model_length", "MAX_TOKENS", "max_output_tokens"]
)
def test_every_word_for_a_length_limit_means_cut_off(serve, finish):
    (outcome,) = chat_with(serve(sends(completion("half a", finish)))).reply([ask()])
    assert outcome.truncated


@pytest.mark.parametrize("finish", ["stop", "eos", "stop_sequence", None])
def test_other_ends_are_whole(serve, finish):
    (outcome,) = chat_with(serve(sends(completion("all of it", finish)))).reply([ask()])
    assert not outcome.truncated


@pytest.mark.parametrize("finish", ["abort", "error"])
def test_answer_that_the_server_broke_off_is_asked_for_again(serve, finish):
    server = serve(lambda server, text, n: completion("And", finish if n == 1 else "stop"))
    (outcome,) = chat_with(server).reply([ask()])
    assert (outcome.text, server.seen["hello"]) == ("And", 2)


# What a server does not take

REFUSALS = {
    "maxcomp": (
        lambda body: "max_tokens" in body,
        refused("Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."),
    ),
    "temp": (
        lambda body: "temperature" in body,
        refused("Unsupported value: 'temperature' does not support 0.8 with this model."),
    ),
    "seed": (lambda body: "seed" in body, (422, extra("seed"), {})),
    "seed-in-message": (
        lambda body: "seed" in body,
        (422, {"object": "error", "message": extra("seed")}, {}),
    ),
    "both": (
        lambda body: {"temperature", "top_p"} <= set(body),
        refused("`temperature` and `top_p` cannot both be specified for this model"),
    ),
    "response-format": (
        lambda body: "response_format" in body,
        (500, {"error": {"message": "Failed to parse grammar"}}, {}),
    ),
    "json-schema": (
        lambda body: body.get("response_format", {}).get("type") == "json_schema",
        refused("response_format.type 'json_schema' is not supported, use 'json_object'"),
    ),
    "silent-500": (lambda body: "response_format" in body, (500, {}, {})),
    "system": (
        lambda body: body["messages"][0]["role"] == "system",
        (400, {"object": "error", "message": "System role not supported"}, {}),
    ),
    "alternate": (
        lambda body: body["messages"][0]["role"] == "system",
        refused("Conversation roles must alternate user/assistant/user/assistant/..."),
    ),
}


@pytest.fixture
def logged():
    """What is logged, as it arrives."""
    messages, handler, logger = [], logging.Handler(), logging.getLogger("facsynth")
    handler.emit = lambda record: messages.append(record.getMessage())
    logger.addHandler(handler)
    yield messages
    logger.removeHandler(handler)


@pytest.mark.parametrize("quirk", REFUSALS)
def test_what_a_server_refuses_is_learnt_once(serve, quirk, logged):
    server = serve(refuses(*REFUSALS[quirk]))
    messages = (Message("system", "Be kind."), Message("user", "Go."))
    requests = [ChatRequest(messages, seed=seed, schema=ITEM) for seed in range(5)]
    chat = chat_with(server, concurrency=1)
    name = chat.name
    outcomes = chat.reply(requests[:1]) + chat.reply(requests[1:])
    assert [outcome.text for outcome in outcomes] == ["ok"] * 5
    n_refused = sum(REFUSALS[quirk][0](body) for body in server.bodies)
    assert n_refused == (2 if quirk == "silent-500" else 1)
    assert len(server.bodies) == 5 + n_refused
    assert chat.name == name  # replies in a cache stay
    assert logged[0].startswith(f"{server.url} refused a field; requests now go with")


def test_several_quirks_of_one_server_are_learnt_together(serve):
    def answer(server, text, n):
        for quirk in ("maxcomp", "temp", "seed"):
            is_bad, refusal = REFUSALS[quirk]
            said = refuses(is_bad, refusal)(server, text, n)
            if isinstance(said, tuple):
                return said
        return completion("ok")

    server = serve(answer)
    outcomes = chat_with(server, concurrency=8).reply([ask(str(i)) for i in range(30)])
    assert [outcome.text for outcome in outcomes] == ["ok"] * 30
    assert len(server.bodies) <= 30 + 8 + 2


def test_a_system_message_is_folded_into_the_user_turn(serve):
    server = serve(refuses(*REFUSALS["system"]))
    chat_with(server).reply([ChatRequest((Message("system", "Be kind."), Message("user", "Go.")))])
    assert server.bodies[-1]["messages"] == [{"role": "user", "content": "Be kind.\n\nGo."}]


@pytest.mark.parametrize(
    "message",
    [
        "max_tokens is too large: 5000. This model supports at most 4096 completion tokens.",
        "'max_tokens' or 'max_completion_tokens' is too large: 600; the context is 512 tokens.",
        "temperature must be at most 1",
    ],
)
def test_a_bad_value_is_not_taken_for_a_field_that_is_not_known(serve, message):
    server = serve(sends(refused(message)))
    (outcome,) = chat_with(server).reply([ask()])
    assert outcome.reason == f"the server said HTTP 400: {message}"
    assert len(server.bodies) == 1


def test_refusal_that_nothing_helps_against_is_not_remembered(serve):
    def answer(server, text, n):
        return refused("`seed` is not supported") if text == "bad" else completion("ok")

    server = serve(answer)
    bad, good = chat_with(server, concurrency=1).reply([ask("bad"), ask("good")])
    assert "`seed` is not supported" in bad.reason
    assert "seed" in server.bodies[-1]


def test_one_500_does_not_cost_the_schema(serve):
    server = serve(lambda server, text, n: (500, {}, {}) if n == 1 else completion("ok"))
    chat_with(server).reply([ask(schema=ITEM)])
    assert ["response_format" in body for body in server.bodies] == [True, True]


def test_options_say_beforehand_what_a_server_does_not_take(serve):
    server = serve(sends(completion("ok")))
    options = ("max-completion-tokens", "no-temperature", "no_system", "reasoning_effort=low")
    messages = (Message("system", "Be kind."), Message("user", "Go."))
    chat_with(server, endpoint_option=options).reply([ChatRequest(messages)])
    (body,) = server.bodies
    assert not {"max_tokens", "temperature"} & set(body)
    assert (len(body["messages"]), body["reasoning_effort"]) == (1, "low")


def test_unknown_option_is_refused_with_the_known_ones():
    with pytest.raises(DataError, match="unknown endpoint option 'no-seeds'.*no-seed"):
        EndpointSettings(endpoint_option=("no-seeds",))


def test_options_that_change_replies_are_part_of_the_name():
    assert read_options(("no-seed",)).mark != read_options(()).mark == ""


# What a server says

DETAIL = {"detail": [{"type": "missing", "loc": ["body", "tools"], "msg": "Field required"}]}


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        ((422, {"error": "inputs must be <= 4096", "error_type": "validation"}, {}), "<= 4096"),
        ((422, DETAIL, {}), "HTTP 422: body.tools: Field required"),
        ((400, {"detail": "no such adapter"}, {}), "HTTP 400: no such adapter"),
        ((400, {"object": "error", "message": "too long", "code": 400}, {}), "400: too long"),
        ((500, {"error": {"message": "needs more memory"}}, {}), "HTTP 500: needs more memory"),
        ((400, "plainly wrong", {"Content-Type": "text/plain"}), "HTTP 400: plainly wrong"),
        ({"error": {"message": "overloaded"}}, "overloaded"),
        ({"error": f"bad {SECRET}"}, r"bad ***"),
    ],
)
def test_the_words_of_the_server_reach_the_user(serve, answer, words):
    (outcome,) = chat_with(serve(sends(answer)), max_attempts=1).reply([ask()])
    assert words in outcome.reason


@pytest.mark.parametrize(
    "answer",
    [
        {"error": {"message": "Insufficient credits. Add more.", "code": 402}},
        {"error": {"message": "Rate limit exceeded: free-models-per-day", "code": 429}},
        {"error": {"message": "Tokens per day exceeded", "code": "rate_limit"}},
        (429, {"error": {"message": "Daily limit reached"}}, {}),
        (429, {"error": {"message": "Daily limit reached"}}, {"Retry-After": "86400"}),
    ],
)
def test_a_spent_quota_ends_the_run_with_the_words_of_the_server(serve, answer):
    server = serve(sends(answer))
    words = (answer[1] if isinstance(answer, tuple) else answer)["error"]["message"]
    with pytest.raises(ChatError, match=f"the server said: {words}"):
        chat_with(server).reply([ask()])
    assert len(server.bodies) == 1


# How long a server is waited for


def test_a_pause_of_a_day_is_bounded_and_said(serve, monkeypatch, logged):
    monkeypatch.setattr(endpoint_module, "_LONG_PAUSE_S", 0.2)
    monkeypatch.setattr(endpoint_module, "_SAID_FROM_S", 0.1)
    day = (429, {"error": {"message": "slow down"}}, {"Retry-After": "86400"})
    server = serve(lambda server, text, n: day if len(server.bodies) == 1 else completion("ok"))
    began = time.monotonic()
    outcomes = chat_with(server, concurrency=1).reply([ask("a"), ask("b")])
    assert [outcome.text for outcome in outcomes] == ["ok", "ok"]
    assert 0.2 <= time.monotonic() - began < IN_TIME
    assert "slow down and asks to wait 86,400 s; trying again" in "".join(logged)


@pytest.mark.parametrize("concurrency", [1, 2])
def test_calls_behind_a_pause_give_up_in_time(serve, monkeypatch, concurrency):
    monkeypatch.setattr(endpoint_module, "_LONG_PAUSE_S", 3 * IN_TIME)
    day = (429, {"error": {}}, {"Retry-After": "86400"})
    began = time.monotonic()
    chat = chat_with(serve(sends(day)), server_patience=0.3, concurrency=concurrency)
    outcomes = chat.reply([ask("a"), ask("b")])
    assert all(isinstance(outcome, ChatFailure) for outcome in outcomes)
    assert time.monotonic() - began < IN_TIME


@pytest.mark.parametrize("fault", [(503, {"error": "Loading model"}, {}), "reset"])
def test_an_outage_is_waited_out_however_many_attempts_it_takes(serve, fault):
    server = serve(lambda server, text, n: fault if text == "b" and n < 9 else completion("ok"))
    chat = chat_with(server, max_attempts=2, backoff_s=0.001, concurrency=1)
    assert [outcome.text for outcome in chat.reply([ask("a"), ask("b")])] == ["ok", "ok"]


def test_an_outage_ends_with_the_patience(serve):
    server = serve(sends((503, {"error": "Loading model"}, {})))
    (outcome,) = chat_with(server, server_patience=0.3).reply([ask()])
    assert "HTTP 503: Loading model; gave up after" in outcome.reason


# Odd answers that are right, and counts that are not


@pytest.mark.parametrize("kind", ["text/plain", "application/octet-stream"])
def test_json_of_another_type_is_read(serve, kind):
    (outcome,) = chat_with(serve(sends((200, completion("ok"), {"Content-Type": kind})))).reply(
        [ask()]
    )
    assert outcome == ChatReply("ok", 7, 3)


@pytest.mark.parametrize(
    ("usage", "counts"),
    [
        ({"prompt_tokens": 50.0, "completion_tokens": 20.0}, (50, 20)),
        ({"prompt_tokens": 50, "total_tokens": 70}, (50, 20)),
        ({"prompt_tokens": -50, "completion_tokens": -20}, (2, 2)),
        ({"prompt_tokens": 10**9, "completion_tokens": 10**9}, (2, 2)),
        ({"prompt_tokens": 10**30, "completion_tokens": 1e300}, (2, 2)),
        ({"prompt_tokens": 0, "completion_tokens": 0}, (2, 2)),
        ({"prompt_tokens": "many", "completion_tokens": float("nan")}, (2, 2)),
        (None, (2, 2)),
    ],
)
def test_counts_that_cannot_be_true_are_estimated(serve, usage, counts):
    (outcome,) = chat_with(serve(sends({**completion("12345678"), "usage": usage}))).reply([ask()])
    assert (outcome.prompt_tokens, outcome.completion_tokens) == counts
