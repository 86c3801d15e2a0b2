"""The strongest samples of each feature, kept beside a large table so that asking is quick.

`TABLE/strongest.parquet` has the largest activations of every feature, sorted by feature, and says
of which manifest it was made. It is made when it is first needed, made again when the table is
another one, and may be deleted at any time.
"""

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from facsynth.errors import FacsynthError
from facsynth.folders import atomic_path
from facsynth.records import FeatureActivations
from facsynth.table.blocks import read_blocks
from facsynth.table.inputs import OpenTable
from facsynth.table.table import FeatureTable

__all__ = ["Entry", "strongest_entries"]

INDEX_FILE = "strongest.parquet"

_LEAST_KEPT = 64
"""Entries of a feature that an index keeps."""

_SMALL = 2**22
"""A table of fewer entries is searched as a whole."""

_WAITING = 2**22
"""Entries that are collected before the weaker ones are dropped."""

_GROUP_ROWS = 2**15
"""Rows that are read together to find those of one feature."""


@dataclass(frozen=True, slots=True)
class Entry:
    """An activation of a feature."""

    row: int
    """Row of the sample in its table."""

    activation: float
    """In SAE units."""

    position: int
    """Token position of the peak."""


def strongest_entries(table: OpenTable, features: Sequence[int], n: int) -> dict[int, list[Entry]]:
    """The largest activations of some features, the strongest first; of equals the earlier row.

    A large table on disk gets an index beside it, which takes one pass through the table and then
    answers for any feature within milliseconds.

    Args:
        table: Rows in memory, or a table on disk.
        features: Features to look at.
        n: Most entries of each.
    """
    wanted = np.unique(np.asarray(features, dtype=np.uint32))
    is_large = isinstance(table, FeatureTable) and table.manifest.n_entries > _SMALL
    if isinstance(table, FeatureTable) and is_large and not table.is_in_memory:
        found = _read_index(table, wanted, n)
    else:
        rows = table.activations() if isinstance(table, FeatureTable) else table
        found = _strongest([rows], rows.n_features, n, wanted)
    columns = (found[name].to_numpy() for name in ("row", "activation", "position"))
    entries = list(map(Entry, *(column.tolist() for column in columns)))
    ids = found["feature"].to_numpy()
    ends = np.searchsorted(ids, wanted, side="right")
    starts = np.minimum(np.searchsorted(ids, wanted), ends)
    of = {int(f): entries[a:b][:n] for f, a, b in zip(wanted, starts, ends, strict=True)}
    return {int(feature): of[int(feature)] for feature in features}


def _read_index(table: FeatureTable, wanted: np.ndarray, n: int) -> pa.Table:
    """Entries of the wanted features from the index, which is made where it does not fit."""
    path = table.folder / INDEX_FILE
    manifest = sha256((table.folder / "manifest.json").read_bytes()).hexdigest()
    if _fits(path, manifest, n):
        try:
            return pq.read_table(
                path,
                filters=[("feature", "in", wanted.tolist())],
                memory_map=True,
                page_checksum_verification=True,
            )
        except (pa.ArrowException, OSError):
            path.unlink(missing_ok=True)  # a broken disk: it is made again
    n_kept = max(n, _LEAST_KEPT)
    made = _strongest(read_blocks(table), table.manifest.source.n_features, n_kept)
    facts = {"manifest": manifest, "n_kept": str(n_kept)}
    with suppress(FacsynthError), atomic_path(path) as temporary:  # others' tables stay as they are
        pq.write_table(
            made.replace_schema_metadata(facts),
            temporary,
            row_group_size=_GROUP_ROWS,
            compression="zstd",
            write_page_checksum=True,
        )
    return made.filter(pa.compute.is_in(made["feature"], pa.array(wanted)))


def _fits(path: Path, manifest: str, n: int) -> bool:
    """Whether there is an index of this table with so many entries."""
    if not path.is_file():
        return False
    try:
        facts = pq.read_schema(path).metadata or {}
        return facts.get(b"manifest") == manifest.encode() and int(facts[b"n_kept"]) >= n
    except (pa.ArrowException, OSError, KeyError, ValueError):
        return False


def _strongest(
    blocks: Iterable[FeatureActivations],
    n_features: int,
    n: int,
    wanted: np.ndarray | None = None,
) -> pa.Table:
    """The `n` largest activations of each feature by feature, from one pass through the rows."""
    is_wanted = np.ones(n_features, np.bool_)
    if wanted is not None:
        is_wanted = np.isin(np.arange(n_features), wanted)
    floor = np.where(is_wanted, np.float32(0), np.float32(np.inf))
    """What an activation of each feature must exceed to be among its strongest."""
    waiting, n_waiting, start = [_nothing()], 0, 0
    for block in blocks:
        places = np.flatnonzero(block.values > floor[block.feature_ids])
        new = np.empty(places.size, _ENTRY)
        new["feature"], new["activation"] = block.feature_ids[places], block.values[places]
        new["row"] = start + np.searchsorted(block.row_starts, places, side="right") - 1
        new["position"] = block.positions[places]
        waiting.append(new)
        start += block.n_tokens.size
        n_waiting += places.size
        if n_waiting > _WAITING:
            kept = _keep(np.concatenate(waiting), n)
            last = kept[n - 1 :][kept["feature"][n - 1 :] == kept["feature"][: kept.size - n + 1]]
            floor[last["feature"]] = last["activation"]
            waiting, n_waiting = [kept], 0
    kept = _keep(np.concatenate(waiting), n)
    return pa.table({name: np.ascontiguousarray(kept[name]) for name in _ENTRY.names or ()})


_ENTRY = np.dtype([("feature", "<u4"), ("row", "<u4"), ("activation", "<f4"), ("position", "<u2")])


def _nothing() -> np.ndarray:
    return np.zeros(0, _ENTRY)


def _keep(entries: np.ndarray, n: int) -> np.ndarray:
    """The `n` strongest entries of each feature, sorted; entries come in the order of rows."""
    # The bits of positive numbers are ordered as the numbers are.
    weakness = ~entries["activation"].view(np.uint32)
    key = (entries["feature"].astype(np.uint64) << np.uint64(32)) | weakness
    entries = entries[np.argsort(key, kind="stable")]
    feature = entries["feature"]
    rank = np.arange(feature.size) - np.searchsorted(feature, feature)
    return entries[rank < n]
