"""Content hashes of models, so that tables and SAEs know what they belong to."""

import hashlib
import json
from pathlib import Path

from facsynth.data.write import write_json
from facsynth.folders import cache_folder

__all__ = ["content_hash", "file_hash"]


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
