"""Time from the start of a process to its first batch and to its end."""

import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

from contenders.worker import Job

__all__ = ["Start", "measure_starts"]

_TEXT = "Which violin concerto do you like best?"

_FIRST_BATCH = """
import sys, time
from torch.nn.modules.module import register_module_forward_pre_hook
def say(module, inputs):
    if "DecoderLayer" in type(module).__name__:
        handle.remove()
        print("first batch", time.time(), flush=True)
handle = register_module_forward_pre_hook(say)
"""
"""A hook of PyTorch itself, so the measured code is the code that users run."""

_FACSYNTH = """
import runpy
sys.argv = ["fac", *sys.argv[1:]]
runpy.run_module("facsynth", run_name="__main__", alter_sys=True)
"""

_PLAIN = """
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
model = AutoModelForCausalLM.from_pretrained(sys.argv[1], dtype=getattr(torch, sys.argv[2]))
model(**tokenizer(sys.argv[3], return_tensors="pt"))
"""


@dataclass(frozen=True)
class Start:
    """One run, in seconds from the start of its process."""

    first_batch_s: float
    """To the first call of a decoder layer."""

    end_s: float


def measure_starts(job: Job, n_runs: int) -> dict[str, list[Start]]:
    """Alternate between `fac extract` of one short text and Transformers on the same text."""
    starts: dict[str, list[Start]] = {"facsynth": [], "plain Transformers": []}
    for _ in range(n_runs):
        with tempfile.TemporaryDirectory() as name:
            data = Path(name) / "one.txt"
            data.write_text(f"{_TEXT}\n")
            words = ["extract", str(data), "-o", str(Path(name) / "table")]
            words += ["--model", job.model, "--sae", job.sae]
            starts["facsynth"].append(_start(_FACSYNTH, words))
        starts["plain Transformers"].append(_start(_PLAIN, [job.model, job.dtype, _TEXT]))
    return starts


def _start(script: str, words: list[str]) -> Start:
    began = time.time()
    run = subprocess.run(
        [sys.executable, "-c", _FIRST_BATCH + script, *words],
        check=True,
        capture_output=True,
        text=True,
    )
    end = time.time()
    [at] = [line.split()[-1] for line in run.stdout.splitlines() if line.startswith("first batch")]
    return Start(float(at) - began, end - began)
