"""Writing a feature table: claim the folder, write its parts, declare it finished."""

import hashlib
import json
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from facsynth.data.read import REJECTED_FILE
from facsynth.data.stored import read_json
from facsynth.data.write import sample_row, write_json
from facsynth.errors import DataError
from facsynth.folders import LOCK_FILE, atomic_path
from facsynth.records import FeatureActivations, Sample
from facsynth.settings import read_settings
from facsynth.table.manifest import (
    SCHEMA_VERSION,
    Manifest,
    StoredFile,
    TablePart,
    TableSource,
    part_path,
)
from facsynth.table.parts import (
    FEATURE_SCHEMA,
    SAMPLE_SCHEMA,
    check_part_files,
    read_part,
    read_part_samples,
    store_facts,
)
from facsynth.table.table import FeatureTable

__all__ = [
    "copy_part",
    "drop_broken_parts",
    "finish_table",
    "has_part",
    "read_counts",
    "samples_hash",
    "start_table",
    "write_part",
]


def start_table(
    folder: Path, source: TableSource, wanted_samples: str, *, part_samples: int
) -> int:
    """Claim a folder for a table, or resume the same one.

    Returns:
        Samples per part: `part_samples`, or what the unfinished table was started with.

    Raises:
        DataError: The folder holds something else.
    """
    facts = {
        "schema_version": SCHEMA_VERSION,
        "samples_hash": wanted_samples,
        **asdict(source),
    }
    path = folder / "plan.json"
    if path.is_file():
        found = read_json(path, what="the plan of a feature table")
        started_with = found.pop("part_samples", part_samples) if isinstance(found, dict) else 0
        if not isinstance(started_with, int) or started_with < 1:
            raise DataError(f"{path} is not the plan of a feature table; delete {folder}")
        if found != facts:
            raise DataError(
                f"{folder} holds a feature table of other samples, model, SAE or settings "
                f"({_difference(found, facts)}); choose another output folder or delete it"
            )
        return started_with
    if folder.exists() and not _is_empty(folder):
        raise DataError(f"{folder} exists and is not a feature table; choose another output folder")
    folder.mkdir(parents=True, exist_ok=True)
    write_json({**facts, "part_samples": part_samples}, path)
    return part_samples


def _difference(before: dict[str, Any], now: dict[str, Any]) -> str:
    """The fields that differ, with their values where those are short."""
    names = [name for name in now if before.get(name) != now[name]]
    return ", ".join(
        name if name.endswith("_hash") else f"{name} {before.get(name)!r} there, {now[name]!r} here"
        for name in names
    )


def _is_empty(folder: Path) -> bool:
    """Whether a folder holds nothing but rejected rows and what a killed `atomic_path` left."""
    return folder.is_dir() and all(
        file.name in (REJECTED_FILE, LOCK_FILE) or file.name.startswith(".tmp-")
        for file in folder.iterdir()
    )


def has_part(folder: Path, index: int) -> bool:
    """Whether this part is complete; its counts are written last, so one file tells."""
    return _counts_path(folder, index).is_file()


def drop_broken_parts(
    folder: Path, source: TableSource, ids_of: Callable[[int], tuple[str, ...]], *, n_parts: int
) -> list[str]:
    """Check the parts of an unfinished table, and forget those that are not what they should be.

    Args:
        folder: The table.
        source: How it is extracted.
        ids_of: Gives the ids of the samples of a part.
        n_parts: Number of parts.

    Returns:
        What is wrong with the parts that have to be read again.
    """
    complaints = []
    for index in range(n_parts):
        if not has_part(folder, index):
            continue
        try:
            part = read_counts(folder, index)
            check_part_files(folder, {index: part})
            read_part_samples(folder, index, part)
            if read_part(folder, index, part, source).sample_ids != ids_of(index):
                raise DataError(f"{part_path(folder, index)} holds other samples")
        except DataError as error:
            complaints.append(str(error))
            _counts_path(folder, index).unlink()
    return complaints


def write_part(
    folder: Path,
    index: int,
    activations: FeatureActivations,
    samples: Sequence[Sample],
    *,
    n_truncated: int = 0,
    left_out: Mapping[str, int] | None = None,
) -> None:
    """Write one part: samples, hidden states, features, and last its counts and checksums."""
    rows = [asdict(sample) for sample in samples]
    stored = {
        "samples": _write(
            part_path(folder, index, "samples"), pa.Table.from_pylist(rows, SAMPLE_SCHEMA)
        )
    }
    if activations.hidden is not None:
        states = pa.FixedSizeListArray.from_arrays(
            pa.array(activations.hidden.reshape(-1)), activations.hidden.shape[1]
        )
        named = {"sample_id": pa.array(activations.sample_ids), "hidden": states}
        path = part_path(folder, index, "hidden")
        stored["hidden"] = _write(path, pa.table(named), repeats=False)
    offsets = pa.array(activations.row_starts.astype(np.int32))
    lists = (activations.feature_ids, activations.values, activations.positions)
    columns = [
        pa.array(activations.sample_ids),
        pa.array(activations.n_tokens.astype(np.int32)),
        *(pa.ListArray.from_arrays(offsets, pa.array(values)) for values in lists),
    ]
    table = pa.Table.from_arrays(columns, schema=FEATURE_SCHEMA)
    part = TablePart(
        n_samples=len(activations.sample_ids),
        n_tokens=int(activations.n_tokens.sum()),
        n_entries=len(activations.values),
        n_truncated=n_truncated,
        left_out=left_out or {},
        features=_write(part_path(folder, index), table),
        **stored,
    )
    write_json(asdict(part), _counts_path(folder, index))


def finish_table(
    folder: Path,
    source: TableSource,
    wanted_samples: str,
    *,
    n_parts: int,
    read: Mapping[str, Any] | None = None,
) -> FeatureTable:
    """Declare a table finished whose parts are all written.

    Args:
        folder: The table.
        source: How it was extracted.
        wanted_samples: `samples_hash` of its samples.
        n_parts: Number of its parts.
        read: Row of the report on what was read of the data.
    """
    from facsynth import __version__

    parts = tuple(read_counts(folder, index) for index in range(n_parts))
    manifest = Manifest(source, wanted_samples, parts, __version__, read=read)
    write_json(manifest.stored(), folder / "manifest.json")
    return FeatureTable(folder, manifest)


def read_counts(folder: Path, index: int) -> TablePart:
    """Counts and checksums of a complete part."""
    path = _counts_path(folder, index)
    what = "the counts of a part"
    return read_settings(TablePart, read_json(path, what=what), f"{path} is not {what}")


def samples_hash(samples: Iterable[Sample]) -> str:
    """sha256 over the samples and their order."""
    digest = hashlib.sha256()
    for sample in samples:
        digest.update(json.dumps(sample_row(sample), sort_keys=True).encode())
        digest.update(b"\n")
    return digest.hexdigest()


def copy_part(index: int, part: TablePart, origin: Path, folder: Path) -> None:
    """Copy a complete part into another folder of the same plan.

    Raises:
        DataError: One of its files is not the one that was written.
    """
    for inner in ("samples", "hidden", "."):
        stored = {"samples": part.samples, "hidden": part.hidden, ".": part.features}[inner]
        if stored is None:
            continue
        path = part_path(folder, index, inner)
        with atomic_path(path) as temporary:
            shutil.copyfile(part_path(origin, index, inner), temporary)
            if store_facts(temporary) != stored:
                raise DataError(
                    f"{part_path(origin, index, inner)} is not the file that was written; run the "
                    "`fac extract` of this shard again"
                )
    write_json(asdict(part), _counts_path(folder, index))


def _counts_path(folder: Path, index: int) -> Path:
    return folder / "counts" / f"part-{index:05d}.json"


def _write(path: Path, table: pa.Table, *, repeats: bool = True) -> StoredFile:
    """Write a file; a dictionary makes values that do not repeat larger."""
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", use_dictionary=repeats)
        return store_facts(temporary)
