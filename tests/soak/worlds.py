"""The small world of the trials: a tiny model with its SAE, data, and commands as processes."""

import json
import random
from multiprocessing import get_context
from pathlib import Path

from test_kill import FILES, write_recipe
from tiny_pair import FILLERS, PLANTED

__all__ = ["CHILDREN", "Trial", "all_trials", "contents", "trials"]

CHILDREN = get_context("forkserver")
CHILDREN.set_forkserver_preload(["facsynth.pipeline", "facsynth.cli", "torch", "transformers"])


class Trial:
    """A command that writes a folder and can be started again."""

    def __init__(self, name, words, files=None):
        self.name, self.words, self.files = name, words, files

    def start(self, folder, log=None):
        """The command as a process of its own; to be joined."""
        child = CHILDREN.Process(target=run_command, args=([*self.words, "-o", folder], log))
        child.start()
        return child


def run_command(words, log=None):
    """`fac` with these words; its output goes into a file."""
    import os
    import sys

    out = os.open(log or os.devnull, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(out, 1)
    os.dup2(out, 2)
    from facsynth.cli import main

    sys.argv = ["fac", *map(str, words)]
    main()


def trials(folder: Path) -> list[Trial]:
    """The commands that are killed: extraction in many parts, training, and a whole run."""
    recipe = write_recipe(folder)
    data = folder / "many.jsonl"
    texts = [f"{FILLERS[i % 30]} {PLANTED[i % 8]} {FILLERS[i % 7]} " * 12 for i in range(1200)]
    data.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    model = ("--model", folder / "model", "--dtype", "float32")
    return [
        Trial("extract", ["extract", data, *model, "--sae", folder / "sae"]),
        Trial(
            "sae train",
            ["sae", "train", data, *model, "--layer", 0, "--n-features", 64, "--k", 8],
            ("sae_weights.safetensors", "cfg.json"),
        ),
        Trial("run", ["run", recipe], FILES),
    ]


N_SHARDS = 3

EXPERIMENT = """
name = "kill"
model = "{0}/model"
sae = "{0}/sae"
dtype = "float32"
reference = "random"
sizes = [2, 4]
n_written = 4
random_seeds = [1, 2]
n_resamples = 50
anchor.source = "{0}/anchor_text.jsonl"
seed.source = "{0}/seed_text.jsonl"
[[arms]]
name = "random"
kind = "real"
[[arms]]
name = "coverage"
kind = "real"
choice = "coverage"
[[tasks]]
name = "planted"
test.source = "{0}/test_text.jsonl"
always.source = "{0}/always_text.jsonl"
positive = "yes"
"""


def all_trials(folder: Path) -> list[Trial]:
    """Those of `trials`, and the commands that begin with what others have made."""
    found = trials(folder)
    extract, *_ = found
    fac, data, *options = extract.words
    made = [
        Trial(name, [fac, folder / f"{name}.jsonl", *options, "--score", "user"])
        for name in ("anchor", "seed")
    ]
    made += [
        Trial(f"shard {i}", [fac, data, *options, "--shard", i, "--num-shards", N_SHARDS])
        for i in range(N_SHARDS)
    ]
    for one in made:
        child = one.start(folder / one.name, folder / "log")
        child.join()
        assert child.exitcode == 0, (folder / "log").read_text()
    write_labelled(folder)
    model = ("--model", folder / "model", "--dtype", "float32", "--sae", folder / "sae")
    written = ("--max-samples", 6, "--max-candidates", 60, "--round-size", 12, "--max-length", 28)
    shards = [*folder.glob("shard */shard-*")]
    assert len(shards) == N_SHARDS
    tables = ("--anchor", folder / "anchor", "--seed", folder / "seed")
    return [
        *found,
        Trial(
            "synthesize",
            ["synthesize", *tables, *model, *written, "--min-anchor-samples", 1],
            ("synthetic.jsonl", "summary.json"),
        ),
        Trial("merge", ["merge", *shards]),
        Trial(
            "experiment",
            ["experiment", folder / "experiment.toml"],
            ("cells/*.json", "measures/*.json", "arms/*/samples.jsonl"),
        ),
    ]


def write_labelled(folder: Path) -> None:
    """The recipe of a small experiment, and its texts."""
    (folder / "experiment.toml").write_text(EXPERIMENT.format(folder))
    rng = random.Random(0)
    for name, n, labels in (
        *(("anchor", 40, ["yes"]), ("seed", 12, ["yes", "no"])),
        *(("test", 40, ["yes", "no"]), ("always", 8, ["no"])),
    ):
        rows = []
        for i in range(n):
            label, words = labels[i % len(labels)], rng.sample(FILLERS, 8)
            rows.append(
                {"label": label, "text": " ".join([*words, PLANTED[i % 8]][label == "no" :])}
            )
        path = folder / f"{name}_text.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))


def contents(folder: Path, files=None) -> dict[str, bytes]:
    """What a finished command has left, without traces of the way there."""
    chosen = [path for name in files or ["**/*"] for path in sorted(folder.glob(name))]
    assert len(chosen) >= len(files or ()), f"{folder} lacks some of {files}"
    return {str(p.relative_to(folder)): p.read_bytes() for p in chosen if p.is_file()}
