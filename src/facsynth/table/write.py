"""Writing a feature table: claim the folder, write its parts, declare it finished."""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from facsynth.data.write import atomic_path, sample_row, write_json
from facsynth.errors import DataError
from facsynth.records import FeatureActivations, Sample
from facsynth.table.table import (
    FEATURE_SCHEMA,
    SAMPLE_SCHEMA,
    SCHEMA_VERSION,
    FeatureTable,
    Manifest,
    TableSource,
    part_path,
)

__all__ = ["has_part", "samples_hash", "start_table", "write_manifest", "write_part"]


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
        found = json.loads(path.read_text(encoding="utf-8"))
        started_with = int(found.pop("part_samples", part_samples))
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
    """Whether a folder holds nothing but what a killed `atomic_path` left behind."""
    return folder.is_dir() and all(file.name.startswith(".tmp-") for file in folder.iterdir())


def has_part(folder: Path, index: int) -> bool:
    """Whether this part is on disk; its features are written last, so one file tells."""
    return part_path(folder, index).is_file()


def write_part(
    folder: Path, index: int, activations: FeatureActivations, samples: Sequence[Sample]
) -> None:
    """Write one part: its samples first, then hidden states, its features last."""
    rows = [asdict(sample) for sample in samples]
    _write(part_path(folder, index, "samples"), pa.Table.from_pylist(rows, SAMPLE_SCHEMA))
    if activations.hidden is not None:
        states = pa.FixedSizeListArray.from_arrays(
            pa.array(activations.hidden.reshape(-1)), activations.hidden.shape[1]
        )
        named = {"sample_id": pa.array(activations.sample_ids), "hidden": states}
        _write(part_path(folder, index, "hidden"), pa.table(named), repeats=False)
    offsets = pa.array(activations.row_starts.astype(np.int32))
    lists = (activations.feature_ids, activations.values, activations.positions)
    columns = [
        pa.array(activations.sample_ids),
        pa.array(activations.n_tokens.astype(np.int32)),
        *(pa.ListArray.from_arrays(offsets, pa.array(values)) for values in lists),
    ]
    _write(part_path(folder, index), pa.Table.from_arrays(columns, schema=FEATURE_SCHEMA))


def write_manifest(folder: Path, manifest: Manifest) -> FeatureTable:
    """Declare the table finished."""
    write_json(asdict(manifest), folder / "manifest.json")
    return FeatureTable(folder, manifest)


def samples_hash(samples: Iterable[Sample]) -> str:
    """sha256 over the samples and their order."""
    digest = hashlib.sha256()
    for sample in samples:
        digest.update(json.dumps(sample_row(sample), sort_keys=True).encode())
        digest.update(b"\n")
    return digest.hexdigest()


def _write(path: Path, table: pa.Table, *, repeats: bool = True) -> None:
    """Write a file; a dictionary makes values that do not repeat larger."""
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", use_dictionary=repeats)
