"""Readers of the files that SAE formats consist of; none of them runs code from a file."""

import pickle
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from facsynth.data import stored
from facsynth.errors import DataError, ModelError

__all__ = ["read_arrays", "read_json", "read_pickle", "read_safetensors"]

_UNREADABLE = (
    *(OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError, KeyError, TypeError),
    *(AttributeError, IndexError, OverflowError, AssertionError, MemoryError, struct.error),
)
"""What torch raises on damaged files, besides what it should."""


def read_json(path: Path) -> dict[str, Any]:
    """Read an object of a JSON file; a ModelError when it is none."""
    try:
        value = stored.read_json(path, what="the settings of an SAE", allow_nan=True)
    except DataError as error:
        raise ModelError(str(error)) from error
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
        arrays = stored.read_arrays(path, what="an .npz of arrays without pickles")
        return {name: torch.from_numpy(array) for name, array in arrays.items()}
    except (DataError, TypeError) as error:
        raise ModelError(str(error)) from error


def read_pickle(path: Path) -> dict[str, Any]:
    """Read tensors and plain values of a file of `torch.save`; code in it is never run.

    Raises:
        ModelError: The file needs more than tensors and plain values, or is damaged.
    """
    try:
        value = torch.load(
            path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
        )
    except _UNREADABLE as error:
        reason = str(error).strip().partition("\n")[0]
        raise ModelError(
            f"{path} is damaged or holds more than tensors and plain values, which facsynth does "
            f"not read because it can run code ({reason}); ask for a file of tensors only"
        ) from error
    if not isinstance(value, Mapping):
        raise ModelError(f"{path} holds a {type(value).__name__}, not named tensors")
    return {str(name): item for name, item in value.items()}
