"""Readers of the files that SAE formats consist of; none of them runs code from a file."""

import json
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from facsynth.errors import ModelError

__all__ = ["read_arrays", "read_json", "read_pickle", "read_safetensors"]


def read_json(path: Path) -> dict[str, Any]:
    """Read an object of a JSON file; a ModelError when it is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(value, dict):
        raise ModelError(f"{path} holds a {type(value).__name__}, not the settings of an SAE")
    return value


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read all tensors of a safetensors file; a ModelError when it is none."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path} cannot be read as safetensors: {error}") from error


def read_arrays(path: Path) -> dict[str, Tensor]:
    """Read all arrays of an `.npz` file, without pickles; a ModelError when it is none."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: torch.from_numpy(np.asarray(arrays[name])) for name in arrays.files}
    except (OSError, ValueError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise ModelError(f"{path} cannot be read as arrays without pickles: {error}") from error


def read_pickle(path: Path) -> dict[str, Any]:
    """Read tensors and plain values of a file of `torch.save`; code in it is never run.

    Raises:
        ModelError: The file needs more than tensors and plain values, or is damaged.
    """
    try:
        value = torch.load(
            path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
        )
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ModelError(
            f"{path} is damaged or holds more than tensors and plain values, which facsynth does "
            f"not read because it can run code ({reason}); ask for a file of tensors only"
        ) from error
    if not isinstance(value, Mapping):
        raise ModelError(f"{path} holds a {type(value).__name__}, not named tensors")
    return {str(name): item for name, item in value.items()}
