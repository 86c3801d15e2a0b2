"""JSON and arrays from the disk, read as if a stranger had written them."""

import json
import math
import tomllib
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from facsynth.errors import DataError

__all__ = ["parse_toml", "read_arrays", "read_json", "read_toml"]

_MOST_BYTES = 1 << 28


_MOST_PARTS = 100

_MOST_TOML = 1 << 20

_MOST_PACKING = 1000
"""Bytes that one byte can stand for in deflate."""

_NUMBERS = "biufc"
"""Kinds of arrays that hold numbers."""


def read_json(path: Path, *, what: str = "JSON", allow_nan: bool = False) -> Any:
    """The value in a JSON file.

    Args:
        path: A regular file, or a link to one.
        what: What the file should be, for errors.
        allow_nan: Whether to take NaN and Infinity, which Python writes and JSON does not have.

    Raises:
        DataError: It is no regular file, is larger than 256 MiB, or does not hold JSON.
    """
    if not path.is_file():
        raise DataError(f"{path} is not {what}: it is {'no file' if path.exists() else 'missing'}")
    if path.stat().st_size > _MOST_BYTES:
        raise DataError(f"{path} is not {what}: it has {path.stat().st_size:,} bytes")
    try:
        text = path.read_text(encoding="utf-8")
        return json.loads(text, parse_constant=None if allow_nan else _refuse)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not {what}: {str(error)[:200]}") from error


def read_toml(path: Path, *, what: str) -> dict[str, Any]:
    """The tables of a TOML file, such as a recipe.

    Args:
        path: A regular file, or a link to one.
        what: What the file should be, for errors.

    Raises:
        DataError: It is no regular file, has more than a megabyte, or does not hold TOML.
    """
    if not path.is_file():
        raise DataError(
            f"{path} cannot be read as {what}: it is {'no file' if path.exists() else 'missing'}"
        )
    with path.open("rb") as stream:
        return parse_toml(stream.read(_MOST_TOML + 1), f"{path} cannot be read as {what}")


def parse_toml(raw: bytes, complaint: str) -> dict[str, Any]:
    """The tables of TOML.

    Raises:
        DataError: It is none; the message begins with `complaint`.
    """
    if len(raw) > _MOST_TOML:
        raise DataError(f"{complaint}: it has more than {_MOST_TOML:,} bytes")
    # The parser's time grows with the square of the parts of a dotted key.
    if any(line.partition(b"=")[0].count(b".") > _MOST_PARTS for line in raw.splitlines()):
        raise DataError(f"{complaint}: a key has more than {_MOST_PARTS} parts")
    try:
        tables = tomllib.loads(raw.decode("utf-8"))
        json.dumps(tables, default=str)  # nothing that reads the tables gets deeper
    except RecursionError as error:
        raise DataError(f"{complaint}: its values are nested too deeply") from error
    except ValueError as error:  # of the syntax, the encoding, or the digits of a number
        raise DataError(f"{complaint}: {str(error)[:200]}") from error
    return tables


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def read_arrays(path: Path, *, what: str = "arrays") -> Mapping[str, np.ndarray]:
    """The arrays of numbers in an `.npz` file; each header is checked before memory is taken.

    Args:
        path: A regular file, or a link to one.
        what: What the file should be, for errors.

    Raises:
        DataError: It is no such file, or an array is not as long as its header says.
    """
    if not path.is_file():
        raise DataError(f"{path} is not {what}: it is {'no file' if path.exists() else 'missing'}")
    try:
        with zipfile.ZipFile(path) as packed:
            for member in packed.infolist():
                _check_array(packed, member)
        with np.load(path, allow_pickle=False) as held:
            return {name: held[name] for name in held.files}
    except _NO_ARRAYS as error:
        raise DataError(f"{path} is not {what}: {str(error)[:200]}") from error


_NO_ARRAYS = (
    OSError,
    ValueError,
    TypeError,
    KeyError,
    EOFError,
    RuntimeError,
    NotImplementedError,
    zipfile.BadZipFile,
)
"""What NumPy raises on damaged archives, and what `zipfile` does."""


def _check_array(packed: zipfile.ZipFile, member: zipfile.ZipInfo) -> None:
    """Compare the shape in the header of an array with the bytes that there are."""
    read_header = {
        (1, 0): np.lib.format.read_array_header_1_0,
        (2, 0): np.lib.format.read_array_header_2_0,
    }
    with packed.open(member) as stream:
        version = np.lib.format.read_magic(stream)
        if version not in read_header:
            raise ValueError(f"{member.filename} is in version {version} of the array format")
        shape, _, dtype = read_header[version](stream)
        n_bytes = math.prod(shape) * dtype.itemsize
        left = member.file_size - stream.tell()
    if dtype.kind not in _NUMBERS:
        raise ValueError(f"{member.filename[:80]} holds {dtype.name[:40]}, not numbers")
    if n_bytes != left or member.file_size > _MOST_PACKING * max(member.compress_size, 1 << 16):
        raise ValueError(
            f"{member.filename[:80]} says {n_bytes:,} bytes, and the file has room for {left:,} in "
            f"{member.compress_size:,}"
        )
