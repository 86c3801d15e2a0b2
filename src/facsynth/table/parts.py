"""The door through which every part of a feature table is read.

What comes out has passed: it is the file that was written (checksum), of the rows that the
manifest says, with ids below the width of the SAE, ascending within each row, and values that
are finite and above zero. A table from a stranger or from a broken disk gives an error here,
never a wrong answer further up.
"""

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from jaxtyping import Float32, Int64

from facsynth.errors import DataError
from facsynth.records import FeatureActivations, Sample, sample_from_row
from facsynth.table.manifest import StoredFile, TablePart, TableSource, part_path

__all__ = [
    "FEATURE_SCHEMA",
    "SAMPLE_SCHEMA",
    "check_part_files",
    "read_part",
    "read_part_columns",
    "read_part_hidden",
    "read_part_samples",
    "store_facts",
]

_CALLS = pa.list_(pa.struct([(name, pa.string()) for name in ("name", "arguments", "call_id")]))
_MESSAGES = pa.list_(
    pa.struct(
        [
            ("role", pa.string()),
            ("content", pa.string()),
            ("reasoning", pa.string()),
            ("tool_calls", _CALLS),
            ("tool_call_id", pa.string()),
            ("name", pa.string()),
        ]
    )
)
SAMPLE_SCHEMA = pa.schema(
    [
        ("sample_id", pa.string()),
        ("messages", _MESSAGES),
        ("text", pa.string()),
        ("rejected", _MESSAGES),
        ("label", pa.string()),
        ("tools", pa.list_(pa.string())),
    ]
)
FEATURE_SCHEMA = pa.schema(
    [
        ("sample_id", pa.string()),
        ("n_tokens", pa.int32()),
        ("feature_ids", pa.list_(pa.uint32())),
        ("activations", pa.list_(pa.float32())),
        ("positions", pa.list_(pa.uint16())),
    ]
)
_ROLES = {"system", "user", "assistant", "tool"}

_MOST_GROWTH = 64
"""Entries per byte of a file; real parts have less than one."""


def read_part(folder: Path, index: int, part: TablePart, source: TableSource) -> FeatureActivations:
    """The rows of one part, checked.

    Raises:
        DataError: The file is not the one that was written, or does not hold such rows.
    """
    path = part_path(folder, index)
    if part.n_entries > _MOST_GROWTH * max(part.features.n_bytes, 1 << 20):
        raise _broken(path, f"{part.n_entries:,} activations do not fit into its size")
    most = part.n_entries + part.n_samples
    table = _read(path, part.features, part.n_samples, FEATURE_SCHEMA, most_values=most)
    lists = [table[name].combine_chunks() for name in ("feature_ids", "activations", "positions")]
    if any(column.null_count for column in (*table.columns, *(flat.values for flat in lists))):
        raise _broken(path, "it has empty cells")
    lengths = [column.value_lengths().to_numpy() for column in lists]
    if any(not np.array_equal(lengths[0], other) for other in lengths[1:]):
        raise _broken(path, "its lists differ in length")
    ids, values, positions = (column.flatten().to_numpy() for column in lists)
    rows = FeatureActivations(
        n_features=source.n_features,
        sample_ids=tuple(_plain(path, table["sample_id"])),
        n_tokens=table["n_tokens"].to_numpy().astype(np.int64),
        row_starts=np.concatenate([[0], np.cumsum(lengths[0], dtype=np.int64)]),
        feature_ids=ids,
        values=values,
        positions=positions,
    )
    for holds, complaint in _claims(rows, part, source):
        if not holds:
            raise _broken(path, complaint)
    return rows


def read_part_samples(
    folder: Path, index: int, part: TablePart, *, rows: Int64[np.ndarray, " n_rows"] | None = None
) -> list[Sample]:
    """The samples of one part, or of some of its rows, checked, in the order of the rows.

    Raises:
        DataError: The file is not the one that was written, or does not hold the samples of the
            rows in their order.
    """
    path = part_path(folder, index, "samples")
    table = _read(path, part.samples, part.n_samples, SAMPLE_SCHEMA)
    _check_order(folder, index, part, _plain(path, table["sample_id"]), path)
    if rows is not None:
        table = table.take(rows)
    try:
        return [_sample(row) for row in _plain(path, table)]
    except (TypeError, ValueError) as error:
        raise _broken(path, f"a row is not a sample ({str(error)[:80]})") from error


def read_part_columns(
    folder: Path, index: int, part: TablePart, columns: Sequence[str]
) -> dict[str, list[Any]]:
    """Some columns of the samples of one part, by name, checked.

    Args:
        folder: The table.
        index: The part.
        part: What the manifest says of it.
        columns: Columns, or fields inside them by their Parquet paths.

    Raises:
        DataError: As in `read_part_samples`.
    """
    path = part_path(folder, index, "samples")
    wanted = ["sample_id", *columns]
    table = _read(path, part.samples, part.n_samples, SAMPLE_SCHEMA, columns=wanted)
    _check_order(folder, index, part, _plain(path, table["sample_id"]), path)
    return {name: _plain(path, table[name]) for name in table.column_names}


def read_part_hidden(
    folder: Path, index: int, part: TablePart
) -> Float32[np.ndarray, "n_samples d_model"]:
    """The mean hidden states of one part, checked, in the order of its rows.

    Raises:
        DataError: The file is not the one that was written, or does not hold finite states of the
            rows in their order.
    """
    path = part_path(folder, index, "hidden")
    if part.hidden is None:
        raise _broken(path, "the manifest has no hidden states of this part")
    table = _read(path, part.hidden, part.n_samples, None)
    if table.column_names != ["sample_id", "hidden"]:
        raise _broken(path, f"it has the columns {', '.join(table.column_names)[:80]}")
    kind = table["hidden"].type
    if not pa.types.is_fixed_size_list(kind) or kind.value_type != pa.float32():
        raise _broken(path, f"its states are of type {str(kind)[:40]}")
    _check_order(folder, index, part, _plain(path, table["sample_id"]), path)
    states: np.ndarray = table["hidden"].combine_chunks().flatten().to_numpy(zero_copy_only=False)
    if states.size != part.n_samples * kind.list_size or not np.isfinite(states).all():
        raise _broken(path, "its states are not all finite numbers")
    return states.reshape(part.n_samples, kind.list_size)


def check_part_files(folder: Path, parts: Mapping[int, TablePart]) -> None:
    """Raise a DataError unless the files of these parts are there and as long as when written."""
    for index, part in parts.items():
        for inner, stored in _stored_files(part):
            _check_size(part_path(folder, index, inner), stored)


def store_facts(path: Path) -> StoredFile:
    """Size and checksum of a file that was just written."""
    with path.open("rb") as stream:
        return StoredFile(path.stat().st_size, hashlib.file_digest(stream, "sha256").hexdigest())


def _stored_files(part: TablePart) -> list[tuple[str, StoredFile]]:
    files = [(".", part.features), ("samples", part.samples), ("hidden", part.hidden)]
    return [(inner, stored) for inner, stored in files if stored is not None]


def _check_size(path: Path, stored: StoredFile) -> None:
    if not path.is_file():
        raise _broken(path, "it is missing")
    if path.stat().st_size != stored.n_bytes:
        raise _broken(
            path, f"it has {path.stat().st_size:,} bytes, and {stored.n_bytes:,} were written"
        )


def _read(
    path: Path,
    stored: StoredFile,
    n_rows: int,
    schema: pa.Schema | None,
    *,
    most_values: int | None = None,
    columns: Sequence[str] | None = None,
) -> pa.Table:
    """A Parquet file that is the one that was written, and has these rows and columns.

    Its own metadata is looked at before any memory is taken for values.
    """
    _check_size(path, stored)
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != stored.sha256:
        raise _broken(path, "its checksum is not that of the file that was written")
    try:
        file = pq.ParquetFile(pa.BufferReader(content))
        if file.metadata.num_rows != n_rows:
            raise _broken(path, f"it has {file.metadata.num_rows:,} rows instead of {n_rows:,}")
        if schema is not None and not file.schema_arrow.equals(schema):
            raise _broken(path, "its columns are not those of a feature table")
        if most_values is not None and _most_values(file.metadata) > most_values:
            raise _broken(path, "it has more values than the manifest says")
        return file.read(columns=columns)
    except (pa.ArrowException, OSError, MemoryError) as error:
        raise _broken(path, f"it cannot be read as Parquet ({str(error)[:120]})") from error


def _most_values(metadata: pq.FileMetaData) -> int:
    """Values of the longest column."""
    groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
    return max(
        (sum(group.column(i).num_values for group in groups) for i in range(metadata.num_columns)),
        default=0,
    )


def _claims(
    rows: FeatureActivations, part: TablePart, source: TableSource
) -> list[tuple[bool, str]]:
    """What must hold of the rows of a part, and what to say where it does not."""
    ids, values, n_tokens = rows.feature_ids, rows.values, rows.n_tokens
    rises = ids[1:] > ids[:-1]
    begins = rows.row_starts[1:-1]
    rises[begins[(begins > 0) & (begins < ids.size)] - 1] = True
    sizes = (ids.size, int(n_tokens.sum()))
    return [
        (sizes == (part.n_entries, part.n_tokens), "it has other counts than the manifest says"),
        (bool((n_tokens >= 0).all()), "it has negative token counts"),
        (
            bool((ids < source.n_features).all()),
            f"it has feature ids above {source.n_features - 1:,}",
        ),
        (bool(rises.all()), "feature ids of a row repeat or do not ascend"),
        (
            bool((np.isfinite(values) & (values > 0)).all()),
            "it has activations that are not finite numbers above 0",
        ),
        (
            bool((rows.positions < source.max_length).all()),
            f"it has token positions above {source.max_length - 1:,}",
        ),
        (len(set(rows.sample_ids)) == len(rows.sample_ids), "sample ids repeat"),
    ]


def _check_order(folder: Path, index: int, part: TablePart, found: list[str], path: Path) -> None:
    """Compare ids with those of the part's rows."""
    rows = part_path(folder, index)
    _check_size(rows, part.features)
    try:
        ids = pq.read_table(rows, columns=["sample_id"])["sample_id"]
    except (pa.ArrowException, OSError, KeyError) as error:
        raise _broken(rows, f"it cannot be read as Parquet ({str(error)[:120]})") from error
    if _plain(rows, ids) != found:
        raise _broken(path, f"its samples are not those of {rows.name} in their order")


def _plain(path: Path, column: pa.ChunkedArray | pa.Table) -> list[Any]:
    """As Python values; Parquet does not check that texts are UTF-8, so this can fail."""
    try:
        return list(column.to_pylist())
    except UnicodeDecodeError as error:
        raise _broken(path, "a text is not UTF-8") from error


def _broken(path: Path, what: str) -> DataError:
    table = path.parent.parent if path.parent.name in ("samples", "hidden") else path.parent
    return DataError(
        f"{path} is broken: {what}; `fac doctor {table}` checks the whole table and says what "
        "can be saved"
    )


def _sample(row: dict[str, Any]) -> Sample:
    if row["text"] is None and not row["messages"]:
        raise ValueError("it has neither text nor messages")
    for message in (*row["messages"], *row["rejected"]):
        role = message["role"]
        if role not in _ROLES or message["content"] is None:
            raise ValueError(f"a message has the role {str(role)[:20]!r} or no content")
    return sample_from_row(row)
