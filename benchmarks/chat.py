"""Compares the requests per second of the endpoint client with those of the bare SDK, in one run.

A mock server in a separate process answers every call after 50 ms. All clients make the same calls,
64 at a time, in turns; each client's best turn counts. The SDK is measured with its default
transport and with aiohttp, which facsynth uses; the goal is relative to the faster of the two:

    python benchmarks/chat.py --calls 2000 --turns 3
"""

import argparse
import asyncio
import json
import multiprocessing
import os
import platform
import time
from collections.abc import Callable
from datetime import date
from functools import partial
from importlib.metadata import version
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from facsynth.chat.endpoint import EndpointChat
from facsynth.chat.model import ChatReply, ChatRequest
from facsynth.chat.settings import EndpointSettings
from facsynth.records import Message

PAGE = Path(__file__).resolve().parent.parent / "docs" / "benchmarks" / "chat.md"
LATENCY_S = 0.05
CONCURRENCY = 64
GOAL_PER_S = 500
GOAL_SHARE = 0.85

_BODY = json.dumps(
    {
        "id": "x",
        "object": "chat.completion",
        "created": 0,
        "model": "mock",
        "choices": [
            {
                "index": 0,
                "finish_reason": "stop",
                "message": {"role": "assistant", "content": "It is a fine day by the sea."},
            }
        ],
        "usage": {"prompt_tokens": 20, "completion_tokens": 9, "total_tokens": 29},
    }
).encode()
_ANSWER = (
    b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: "
    + str(len(_BODY)).encode()
    + b"\r\n\r\n"
    + _BODY
)


def serve(pipe: Connection) -> None:
    """Answer every request after the latency; send the port through the pipe."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                fields = dict(line.split(b": ", 1) for line in head.lower().split(b"\r\n")[1:-2])
                await reader.readexactly(int(fields[b"content-length"]))
                await asyncio.sleep(LATENCY_S)
                writer.write(_ANSWER)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    async def run() -> None:
        server = await asyncio.start_server(talk, "127.0.0.1", 0, backlog=256)
        pipe.send(server.sockets[0].getsockname()[1])
        await server.serve_forever()

    asyncio.run(run())


def requests(n: int) -> list[ChatRequest]:
    """Distinct calls like those of synthesis."""
    text = "Write a new message on the same theme as these texts, in other words. " * 4
    return [ChatRequest((Message("user", f"{text}{number}"),), seed=number) for number in range(n)]


def ours(url: str, calls: list[ChatRequest]) -> float:
    """Seconds that `EndpointChat` takes from its first call to the last outcome."""
    settings = EndpointSettings(concurrency=CONCURRENCY)
    chat = EndpointChat("mock", base_url=url, api_key_env="", settings=settings)
    began = time.perf_counter()
    outcomes = chat.reply(calls)
    seconds = time.perf_counter() - began
    assert all(isinstance(outcome, ChatReply) for outcome in outcomes)
    return seconds


def bare(url: str, calls: list[ChatRequest], *, aiohttp: bool = False) -> float:
    """Seconds that AsyncOpenAI takes with a semaphore, the usual way to limit concurrency."""
    from openai import AsyncOpenAI, DefaultAioHttpClient

    async def run() -> None:
        gate = asyncio.Semaphore(CONCURRENCY)
        http = DefaultAioHttpClient() if aiohttp else None
        async with AsyncOpenAI(
            base_url=url, api_key="none", max_retries=0, http_client=http
        ) as client:

            async def one(call: ChatRequest) -> str | None:
                async with gate:
                    done = await client.chat.completions.create(
                        model="mock",
                        messages=[{"role": "user", "content": call.messages[0].content}],
                        max_tokens=call.max_tokens,
                        temperature=call.temperature,
                        top_p=call.top_p,
                        seed=call.seed,
                    )
                    return done.choices[0].message.content

            assert all(await asyncio.gather(*map(one, calls)))

    began = time.perf_counter()
    asyncio.run(run())
    return time.perf_counter() - began


SIDES: dict[str, Callable[[str, list[ChatRequest]], float]] = {
    "facsynth": ours,
    "AsyncOpenAI behind a semaphore": bare,
    "the same with the aiohttp transport": partial(bare, aiohttp=True),
}


def measure(n_calls: int, n_turns: int) -> dict[str, Any]:
    """Calls per second of all clients, by turn and at best, and the client's CPU time."""
    mine, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs,), daemon=True)
    server.start()
    url = f"http://127.0.0.1:{mine.recv()}/v1"
    calls = requests(n_calls)
    for side in SIDES.values():
        side(url, calls[:CONCURRENCY])  # imports and first connections
    rates: dict[str, list[float]] = {name: [] for name in SIDES}
    cpu_ms: dict[str, list[float]] = {name: [] for name in SIDES}
    for _ in range(n_turns):
        for name, side in SIDES.items():
            began = time.process_time()
            rates[name].append(round(n_calls / side(url, calls), 1))
            cpu_ms[name].append(round(1000 * (time.process_time() - began) / n_calls, 2))
    server.terminate()
    best = {name: max(found) for name, found in rates.items()}
    sdk = max(rate for name, rate in best.items() if name != "facsynth")
    return {
        "calls": n_calls,
        "concurrency": CONCURRENCY,
        "latency_s": LATENCY_S,
        "load_average": os.getloadavg()[0],
        "turns_per_s": rates,
        "client_cpu_ms": {name: min(found) for name, found in cpu_ms.items()},
        "share_of_sdk": round(best["facsynth"] / sdk, 3),
        "goals": {
            "per_s": best["facsynth"] >= GOAL_PER_S,
            "share": best["facsynth"] >= GOAL_SHARE * sdk,
        },
    }


def page(report: dict[str, Any]) -> str:
    """The results of `measure` as Markdown."""
    table = "\n".join(
        f"| {name} | {max(turns):,.0f} | {', '.join(f'{x:,.0f}' for x in turns)} | "
        f"{report['client_cpu_ms'][name]:.2f} |"
        for name, turns in report["turns_per_s"].items()
    )
    met = {name: "met" if reached else "not met" for name, reached in report["goals"].items()}
    bound = report["concurrency"] / report["latency_s"]
    return f"""# Endpoint client vs. the bare OpenAI SDK

{report["calls"]:,} distinct calls, {report["concurrency"]} at a time, to a mock server in a
separate process that answers after {report["latency_s"] * 1000:.0f} ms, so at most {bound:,.0f}
calls per second are possible. The clients take turns; each client's best turn counts.

| client | calls/s | turns | client CPU time, ms per call |
|---|---:|---|---:|
{table}

Goals: {GOAL_PER_S} calls per second ({met["per_s"]}); {GOAL_SHARE:.0%} of the rate of the bare SDK
with the faster of its transports ({met["share"]}: {report["share_of_sdk"]:.0%}).

A test checks that 1,000 calls with 30 % faults all finish, with none lost and none repeated:
`test_thousand_calls_with_faults_all_end_none_lost_and_none_twice` in `tests/test_chat_endpoint.py`.

{os.cpu_count()} cores, load {report["load_average"]:.1f} at the end, {platform.system()}, Python
{platform.python_version()}, openai {version("openai")}, aiohttp {version("aiohttp")};
{date.today().isoformat()}.
Made by `make bench-chat`.
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=2000)
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--write", action="store_true", help=f"write {PAGE.name}")
    options = parser.parse_args()
    report = measure(options.calls, options.turns)
    print(json.dumps(report, indent=2))
    if options.write:
        PAGE.parent.mkdir(parents=True, exist_ok=True)
        PAGE.write_text(page(report), encoding="utf-8")


if __name__ == "__main__":
    main()
