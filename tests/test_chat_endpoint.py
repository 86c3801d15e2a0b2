"""The endpoint client against a mock server on the loopback interface."""

import json
import os
import random
import signal
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from facsynth.chat.ask import ask as ask_many
from facsynth.chat.budget import BudgetedChat, Spending
from facsynth.chat.cache import CachedChat
from facsynth.chat.completion import retry_seconds
from facsynth.chat.endpoint import EndpointChat
from facsynth.chat.model import RAW, ChatFailure, ChatReply, ChatRequest, ReplySchema
from facsynth.chat.settings import EndpointSettings, Policy
from facsynth.errors import ChatError
from facsynth.records import Message

IN_TIME = 10.0
"""Seconds that a busy machine may take for a moment; what waits too long here waits far longer."""

SECRET = "sk-very-secret-0123456789"
QUICK = {"max_attempts": 8, "server_patience": 5.0, "backoff_s": 0.005}


def completion(text, finish="stop", **message):
    return {
        "choices": [
            {"finish_reason": finish, "message": {"role": "assistant", "content": text, **message}}
        ],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3},
    }


class Server(ThreadingHTTPServer):
    """Answers with `answer(server, text, n)`: a body, (status, body, headers), or a fault."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, answer: Callable):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answer = answer
        self.seen = Counter()
        self.bodies = []
        self.paths = set()
        self.keys = set()
        self.lock = threading.Lock()
        self.over = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_address[1]}/v1"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1

    def log_message(self, *args):
        pass

    def do_POST(self):
        server = self.server
        data = self.rfile.read(int(self.headers["Content-Length"]))
        if not data:  # the client has hung up
            self.close_connection = True
            return
        body = json.loads(data)
        text = body["messages"][-1]["content"] if "messages" in body else body["prompt"]
        with server.lock:
            server.bodies.append(body)
            server.paths.add(self.path)
            server.keys.add(self.headers["Authorization"])
            server.seen[text] += 1
            n = server.seen[text]
        answer = server.answer(server, text, n)
        if answer == "hang":
            server.over.wait(3 * IN_TIME)
            self.close_connection = True
        elif answer == "drip":
            self.send(200, "", {"Content-Length": "99"})
            while not server.over.wait(0.02):
                self.wfile.write(b" ")
                self.wfile.flush()
        elif answer == "reset":
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            self.close_connection = True
        else:
            self.send(*(answer if isinstance(answer, tuple) else (200, answer, {})))

    def handle(self):
        with suppress(ConnectionError):  # the client has hung up
            super().handle()

    def send(self, status, body, headers):
        data = body.encode() if isinstance(body, str) else json.dumps(body).encode()
        self.send_response(status)
        for name, value in {"Content-Type": "application/json", **headers}.items():
            self.send_header(name, value)
        if "Content-Length" not in headers:
            self.send_header("Content-Length", str(len(data)))
        else:
            self.close_connection = True
        self.end_headers()
        self.wfile.write(data)


@pytest.fixture
def serve(monkeypatch):
    monkeypatch.setenv("FAC_TEST_KEY", SECRET)
    servers = []

    def start(answer):
        server = Server(answer)
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        servers.append((server, thread))
        return server

    yield start
    for server, thread in servers:
        server.over.set()
        server.shutdown()
        thread.join()
        server.server_close()


def chat_with(server, **settings):
    settings = EndpointSettings(**{"attempt_timeout_s": 2.0, **QUICK, **settings})
    return EndpointChat("m", base_url=server.url, api_key_env="FAC_TEST_KEY", settings=settings)


def ask(text="hello", **settings):
    return ChatRequest((Message("user", text),), **settings)


def ask_all(chat, texts, **settings):
    return ask_many(chat, [ask(text, **settings) for text in texts], what="texts")


def echo(server, text, n):
    return completion(f"re: {text}")


def test_replies_keep_the_order_of_requests(serve):
    def answer(server, text, n):
        time.sleep(0.02 if text == "0" else 0)
        return completion(f"re: {text}")

    outcomes = chat_with(serve(answer)).reply([ask(str(i)) for i in range(20)])
    assert [outcome.text for outcome in outcomes] == [f"re: {i}" for i in range(20)]
    assert outcomes[0] == ChatReply("re: 0", prompt_tokens=7, completion_tokens=3)


def test_several_servers_take_turns(serve):
    servers = [serve(lambda server, text, n: completion("here")) for _ in range(3)]
    chat = EndpointChat("m", base_url=",".join(one.url for one in servers), api_key_env="")
    assert all(isinstance(one, ChatReply) for one in chat.reply([ask(str(i)) for i in range(12)]))
    assert [sum(one.seen.values()) for one in servers] == [4, 4, 4]


def test_the_other_servers_take_the_calls_of_one_that_fails(serve):
    broken = serve(lambda server, text, n: (500, {"error": "down"}, {}))
    sound = serve(lambda server, text, n: completion("here"))
    settings = EndpointSettings(concurrency=1, **QUICK)
    chat = EndpointChat(
        "m", base_url=f"{broken.url},{sound.url}", api_key_env="", settings=settings
    )
    assert all(isinstance(one, ChatReply) for one in chat.reply([ask(str(i)) for i in range(8)]))
    assert (sum(broken.seen.values()), sum(sound.seen.values())) == (1, 8)


def test_progress_counts_every_outcome_once(serve):
    steps = []
    chat_with(serve(echo)).reply([ask(str(i)) for i in range(9)], on_done=steps.append)
    assert sum(steps) == 9


def test_no_requests_make_no_calls(serve):
    server = serve(echo)
    assert chat_with(server).reply([]) == []
    assert not server.bodies


def test_request_travels_as_it_was_written(serve):
    server = serve(echo)
    schema = ReplySchema("Item", '{"type": "object"}')
    chat_with(server).reply([ask(seed=5, max_tokens=9, temperature=0.0, schema=schema)])
    (body,) = server.bodies
    assert (body["model"], body["seed"], body["max_tokens"], body["temperature"]) == ("m", 5, 9, 0)
    assert body["response_format"]["json_schema"]["name"] == "Item"
    assert server.keys == {f"Bearer {SECRET}"}


def test_endpoint_options_shape_the_body_and_the_name(serve):
    server = serve(echo)
    options = (
        "max-completion-tokens",
        "json_object",
        "no-seed",
        "no-top-p",
        'chat_template_kwargs={"enable_thinking": false}',
    )
    chat = chat_with(server, endpoint_option=options)
    chat.reply([ask(schema=ReplySchema("Item", "{}"))])
    (body,) = server.bodies
    assert not {"seed", "top_p", "max_tokens"} & set(body)
    assert body["response_format"] == {"type": "json_object"}
    assert body["chat_template_kwargs"] == {"enable_thinking": False}
    assert chat.name != chat_with(server).name


def refuses_schemas(server, text, n):
    with server.lock:
        sent = [body for body in server.bodies if body["messages"][-1]["content"] == text][-1]
    if "response_format" in sent:
        return 400, {"error": {"message": "response_format is not known here"}}, {}
    return completion("plain")


@pytest.mark.parametrize("concurrency", [1, 8])
def test_server_that_knows_no_schemas_is_asked_without_them(serve, concurrency):
    server, schema = serve(refuses_schemas), ReplySchema("Item", "{}")
    chat = chat_with(server, concurrency=concurrency)
    outcomes = chat.reply([ask(str(i), schema=schema) for i in range(20)])
    assert [outcome.text for outcome in outcomes] == ["plain"] * 20
    n_refused = sum("response_format" in body for body in server.bodies)
    assert 1 <= n_refused <= concurrency
    assert len(server.bodies) == 20 + n_refused


def test_call_that_is_bad_in_itself_fails_and_leaves_the_schema_to_others(serve):
    def answer(server, text, n):
        return (400, {"error": {"message": "too long"}}, {}) if text == "bad" else completion("ok")

    server, schema = serve(answer), ReplySchema("Item", "{}")
    chat = chat_with(server, concurrency=1)
    bad, good = chat.reply([ask("bad", schema=schema), ask("good", schema=schema)])
    assert (bad.reason, good.text) == ("the server said HTTP 400: too long", "ok")
    assert ["response_format" in body for body in server.bodies] == [True, False, True]


def test_rate_limit_is_waited_out_and_holds_every_call_back(serve):
    times = []

    def answer(server, text, n):
        times.append(time.monotonic())
        return (429, {"error": {}}, {"Retry-After": "0.2"}) if len(times) == 1 else completion("ok")

    outcomes = chat_with(serve(answer), concurrency=1).reply([ask("a"), ask("b")])
    assert [outcome.text for outcome in outcomes] == ["ok", "ok"]
    assert times[1] - times[0] >= 0.2


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("3", 3.0), ("0.5", 0.5), ("-1", None), ("nan", None), ("soon", None), (None, None)],
)
def test_retry_after_seconds(header, seconds):
    assert retry_seconds(header) == seconds


def test_retry_after_date():
    header = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    assert 25 < retry_seconds(header) <= 30


def test_each_attempt_asks_for_a_permit(serve):
    server = serve(lambda server, text, n: (500, {}, {}) if n < 3 else completion("ok"))
    asked = []
    chat_with(server).stream([ask()], lambda arrived: None, permit=lambda *call: asked.append(call))
    assert asked == [(ask(), False), (ask(), True), (ask(), True)]


def test_failed_and_repeated_calls_count_against_the_limit(serve):
    server = serve(lambda server, text, n: (500, {}, {}) if n == 1 else completion("ok"))
    spending = Spending(Policy(budget_calls=5))
    done = ask_all(BudgetedChat(chat_with(server, concurrency=1), spending), ["a", "b", "c", "d"])
    assert [outcome and outcome.text for outcome in done.outcomes] == ["ok", "ok", None, None]
    assert (len(server.bodies), spending.usage.n_calls) == (5, 5)
    assert "budget_calls = 5" in done.stopped


def test_tokens_set_aside_for_calls_under_way_are_given_back(serve):
    spending = Spending(Policy(budget_tokens=500))
    chat = BudgetedChat(chat_with(serve(echo), concurrency=8), spending)
    done = ask_all(chat, [str(i) for i in range(30)], max_tokens=100)  # 10 tokens each, in fact
    assert done.stopped is None
    assert spending.usage.tokens == 300


def test_rate_limits_are_bounded_by_time_not_by_attempts(serve):
    server = serve(lambda *call: (429, {"error": {}}, {}))
    chat = chat_with(server, max_attempts=1, server_patience=0.5, backoff_s=0.01)
    (outcome,) = chat.reply([ask()])
    assert "gave up after" in outcome.reason
    assert len(server.bodies) > 3


@pytest.mark.parametrize(
    "fault",
    [
        (500, {"error": {}}, {}),
        (503, "<html>busy</html>", {"Content-Type": "text/html"}),
        "reset",
        '{"choices": [',
        (200, '{"choices": []}', {"Content-Length": "99"}),
        {"error": {"message": "overloaded"}},
        {"choices": [], "usage": None},
        '{"usage": ' + "9" * 6000 + "}",
    ],
    ids=["500", "503", "reset", "malformed", "truncated", "error-body", "no-choice", "digits"],
)
def test_passing_fault_is_repeated(serve, fault):
    server = serve(lambda server, text, n: fault if n == 1 else completion("ok"))
    (outcome,) = chat_with(server).reply([ask()])
    assert outcome == ChatReply("ok", 7, 3)
    assert server.seen["hello"] == 2


def test_hang_ends_at_the_time_limit(serve):
    server = serve(lambda *call: "hang")
    (outcome,) = chat_with(server, attempt_timeout_s=0.1, max_attempts=2).reply([ask()])
    assert "no answer within 0.1 s; gave up after 2 attempts" in outcome.reason


def test_answer_that_drips_ends_at_the_time_limit_too(serve):
    server = serve(lambda server, text, n: "drip" if n == 1 else completion("ok"))
    began = time.monotonic()
    (outcome,) = chat_with(server, attempt_timeout_s=0.3).reply([ask()])
    assert outcome.text == "ok"
    assert time.monotonic() - began < IN_TIME


def test_lasting_fault_becomes_a_recorded_failure(serve):
    server = serve(lambda server, text, n: (500, {}, {}) if text == "bad" else completion("ok"))
    bad, good = chat_with(server).reply([ask("bad"), ask("good")])
    assert "HTTP 500; gave up after 8 attempts" in bad.reason
    assert good.text == "ok"
    assert server.seen["bad"] == 8


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (completion(""), "the answer is empty"),
        (completion(None), "the answer is empty"),
        (
            completion(" \n", "length"),
            "it had 256 tokens: raise thinking_tokens",
        ),
        (completion(None, refusal="I cannot."), "the model refused"),
        (completion("half", "content_filter"), "content filter"),
        ((400, {"error": {"message": f"too long, {SECRET}"}}, {}), r"HTTP 400: too long, \*\*\*"),
    ],
)
def test_unusable_answer_is_a_failure_and_not_repeated(serve, body, reason):
    server = serve(lambda *call: body)
    (outcome,) = chat_with(server).reply([ask()])
    assert isinstance(outcome, ChatFailure)
    pytest.raises(ValueError, raise_value, outcome.reason).match(reason)
    assert len(server.bodies) == 1


def raise_value(reason):
    raise ValueError(reason)


def test_truncated_answer_is_kept_and_marked(serve):
    (outcome,) = chat_with(serve(lambda *call: completion("half a", "length"))).reply([ask()])
    assert (outcome.text, outcome.truncated) == ("half a", True)


def test_missing_usage_is_estimated(serve):
    body = {key: value for key, value in completion("12345678").items() if key != "usage"}
    (outcome,) = chat_with(serve(lambda *call: body)).reply([ask("1234")])
    assert (outcome.prompt_tokens, outcome.completion_tokens) == (1, 2)


@pytest.mark.parametrize("status", [401, 402, 403, 404])
def test_hopeless_status_ends_the_run_with_advice(serve, status):
    server = serve(lambda *call: (status, {"error": {"message": f"bad key {SECRET}"}}, {}))
    with pytest.raises(ChatError, match=f"model 'm' with HTTP {status}.*FAC_TEST_KEY") as caught:
        chat_with(server).reply([ask(str(i)) for i in range(40)])
    assert server.url in str(caught.value)
    assert SECRET not in str(caught.value)
    assert len(server.bodies) < 40


def test_spent_quota_is_not_waited_for(serve):
    server = serve(lambda *call: (429, {"error": {"code": "insufficient_quota"}}, {}))
    with pytest.raises(ChatError, match="credit or quota is spent"):
        chat_with(server).reply([ask()])


def test_absent_server_is_an_error_that_says_so(serve):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    settings = EndpointSettings(max_attempts=2, backoff_s=0.01)
    chat = EndpointChat("m", base_url=f"http://127.0.0.1:{port}/v1", settings=settings)
    with pytest.raises(ChatError, match=r"cannot reach model 'm' at http.*start the server"):
        chat.reply([ask()])


def test_dead_server_ends_the_run_early(serve):
    server = serve(lambda server, text, n: completion("ok") if text == "0" else (500, {}, {}))
    settings = {"max_attempts": 2, "backoff_s": 0.001}
    with pytest.raises(ChatError, match="failed 20 calls in a row"):
        chat_with(server, **settings).reply([ask(str(i)) for i in range(200)])
    assert len(server.seen) < 100


def test_local_server_needs_no_key(serve, monkeypatch):
    monkeypatch.delenv("FAC_TEST_KEY")
    server = serve(echo)
    (outcome,) = chat_with(server).reply([ask()])
    assert outcome.text == "re: hello"
    assert SECRET not in str(server.keys)


def test_key_is_never_kept(serve, tmp_path):
    chat = chat_with(serve(echo))
    CachedChat(chat, tmp_path / "cache.db").reply([ask()])
    kept = b"".join(path.read_bytes() for path in tmp_path.iterdir())
    assert SECRET.encode() not in kept
    assert SECRET not in repr(chat) + repr(vars(chat)) + chat.name


@pytest.mark.parametrize(
    "url",
    ["localhost:8000", "ftp://host/v1", f"https://me:{SECRET}@host/v1", f"http://h/?k={SECRET}"],
)
def test_address_that_cannot_work_is_refused_without_secrets(url):
    with pytest.raises(ChatError, match="base URL") as caught:
        EndpointChat("m", base_url=url)
    assert SECRET not in str(caught.value)


def test_text_beyond_utf8_is_a_failure_of_that_request(serve):
    bad, good = chat_with(serve(echo)).reply([ask("\ud800"), ask("fine")])
    assert "UTF-8" in bad.reason
    assert good.text == "re: fine"


def test_hundreds_of_calls_with_faults_all_end_none_lost_and_none_twice(serve, tmp_path):
    def answer(server, text, n):
        draw = random.Random(f"{text}/{n}").random()
        schema = {"error": {"message": "another form"}}
        faults = [
            schema,
            (429, {"error": {}}, {"Retry-After": "0.01"}),
            (500, {}, {}),
            "hang",
            "reset",
            (200, '{"choi', {"Content-Length": "99"}),
            '{"choices": [',
        ]
        if draw < 0.3:
            return faults[int(draw / 0.3 * len(faults))]
        if int(text) % 100 == 7:
            return completion("")
        refusal = {"refusal": "no"} if int(text) % 100 == 8 else {}
        return completion(None if refusal else f"re: {text}", **refusal)

    server = serve(answer)
    chat = chat_with(server, attempt_timeout_s=0.15, max_attempts=60, server_patience=90.0)
    arrived = Counter()

    def note(batch):
        arrived.update(position for position, _ in batch)

    requests = [ask(str(i)) for i in range(200)]
    cached = CachedChat(chat, tmp_path / "cache.db")
    cached.stream(requests, note)
    assert arrived == Counter(range(200))
    n_bodies = len(server.bodies)
    outcomes = cached.reply(requests)
    failed = [i for i, outcome in enumerate(outcomes) if isinstance(outcome, ChatFailure)]
    assert failed == [i for i in range(200) if i % 100 in (7, 8)]
    assert all(outcomes[i].text == f"re: {i}" for i in range(200) if i not in failed)
    assert set(server.seen) == {str(i) for i in range(200)}
    again = {body["messages"][0]["content"] for body in server.bodies[n_bodies:]}
    assert again == {str(i) for i in failed}


def test_works_inside_a_running_event_loop(serve):
    import asyncio

    async def notebook():
        return chat_with(serve(echo)).reply([ask()])

    assert asyncio.run(notebook())[0].text == "re: hello"


def test_interrupt_keeps_what_is_under_way(serve, tmp_path):
    def answer(server, text, n):
        if text == "3" and n == 1:
            os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.05)
        return completion(f"re: {text}")

    server = serve(answer)
    chat = CachedChat(chat_with(server, concurrency=4), tmp_path / "cache.db")
    requests = [ask(str(i)) for i in range(100)]
    with pytest.raises(KeyboardInterrupt):
        chat.reply(requests)
    assert 4 <= len(server.seen) < 100
    assert len(chat.uncached(requests)) == 100 - len(server.seen)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_interrupt_cuts_off_what_hangs_after_the_grace_time(serve):
    def answer(server, text, n):
        os.kill(os.getpid(), signal.SIGINT)
        return "hang"

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        chat_with(serve(answer), grace_s=0.1).reply([ask()])
    assert time.monotonic() - began < IN_TIME


def test_second_interrupt_does_not_wait(serve):
    def answer(server, text, n):
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.1)
        return "hang"

    began = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        chat_with(serve(answer)).reply([ask()])
    assert time.monotonic() - began < IN_TIME


def test_error_of_the_caller_stops_the_calls_and_comes_through(serve):
    server = serve(echo)

    def fail(batch):
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError, match="disk full"):
        chat_with(server, concurrency=2).stream([ask(str(i)) for i in range(200)], fail)
    assert len(server.seen) < 200
    assert not any(thread.name == "facsynth-chat" for thread in threading.enumerate())


def test_raw_prompt_is_continued_at_the_older_address(serve):
    server = serve(lambda server, text, n: {"choices": [{"text": f"{text}go", "index": 0}]})
    [reply] = chat_with(server).reply([ChatRequest((Message(RAW, "<user>"),), max_tokens=9)])
    assert reply.text == "<user>go"
    assert server.paths == {"/v1/completions"}
    assert server.bodies[0]["max_tokens"] == 9
    assert "messages" not in server.bodies[0]
