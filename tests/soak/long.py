"""Rounds of a whole run in one process: memory, open files and threads must not grow.

    python tests/soak --seconds 7200 --out docs/reliability.json long

Ctrl-C ends it early; it then reports the rounds that there were.
"""

import gc
import json
import os
import shutil
import sys
import time
from pathlib import Path
from statistics import median
from threading import Thread

from facsynth.pipeline import run_recipe
from test_chat_endpoint import Server, completion
from test_kill import write_recipe

GROWTH_MB = 30
"""What the middle of the last quarter may lie above that of the second; caches of
torch and of the allocator fill in the first."""

N_POINTS = 240
"""Points that are kept for the chart."""


def soak(seconds, rng, folder):
    """Extraction, coverage and synthesis: by the model itself, then by a server, in turn."""
    server = Server(lambda s, text, n: completion(f"we saw some old {rng.choice(WORDS)} again"))
    Thread(target=server.serve_forever, daemon=True).start()
    recipes = [write_recipe(folder), ask_server(folder, server.url)]
    points, n_samples, started = [], 0, time.monotonic()
    try:
        while time.monotonic() < started + seconds or len(points) < 8:
            result = run_recipe(recipes[len(points) % 2], folder / "run")
            n_samples += result.n_synthetic
            shutil.rmtree(folder / "run")
            server.bodies.clear()
            server.seen.clear()
            points.append({"minutes": (time.monotonic() - started) / 60, **held()})
            print(json.dumps(points[-1]), file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        print("ended early", file=sys.stderr)
    server.shutdown()
    return summary(points, n_samples)


WORDS = ["cat", "dog", "fish", "bird", "sea", "sun", "tea", "snow"]


def ask_server(folder, url):
    """The recipe with a server as its generator."""
    text = (folder / "recipe.toml").read_text()
    asked = f'generator.chat_model = "m"\ngenerator.api_base = "{url}"\n'
    recipe = folder / "asked.toml"
    recipe.write_text(text.replace("generator.batch_size = 4\n", asked))
    return recipe


def held():
    """What this process holds at present."""
    gc.collect()
    status = Path("/proc/self/status").read_text()
    lines = dict(line.split(":", 1) for line in status.splitlines())
    return {
        "memory": int(lines["VmRSS"].split()[0]) / 1024,
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": int(lines["Threads"]),
    }


def summary(points, n_samples):
    """The middle of the second quarter of the rounds against that of the last."""
    quarter = len(points) // 4
    early, late = points[quarter : 2 * quarter], points[-quarter:]
    row = {"rounds": len(points), "samples written": n_samples}
    row["minutes"] = round(points[-1]["minutes"])
    for name, unit in (("memory", " (MB)"), ("descriptors", ""), ("threads", "")):
        before, after = (round(median(p[name] for p in part)) for part in (early, late))
        row[f"{name}, second quarter{unit}"], row[f"{name}, last quarter{unit}"] = before, after
    row["wrong"] = sum(
        row[f"{name}, last quarter{unit}"] > row[f"{name}, second quarter{unit}"] + room
        for name, unit, room in (("memory", " (MB)", GROWTH_MB), ("descriptors", "", 0))
    )
    step = -(-len(points) // N_POINTS)
    row["points"] = [{k: round(v, 2) for k, v in p.items()} for p in points[::step]]
    return row
