"""Batches of an unfinished part on disk, so that a stopped run loses little work.

A part can take minutes with long texts or a large model. Its batches run in order of length, so
the samples done so far are not the first ones: they are kept apart until the part is complete.
"""

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from facsynth.data.stored import read_arrays
from facsynth.errors import DataError
from facsynth.folders import atomic_path
from facsynth.table.pooling import PooledBatch, PooledRows

__all__ = ["drop_batches", "load_batches", "save_batches"]

_ENTRIES = ("n_entries", "feature_ids", "values", "positions")


def save_batches(folder: Path, index: int, batches: Sequence[PooledBatch]) -> None:
    """Write batches of a part of the table `folder` into one more file."""
    arrays: dict[str, Any] = {
        n: np.concatenate([getattr(b.pooled, n) for b in batches]) for n in _ENTRIES
    }
    arrays["rows"] = np.concatenate([batch.rows for batch in batches])
    hidden = [batch.hidden for batch in batches if batch.hidden is not None]
    if hidden:
        arrays["hidden"] = np.concatenate(hidden)
    path = _folder(folder, index)
    n_files = len(list(path.glob("[0-9]*.npz")))
    with atomic_path(path / f"{n_files:05d}.npz") as temporary, temporary.open("wb") as stream:
        np.savez(stream, **arrays)


def load_batches(folder: Path, index: int) -> list[PooledBatch]:
    """What `save_batches` wrote, one batch per file in the order of writing, up to a broken one."""
    found: list[PooledBatch] = []
    for path in sorted(_folder(folder, index).glob("[0-9]*.npz")):
        try:
            found.append(_load(path))
        except (DataError, KeyError, ValueError):
            path.unlink()
            break
    return found


def drop_batches(folder: Path, index: int | None = None) -> None:
    """Delete the files of a part, or of all parts."""
    shutil.rmtree(_folder(folder, index), ignore_errors=True)


def _load(path: Path) -> PooledBatch:
    held = read_arrays(path)
    rows, pooled = held["rows"], PooledRows(*(held[n] for n in _ENTRIES))
    sizes = {len(values) for values in (pooled.feature_ids, pooled.values, pooled.positions)}
    if len(rows) != len(pooled.n_entries) or sizes != {int(pooled.n_entries.sum())}:
        raise ValueError("the arrays differ in length")
    return PooledBatch(rows, pooled, held.get("hidden"))


def _folder(folder: Path, index: int | None) -> Path:
    inner = folder / "partial"
    return inner if index is None else inner / f"part-{index:05d}"
