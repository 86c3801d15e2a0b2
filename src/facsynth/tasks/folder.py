"""What a trained task leaves on disk: settings and versions, numbers, hashes; never a text."""

import json
import platform
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64
from safetensors.numpy import load_file, save_file

from facsynth.data.copies import KnownTexts
from facsynth.data.write import atomic_path, write_json
from facsynth.errors import DataError, MismatchError
from facsynth.models.lm import LanguageModel
from facsynth.tasks.heads import LinearHead

__all__ = [
    "TrainedTask",
    "check_model",
    "heads_to_tensors",
    "open_task",
    "save_task",
    "tensors_to_heads",
]

_VERSIONS = ("facsynth", "numpy", "peft", "scikit-learn", "torch", "transformers", "trl")


@dataclass(frozen=True)
class TrainedTask:
    """A folder that `fac task … train` wrote."""

    task: str
    """`toxicity`, `reward`, `steering` or `instruction`."""

    config: dict[str, Any]
    """Model, settings, seeds, counts, as they stand in task.json."""

    tensors: dict[str, Float64[np.ndarray, "..."]]
    """Heads or vectors; empty where models were trained, which have folders of their own."""

    known: KnownTexts
    """Word 4-grams of the training texts, for the check of evaluation data."""

    folder: Path | None = None
    """Where it was read from."""


def save_task(folder: Path, trained: TrainedTask) -> None:
    """Write the folder; task.json comes last, so a folder with one is complete."""
    if trained.tensors:
        with atomic_path(folder / "tensors.safetensors") as temporary:
            save_file({k: np.ascontiguousarray(v) for k, v in trained.tensors.items()}, temporary)
    with atomic_path(folder / "known.npy") as temporary:
        np.save(temporary, np.array(trained.known.hashes(), dtype=np.uint64))
    versions = {"python": platform.python_version()}
    for name in _VERSIONS:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    write_json({"task": trained.task, **trained.config, "versions": versions}, folder / "task.json")


def open_task(folder: Path, task: str) -> TrainedTask:
    """Read what `save_task` wrote.

    Raises:
        DataError: There is none, or it is another task's.
    """
    path = folder / "task.json"
    if not path.is_file():
        raise DataError(f"{folder} holds no task.json; run `fac task {task} train` first")
    config = json.loads(path.read_text(encoding="utf-8"))
    if config.pop("task") != task:
        raise DataError(f"{folder} was not written by `fac task {task} train`; check the folder")
    hashes = np.load(folder / "known.npy").tolist()
    path = folder / "tensors.safetensors"
    tensors = load_file(path) if path.is_file() else {}
    return TrainedTask(task, config, tensors, KnownTexts.from_hashes(hashes), folder)


def check_model(trained: TrainedTask, lm: LanguageModel) -> None:
    """Raise a MismatchError unless this is the model that was trained on."""
    wanted = trained.config["model_hash"]
    if lm.content_hash != wanted:
        raise MismatchError(
            f"trained on {trained.config['model']} ({wanted[:8]}), but {lm.name} is "
            f"{lm.content_hash[:8]}; pass the same --model, or train again"
        )


def heads_to_tensors(kind: str, heads: Mapping[int, LinearHead]) -> dict[str, Any]:
    """Heads by seed as tensors called `<kind>.<seed>.<part>`."""
    found = {}
    for seed, head in heads.items():
        for name in ("weights", "mean", "scale"):
            found[f"{kind}.{seed}.{name}"] = getattr(head, name)
        found[f"{kind}.{seed}.bias"] = np.array([head.bias])
    return found


def tensors_to_heads(kind: str, tensors: Mapping[str, Any]) -> dict[int, LinearHead]:
    """What `heads_to_tensors` made, back again."""
    names = (name.split(".") for name in tensors)
    seeds = sorted({int(seed) for found, seed, _ in names if found == kind})
    return {
        seed: LinearHead(
            tensors[f"{kind}.{seed}.weights"],
            tensors[f"{kind}.{seed}.mean"],
            tensors[f"{kind}.{seed}.scale"],
            float(tensors[f"{kind}.{seed}.bias"][0]),
        )
        for seed in seeds
    }
