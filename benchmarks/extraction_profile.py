"""What limits the speed of extraction: time per phase, and per type of operation."""

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest.mock import patch

import torch
from contenders import facsynth_table
from contenders.worker import Job, Text, read_texts

__all__ = ["profile"]

_N_TEXTS = {"cpu": {"short": 256, "long": 16}, "cuda": {"short": 2048, "long": 128}}

_BESIDE = " (in a background thread)"

_GROUPS = {
    "attention": ("attention", "flash", "fmha", "bmm", "softmax"),
    "matrix products": ("addmm", "::mm", "linear", "mkldnn", "matmul", "gemm", "cublas"),
    "SAE: largest values": ("topk", "TopK", "sort", "Sort", "radix"),
    "casts and copies": (
        *("copy_", "_to_copy", "::to", "clone", "contiguous", "cat", "fill_"),
        *("Memcpy", "copy_kernel", "CatArray"),
    ),
    "norms, rotary, activation, sums": (
        *("mul", "add", "pow", "mean", "rsqrt", "silu", "neg", "sub", "relu", "elementwise"),
        *("reduce_kernel", "vectorized"),
    ),
}
"""The first group with a substring of the operation's name wins."""


@dataclass
class _Clock:
    """Seconds by phase; background threads are recorded separately from the main thread."""

    seconds: dict[str, float] = field(default_factory=lambda: defaultdict(float))

    def timed(self, phase: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, with its time recorded."""

        def call(*arguments: Any, **keywords: Any) -> Any:
            start = time.perf_counter()
            try:
                return function(*arguments, **keywords)
            finally:
                if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
                    torch.cuda.synchronize()
                beside = threading.current_thread() is not threading.main_thread()
                self.seconds[phase + _BESIDE * beside] += time.perf_counter() - start

        return call


def profile(job: Job, *, quick: bool) -> str:
    """Two tables for each mix: phases and operations."""
    loaded = facsynth_table.load(job)
    lines = []
    for mix, path in job.texts.items():
        texts = read_texts(path, _N_TEXTS[loaded.lm.device.type][mix] // (8 if quick else 1))
        facsynth_table.run(loaded, texts)
        lines += [f"{mix} mix, {len(texts)} texts: phases", *_phases(loaded, texts)]
        clock = "CPU" if loaded.lm.device.type == "cpu" else "GPU"
        lines += [f"{mix} mix: operations, of all {clock} time", *_operations(loaded, texts)]
    return "\n".join(lines)


def _phases(loaded: Any, texts: Sequence[Text]) -> list[str]:
    clock = _Clock()
    start = time.perf_counter()
    with _patched(clock):
        facsynth_table.run(loaded, texts)
    total = time.perf_counter() - start
    known = sum(s for phase, s in clock.seconds.items() if not phase.endswith(_BESIDE))
    clock.seconds["the rest (batching, collecting)"] = total - known
    return _shares(clock.seconds)


@contextmanager
def _patched(clock: _Clock) -> Iterator[None]:
    from facsynth.sae.module import SparseAutoencoder
    from facsynth.table import extract, pooling, reading, work

    phases = (
        (work, "tokenize_samples", "tokenise"),
        (reading, "read_prefix", "forward, shared prefix"),
        (reading, "read_residuals", "forward"),
        (SparseAutoencoder, "encode_sparse", "encode"),
        (pooling, "_pool_sparse", "pool"),
        (work, "write_part", "write"),
        (extract, "samples_hash", "hash of the samples"),
    )
    with ExitStack() as stack:
        for owner, name, phase in phases:
            stack.enter_context(patch.object(owner, name, clock.timed(phase, getattr(owner, name))))
        yield


def _operations(loaded: Any, texts: Sequence[Text]) -> list[str]:
    kinds = torch.profiler.ProfilerActivity
    on_gpu = loaded.lm.device.type == "cuda"
    with torch.profiler.profile(activities=[kinds.CUDA if on_gpu else kinds.CPU]) as found:
        facsynth_table.run(loaded, texts)
    seconds: dict[str, float] = defaultdict(float)
    for event in found.key_averages():
        spent = event.self_device_time_total if on_gpu else event.self_cpu_time_total
        seconds[_group(event.key)] += spent / 1e6
    return _shares(seconds)


def _group(name: str) -> str:
    for group, parts in _GROUPS.items():
        if any(part in name for part in parts):
            return group
    return "other operations"


def _shares(seconds: dict[str, float]) -> list[str]:
    total = sum(seconds.values())
    ordered = sorted(seconds.items(), key=lambda item: -item[1])
    return [f"  {s / total:6.1%} {s:8.3f} s  {name}" for name, s in ordered]
