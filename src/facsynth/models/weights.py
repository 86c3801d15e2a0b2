"""Weights on disk: their content hashes, and whether a checkpoint is complete."""

import hashlib
import json
from collections.abc import Collection
from pathlib import Path

from facsynth.data.write import write_json
from facsynth.errors import ModelError
from facsynth.folders import cache_folder

__all__ = ["check_complete", "content_hash", "file_hash"]


def content_hash(folder: Path) -> str:
    """sha256 over the weight files, remembered by path, size and time.

    `config.json` is left out, because every version of Transformers writes it in its own words.
    """
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*.safetensors")):
        digest.update(_remembered_hash(file).encode())
    return digest.hexdigest()


def _remembered_hash(file: Path) -> str:
    stat = file.resolve().stat()
    key = hashlib.sha256(f"{file.resolve()}|{stat.st_size}|{stat.st_mtime_ns}".encode())
    memo = cache_folder() / "hashes" / f"{key.hexdigest()}.json"
    if memo.is_file():
        return str(json.loads(memo.read_text())["sha256"])
    value = file_hash(file)
    memo.parent.mkdir(parents=True, exist_ok=True)
    write_json({"file": str(file), "sha256": value}, memo)
    return value


def file_hash(file: Path) -> str:
    """sha256 of a file."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def check_complete(missing: Collection[str], source: Path) -> None:
    """Refuse a checkpoint without some weights, which Transformers would draw at random.

    Args:
        missing: `missing_keys` of Transformers' loading info; tied weights are not among them.
        source: What was loaded.

    Raises:
        ModelError: There are missing weights; the first few are named.
    """
    if missing:
        first = ", ".join(sorted(missing)[:3])
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""
        raise ModelError(
            f"{source} lacks the weights {first}{more}, which would be random numbers; the "
            "download is incomplete, or the checkpoint is not a causal LM of this configuration"
        )
