"""A real OpenAI-compatible server, `transformers serve`, with the default model behind it."""

import json
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from facsynth.chat.cache import CachedChat
from facsynth.chat.endpoint import EndpointChat
from facsynth.chat.model import ChatReply, ChatRequest
from facsynth.chat.settings import EndpointSettings
from facsynth.models.default_model import default_model_folder
from facsynth.pipeline import run_recipe
from facsynth.records import Message

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]

RECIPE = """
name = "served"
[anchor]
source = "chitchat"
n_samples = 40
random_seed = 1
[seed]
source = "chitchat"
n_samples = 12
prompts = ["Mozart or Beethoven?"]
random_seed = 2
[extract]
score = "user"
max_length = 128
[synthesize]
min_anchor_samples = 2
[synthesize.effort]
max_samples = 2
max_candidates = 6
[synthesize.sampling]
max_length = 24
[generator]
chat_model = "{model}"
api_base = "{url}"
api_key_env = ""
"""


@dataclass(frozen=True)
class Server:
    """A running server."""

    url: str
    model: str
    log: Path

    def n_calls(self) -> int:
        """Chat requests that it has answered."""
        return self.log.read_text(errors="replace").count("POST /v1/chat/completions")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    model = str(default_model_folder())
    log = tmp_path_factory.mktemp("server") / "log.txt"
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(Path(sys.executable).with_name("transformers")), "serve", model]
    # Processors without instructions for bfloat16 are three times as fast in float32.
    command += ["--host", "127.0.0.1", "--port", str(port), "--dtype", "float32"]
    with log.open("w") as stream:
        process = subprocess.Popen(command, stdout=stream, stderr=subprocess.STDOUT)
    try:
        _wait(f"http://127.0.0.1:{port}/health", process, log)
        yield Server(f"http://127.0.0.1:{port}/v1", model, log)
    finally:
        process.terminate()
        process.wait(timeout=30)


def _wait(address: str, process: subprocess.Popen[bytes], log: Path) -> None:
    for _ in range(240):
        try:
            with urllib.request.urlopen(address, timeout=2):
                return
        except (urllib.error.URLError, OSError):
            assert process.poll() is None, log.read_text(errors="replace")[-2000:]
            time.sleep(1)
    raise AssertionError(f"no answer from {address}")


def _ask(server: Server, cache: Path, *questions: str) -> list[ChatReply]:
    settings = EndpointSettings(concurrency=2, endpoint_option=("no-response-format",))
    endpoint = EndpointChat(server.model, base_url=server.url, api_key_env="", settings=settings)
    requests = [
        ChatRequest((Message("user", question),), max_tokens=12, temperature=0.0, seed=0)
        for question in questions
    ]
    replies = CachedChat(endpoint, cache).reply(requests)
    assert all(isinstance(reply, ChatReply) for reply in replies)
    return [reply for reply in replies if isinstance(reply, ChatReply)]


def test_a_served_model_answers_and_its_answer_is_cached(server: Server, tmp_path: Path) -> None:
    question = "What is the capital of France? One word."
    (first,) = _ask(server, tmp_path / "cache.sqlite", question)
    calls = server.n_calls()
    (second,) = _ask(server, tmp_path / "cache.sqlite", question)
    assert "Paris" in first.text
    assert first.prompt_tokens > 10
    assert second.text == first.text
    assert server.n_calls() == calls


def test_a_run_writes_its_samples_with_a_served_model(server: Server, tmp_path: Path) -> None:
    recipe = tmp_path / "served.toml"
    recipe.write_text(RECIPE.format(model=server.model, url=server.url))
    before = server.n_calls()
    result = run_recipe(recipe, tmp_path / "run")
    made = server.n_calls() - before
    assert made >= 6
    rows = (tmp_path / "run" / "synthesize" / "synthetic.jsonl").read_text().splitlines()
    assert len(rows) == result.n_synthetic
    assert all(json.loads(row)["messages"][0]["content"].strip() for row in rows)
    assert result.after["fac"] >= result.before["fac"]
    run_recipe(recipe, tmp_path / "run")
    assert server.n_calls() - before == made
