"""The folder of a trained task: settings and versions, numbers, hashes; never a text.

```
DIR/task.json               settings, model, versions; written last
DIR/plan.json               what was asked for, where models are trained
DIR/known.npy               hashes of the word 4-grams of the training texts
DIR/tensors.safetensors     heads or vectors
DIR/model-42/               adapter or weights, where models were trained
DIR/evaluation-NAME.json    one for each evaluation
DIR/read.json               what the command read of its files, and what not
```
"""

import json
import platform
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32, Float64
from safetensors.numpy import load_file, save_file

from facsynth.data.copies import KnownTexts
from facsynth.data.stored import read_json
from facsynth.data.write import write_json
from facsynth.errors import DataError, MismatchError
from facsynth.folders import atomic_path
from facsynth.records import Sample
from facsynth.table.write import samples_hash
from facsynth.tasks.settings import TuneSettings

__all__ = [
    "TrainedTask",
    "Training",
    "check_enough",
    "check_output",
    "near_copies",
    "open_task",
    "save_task",
]

_VERSIONS = ("facsynth", "numpy", "peft", "scikit-learn", "torch", "transformers", "trl")

_PACKAGES = {"head": ("sklearn",), "lora": ("peft", "trl"), "full": ("trl",)}
"""What each method of training imports."""

_COPY_SHARE = 0.8
"""Share of its word 4-grams in the training texts from which a text is a near-copy."""


@dataclass(frozen=True)
class Training:
    """What is to be trained into a folder."""

    task: str
    folder: Path
    settings: Any
    """The task's settings record, with `TuneSettings` as `train`."""

    samples: Sequence[Sample]
    """All samples that may be drawn."""

    facts: Mapping[str, Any] = field(default_factory=dict)
    """What else the result depends on, such as a hash of the labels."""

    @property
    def train(self) -> TuneSettings:
        """How it is trained."""
        found: TuneSettings = self.settings.train
        return found

    def check(self, model_hash: str | None = None) -> dict[str, Any]:
        """The plan, unless the folder holds other training.

        Args:
            model_hash: Hash of the untrained model; None before it is loaded.

        Raises:
            DataError: The folder is a file, or a package is not installed.
            MismatchError: The folder holds training of another model, other data or settings.
        """
        check_output(self.folder)
        _check_installed(self.train.method)
        asked = {"task": self.task, "data": samples_hash(self.samples), **self.facts}
        asked |= {"settings": asdict(self.settings)}
        asked |= {} if model_hash is None else {"model": model_hash}
        plan: dict[str, Any] = json.loads(json.dumps(asked))  # tuples become lists, as when read
        path = self.folder / "plan.json"
        known = read_json(path) if path.is_file() else plan
        different = sorted(key for key in plan if plan[key] != known.get(key))
        if different:
            raise MismatchError(
                f"{self.folder} holds training with other {', '.join(different)}; choose another "
                "folder, or delete this one"
            )
        return plan

    def claim(self, model_hash: str) -> None:
        """Write the plan down, so that only the same training resumes in the folder."""
        write_json(self.check(model_hash), self.folder / "plan.json")


@dataclass(frozen=True)
class TrainedTask:
    """A folder that `fac task … train` wrote."""

    task: str
    """`toxicity`, `reward`, `steering` or `instruction`."""

    folder: Path
    config: dict[str, Any]
    """task.json: model, settings, random seeds, counts."""

    tensors: Mapping[str, Float64[np.ndarray, "..."] | Float32[np.ndarray, "..."]]
    """Heads or vectors; empty where models were trained."""

    known: KnownTexts
    """Word 4-grams of the training texts."""

    def check_model(self, lm: Any) -> None:
        """Raise a MismatchError unless this `LanguageModel` is the one that was trained on."""
        wanted = self.config["model_hash"]
        if lm.content_hash != wanted:
            raise MismatchError(
                f"trained on {self.config['model']} ({wanted[:8]}), but {lm.name} is "
                f"{lm.content_hash[:8]}; pass the same --model, or train again"
            )

    def check(self) -> None:
        """Raise a DataError unless trained models and the packages they need are there."""
        method = self.config["method"]
        _check_installed(method)
        for name in self.config["training"] if method != "head" else ():
            if not (self.folder / name).is_dir():
                raise DataError(
                    f"{self.folder / name} is missing, but task.json names it; train again"
                )


def save_task(
    task: str,
    folder: Path,
    config: Mapping[str, Any],
    texts: Iterable[str],
    tensors: Mapping[str, Any] | None = None,
) -> TrainedTask:
    """Write the folder; task.json comes last, so a folder that has one is complete."""
    known, found = KnownTexts(texts), dict(tensors or {})
    if found:
        with atomic_path(folder / "tensors.safetensors") as temporary:
            save_file({k: np.ascontiguousarray(v) for k, v in found.items()}, temporary)
    with atomic_path(folder / "known.npy") as temporary:
        np.save(temporary, np.array(known.hashes(), dtype=np.uint64))
    versions = {"python": platform.python_version()}
    for name in _VERSIONS:
        with suppress(PackageNotFoundError):
            versions[name] = version(name)
    write_json({"task": task, **config, "versions": versions}, folder / "task.json")
    return open_task(folder, task)


def open_task(folder: Path, task: str) -> TrainedTask:
    """Read what `save_task` wrote.

    Raises:
        DataError: There is none, or it is another task's.
    """
    path = folder / "task.json"
    if not path.is_file():
        raise DataError(f"{folder} has no task.json; run `fac task {task} train` first")
    config = read_json(path)
    if config["task"] != task:
        raise DataError(f"{folder} holds the task {config['task']!r}, not {task!r}")
    known = KnownTexts.from_hashes(np.load(folder / "known.npy").tolist())
    path = folder / "tensors.safetensors"
    return TrainedTask(task, folder, config, load_file(path) if path.is_file() else {}, known)


def near_copies(
    trained: TrainedTask, texts: Iterable[tuple[str, str]], *, allow: bool
) -> tuple[str, ...]:
    """Ids of evaluation texts that are near-copies of training texts.

    A near-copy has at least 80 % of its word 4-grams in the training texts.

    Raises:
        DataError: There are near-copies, and they are not allowed.
    """
    copies = [name for name, text in texts if trained.known.overlap(text) >= _COPY_SHARE]
    found = tuple(dict.fromkeys(copies))
    if found and not allow:
        examples = ", ".join(found[:3]) + (", …" if len(found) > 3 else "")
        raise DataError(
            f"{len(found)} evaluation samples are near-copies of training samples ({examples}): "
            f"at least {_COPY_SHARE:.0%} of their word 4-grams are in the training data; remove "
            "them, or pass --allow-overlap to evaluate anyway and list them"
        )
    return found


def check_enough(samples: Sequence[object], what: str) -> None:
    """Raise a DataError unless there are two or more."""
    if len(samples) < 2:
        raise DataError(f"{len(samples)} {what} are too few to train on; give two or more")


def check_output(folder: Path) -> None:
    """Raise a DataError when the output folder is a file."""
    if folder.exists() and not folder.is_dir():
        raise DataError(f"{folder} is a file; name a folder with -o")


def _check_installed(method: str) -> None:
    """Raise a DataError unless the packages of a method are installed; imports none of them."""
    for package in _PACKAGES[method]:
        if find_spec(package) is None:
            raise DataError(
                f"this training requires {package}, which is not installed; "
                "`pip install 'facsynth[tasks]'`"
            )
