"""A server that fails in every way: each request ends once, and no limit is passed."""

import resource
import time
from collections import Counter
from dataclasses import replace
from threading import Thread

from facsynth.chat.budget import BudgetedChat, Spending
from facsynth.chat.endpoint import EndpointChat
from facsynth.chat.model import ChatReply, ChatRequest
from facsynth.chat.settings import EndpointSettings, Policy
from facsynth.errors import BudgetError, ChatError
from facsynth.records import Message
from test_chat_endpoint import Server, completion

SETTINGS = EndpointSettings(
    max_attempts=6, backoff_s=0.002, server_patience=3.0, attempt_timeout_s=0.5, concurrency=16
)
N_TOKENS = 10**9
FAULTS = {
    "refused": (429, {"error": {"message": "slow down"}}, {"Retry-After": "0"}),
    "broken": (500, {"error": {"message": "x"}}, {}),
    "overloaded": (503, "<html>busy</html>", {}),
    "gateway": (502, "", {}),
    "wrong request": (400, {"error": {"message": "no"}}, {}),
    "no JSON": (200, "hello", {}),
    "half of it": (200, '{"choices": [{"mess', {}),
    "cut": (200, '{"choices"', {"Content-Length": "999"}),
    "a list": (200, [], {}),
    "null": (200, "null", {}),
    "no choices": (200, {"choices": []}, {}),
    "choices of null": (200, {"choices": None}, {}),
    "a number as content": (200, completion(7), {}),
    "nothing": (200, completion(""), {}),
    "cut off": (200, completion("", finish="length"), {}),
    "filtered": (200, completion("", finish="content_filter"), {}),
    "a refusal": (200, completion("", refusal="no"), {}),
    "huge usage": (200, {**completion("ok"), "usage": {"prompt_tokens": 10**30}}, {}),
    "negative usage": (200, {**completion("ok"), "usage": {"completion_tokens": -(10**9)}}, {}),
    "usage of words": (200, {**completion("ok"), "usage": "many"}, {}),
    "deep JSON": (200, "[" * 50_000, {}),
    "long digits": (200, '{"usage": ' + "9" * 6000 + "}", {}),
    "reset": "reset",
    "hang": "hang",
}


def soak(seconds, rng, folder):
    """Rounds of requests; a third of the answers fail in a random way."""
    server, row = Server(lambda s, text, n: answer(rng)), Counter()
    Thread(target=server.serve_forever, daemon=True).start()
    memory, until = None, time.monotonic() + seconds
    while time.monotonic() < until or not row["requests"]:
        spending = Spending(replace(Policy(), budget_calls=800, budget_tokens=N_TOKENS))
        inner = EndpointChat("m", base_url=server.url, api_key_env="", settings=SETTINGS)
        requests = [ask(f"{row['requests'] + i}") for i in range(300)]
        arrived: Counter = Counter()
        n_before = len(server.bodies)
        try:
            BudgetedChat(inner, spending).stream(
                requests,
                lambda done, arrived=arrived: arrived.update(
                    (place, isinstance(outcome, ChatReply)) for place, outcome in done
                ),
            )
            row["rounds that ended"] += 1
            row["wrong"] += len({place for place, _ in arrived}) != len(requests)
        except (BudgetError, ChatError):
            row["rounds that stopped"] += 1
        time.sleep(0.2)
        row["requests"] += len(requests)
        row["replies"] += sum(good for _, good in arrived)
        row["failures"] += sum(not good for _, good in arrived)
        row["calls"] += len(server.bodies) - n_before
        row["wrong"] += sum(n > 1 for n in arrived.values())
        row["wrong"] += spending.usage.n_calls > 800 or not 0 <= spending.usage.tokens < N_TOKENS
        server.bodies.clear()
        server.seen.clear()
        used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        memory = memory or used
        row["memory grown (MB)"] = used - memory
    server.over.set()
    server.shutdown()
    down = outage(min(60.0, seconds))
    row["wrong"] += down["answered after it"] != 40
    return {"fault kinds": len(FAULTS), **row, **down}


def outage(seconds):
    """A server that is down for a while, after which every request is answered."""
    until = time.monotonic() + seconds
    down = [(503, {"error": {"message": "down"}}, {}), "reset", (502, "", {})]
    server = Server(
        lambda s, text, n: down[n % 3] if time.monotonic() < until else completion("ok")
    )
    Thread(target=server.serve_forever, daemon=True).start()
    settings = replace(SETTINGS, server_patience=2 * seconds + 60, backoff_s=0.5)
    inner = EndpointChat("m", base_url=server.url, api_key_env="", settings=settings)
    spending = Spending(replace(Policy(), budget_calls=10**6))
    told = BudgetedChat(inner, spending).reply([ask(f"down {i}") for i in range(40)])
    server.shutdown()
    answered = sum(isinstance(one, ChatReply) for one in told)
    return {"outage (seconds)": round(seconds), "answered after it": answered}


def ask(text):
    return ChatRequest((Message("user", text),), max_tokens=16)


def answer(rng):
    if rng.random() < 0.67:
        return completion("fine")
    return FAULTS[rng.choice([*FAULTS, *list(FAULTS)[:-1] * 4])]
