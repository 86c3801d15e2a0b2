"""A run that is killed with SIGKILL again and again ends in the data set of an undisturbed one."""

import json
import random
import shutil
import time
from multiprocessing import get_context
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess

import pytest

from facsynth.pipeline import run_recipe
from tiny_pair import PLANTED, save_pair

N_KILLS = 10

FILES = (
    "synthesize/synthetic.jsonl",
    "synthesize/summary.json",
    "coverage/before.json",
    "coverage/missing.jsonl",
    "coverage/after.json",
)


def write_recipe(folder):
    """A recipe whose generator is the tiny model itself, seeded; it ends half its texts in time."""
    model, sae = save_pair(folder)
    one = "we saw some old {} under the red table near my road"
    texts = [" and then ".join([one.format(word)] * n) for word in PLANTED for n in (1, 2)]
    for name, chosen in (("anchor", texts), ("seed", ["the house was very good today"])):
        rows = [{"messages": [{"role": "user", "content": text}]} for text in chosen]
        (folder / f"{name}.jsonl").write_text("\n".join(map(json.dumps, rows)))
    recipe = folder / "recipe.toml"
    recipe.write_text(f"""
name = "kill"
model = "{model}"
sae = "{sae}"
anchor.source = "{folder / "anchor.jsonl"}"
seed.source = "{folder / "seed.jsonl"}"
extract.score = "user"
generator.batch_size = 4
[synthesize]
reply = true
min_anchor_samples = 1
[synthesize.sampling]
max_length = 28
[synthesize.effort]
max_samples = 6
max_candidates = 60
round_size = 12
""")
    return recipe


@pytest.fixture
def children() -> ForkServerContext:
    """Processes that start with everything imported, from one in which no thread has run."""
    context = get_context("forkserver")
    context.set_forkserver_preload(["facsynth.pipeline", "torch", "transformers"])
    return context


def start_run(children, recipe, folder) -> BaseProcess:
    child = children.Process(target=run_recipe, args=(recipe, folder))
    child.start()
    return child


def finish_run(children, recipe, folder) -> float:
    """Let a run end undisturbed; the seconds that it took."""
    started = time.monotonic()
    child = start_run(children, recipe, folder)
    child.join()
    assert child.exitcode == 0
    return time.monotonic() - started


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_ten_kills_change_nothing(tmp_path, children):
    recipe = write_recipe(tmp_path)
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    seconds, rng, codes = finish_run(children, recipe, whole), random.Random(0), []
    for _ in range(N_KILLS):
        child = start_run(children, recipe, killed)
        child.join(rng.uniform(0.0, seconds / 3))
        child.kill()
        child.join()
        codes.append(child.exitcode)
        if child.exitcode == 0:  # too fast to be killed: begin again, with less time
            seconds /= 2
            shutil.rmtree(killed)
    finish_run(children, recipe, killed)
    assert codes.count(-9) >= N_KILLS // 2, codes
    assert (whole / "synthesize/synthetic.jsonl").read_text().count("\n") > 1
    for name in FILES:
        assert (killed / name).read_text() == (whole / name).read_text(), name
