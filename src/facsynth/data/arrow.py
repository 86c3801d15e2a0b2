"""The rows of Parquet and Arrow files."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from facsynth.data.rows import BadRow, FileRow, Rows, not_utf8, refuse_twice
from facsynth.errors import DataError

__all__ = ["arrow_rows", "parquet_rows"]

_BATCH = 256


def _parquet(path: Path) -> Iterator[pa.RecordBatch]:
    with pq.ParquetFile(path) as file:
        yield from file.iter_batches(batch_size=_BATCH)


def _arrow(path: Path) -> Iterator[pa.RecordBatch]:
    """Batches of the file format, or of the stream format that `datasets` writes."""
    with pa.memory_map(str(path)) as source:
        try:
            reader = pa.ipc.open_file(source)
        except pa.ArrowInvalid:
            source.seek(0)
            yield from pa.ipc.open_stream(source)
            return
        yield from (reader.get_batch(i) for i in range(reader.num_record_batches))


def _batched(read: Callable[[Path], Iterator[pa.RecordBatch]], path: Path) -> Rows:
    number = 0
    try:
        for batch in read(path):
            refuse_twice(batch.schema.names, str(path))
            nested = [field.name for field in batch.schema if _needs_care(field.type)]
            batch = _dates_as_text(batch)
            for start in range(0, len(batch), _BATCH):
                for row in _python_rows(batch.slice(start, _BATCH)):
                    number += 1
                    if isinstance(row, dict):
                        row |= {name: _plain(row[name]) for name in nested}
                    yield FileRow(number, number, row)
    except (OSError, ValueError, OverflowError, pa.ArrowException) as error:
        raise DataError(f"{path} cannot be read as Parquet or Arrow: {error}") from error


def _dates_as_text(batch: pa.RecordBatch) -> pa.RecordBatch:
    """Dates and times as text: Python's cover 9,999 years, those of Arrow a billion."""
    for place, field in enumerate(batch.schema):
        if pa.types.is_temporal(field.type):
            column = batch.column(place)
            if pa.types.is_timestamp(field.type):
                column = column.cast(pa.timestamp(field.type.unit))  # without a zone to look up
            elif pa.types.is_duration(field.type):
                column = column.cast(pa.int64())
            batch = batch.set_column(place, field.name, column.cast(pa.string()))
    return batch


def _python_rows(part: pa.RecordBatch) -> Iterator[object]:
    """Rows as objects; Arrow does not check that texts are UTF-8."""
    try:
        yield from part.to_pylist(maps_as_pydicts="lossy")
    except UnicodeDecodeError:
        for place in range(len(part)):
            try:
                [row] = part.slice(place, 1).to_pylist(maps_as_pydicts="lossy")
                yield row
            except UnicodeDecodeError as error:
                yield BadRow(not_utf8(error))


def parquet_rows(path: Path) -> Rows:
    """The rows of a Parquet file."""
    return _batched(_parquet, path)


def arrow_rows(path: Path) -> Rows:
    """The rows of an Arrow file, in the file format or in the stream format."""
    return _batched(_arrow, path)


def _needs_care(kind: pa.DataType) -> bool:
    return bool(pa.types.is_nested(kind) or "binary" in str(kind))


def _plain(value: object) -> object:
    """Bytes as text where they are UTF-8; keys that another row's structure put in are left out."""
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            return value
    if isinstance(value, dict):
        return {name: _plain(inner) for name, inner in value.items() if inner is not None}
    return [_plain(inner) for inner in value] if isinstance(value, list) else value
