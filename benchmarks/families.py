"""`make bench-families`: train an SAE and extract features with two other model families.

For Gemma 3 270M and Qwen2.5-Coder-0.5B-Instruct: load the GGUF, train a tiny SAE on a few real
conversations with `fac sae train`, inspect it with `fac sae info`, and read the conversations with
`fac extract`. The SAE is too small to be meaningful; the benchmark shows that the commands work.
"""

import json
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from models import fetch_model

from facsynth.data.chitchat import chitchat_samples
from facsynth.data.write import sample_row, write_jsonl

N_SAMPLES = 24
LAYER = 8


def main() -> None:
    """Print one row per family; stop at the first command that fails."""
    with TemporaryDirectory() as scratch:
        data = Path(scratch) / "chats.jsonl"
        write_jsonl(map(sample_row, chitchat_samples(N_SAMPLES)), data)
        print("| family | width | load, train s | extract s | tokens | activations | features |")
        print("|---|---|---|---|---|---|---|")
        for name in sys.argv[1:] or ("gemma", "qwen"):
            print(run_family(name, data, Path(scratch) / name), flush=True)


def run_family(name: str, data: Path, folder: Path) -> str:
    """One row of the table."""
    model, sae = fetch_model(name), folder / "sae"
    started = time.perf_counter()
    train = ["--layer", LAYER, "--features", 64, "--k", 4, "--epochs", 2, "--batch-tokens", 256]
    fac("sae", "train", data, "-o", sae, "--model", model, "--max-length", 64, *train)
    trained = time.perf_counter()
    facts = json.loads(fac("sae", "info", sae, "--json"))
    assert (facts["layer"], facts["n_features"]) == (LAYER, 64), facts
    pair = ["--model", model, "--sae", sae, "--max-length", 64]
    table = json.loads(fac("extract", data, "-o", folder / "table", *pair, "--json"))
    seconds = time.perf_counter() - trained
    return (
        f"| {name} | {facts['d_model']} | {trained - started:.0f} | {seconds:.0f} "
        f"| {table['n_tokens']} | {table['n_entries']} | {facts['n_features']} |"
    )


def fac(*words: object) -> str:
    """Run a `fac` command and return its standard output."""
    command = [sys.executable, "-m", "facsynth", *map(str, words)]
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE).stdout


if __name__ == "__main__":
    main()
