"""The small world of the trials: a tiny model with its SAE, data, and commands as processes."""

import json
from multiprocessing import get_context
from pathlib import Path

from test_kill import FILES, write_recipe
from tiny_pair import FILLERS, PLANTED

__all__ = ["CHILDREN", "Trial", "contents", "trials"]

CHILDREN = get_context("forkserver")
CHILDREN.set_forkserver_preload(["facsynth.pipeline", "facsynth.cli", "torch", "transformers"])


class Trial:
    """A command that writes a folder and can be started again."""

    def __init__(self, name, words, files=None):
        self.name, self.words, self.files = name, words, files

    def start(self, folder, log=None):
        """The command as a process of its own."""
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


def contents(folder: Path, files=None) -> dict[str, bytes]:
    """What a finished command has left, without traces of the way there."""
    if files is not None:
        return {name: (folder / name).read_bytes() for name in files}
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
