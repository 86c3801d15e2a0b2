"""JSON that facsynth wrote itself, read back as if a stranger had written it."""

import json
from pathlib import Path
from typing import Any

from facsynth.errors import DataError

__all__ = ["read_json"]

_MOST_BYTES = 1 << 28


def read_json(path: Path, *, what: str = "JSON") -> Any:
    """The value in a JSON file.

    Args:
        path: A regular file, or a link to one.
        what: What the file should be, for errors.

    Raises:
        DataError: It is no regular file, is larger than 256 MiB, or does not hold JSON.
    """
    if not path.is_file():
        raise DataError(f"{path} is not {what}: it is {'no file' if path.exists() else 'missing'}")
    if path.stat().st_size > _MOST_BYTES:
        raise DataError(f"{path} is not {what}: it has {path.stat().st_size:,} bytes")
    try:
        return json.loads(path.read_text(encoding="utf-8"), parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is not {what}: {str(error)[:200]}") from error


def _refuse(name: str) -> None:
    raise ValueError(f"{name} is not JSON")
