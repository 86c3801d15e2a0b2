"""What a Python user has in hand becomes samples, at the door of public functions."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from facsynth.data.read import read_samples
from facsynth.data.rows import PlacedRow, row_sample
from facsynth.errors import DataError
from facsynth.records import Sample

__all__ = ["SampleData", "as_samples"]

SampleData = str | Path | Iterable[Any]
"""A path, or `Sample`s, strings or rows: a list, a `datasets.Dataset`, a pandas data frame."""


def as_samples(data: object) -> list[Sample]:
    """Samples from anything that holds them; rows are recognised by their fields, as in files.

    Args:
        data: What a caller passed as `SampleData`. A string is a path or a Hub data set, see
            `read_samples`.

    Raises:
        DataError: It holds something else, or the same id twice.
    """
    if isinstance(data, str | Path):
        return read_samples(data)
    if isinstance(data, list | tuple) and all(isinstance(row, Sample) for row in data):
        return list(data)
    samples = [_sample(row, number) for number, row in enumerate(_rows(data), 1)]
    seen: set[str] = set()
    for sample in samples:
        if sample.sample_id in seen:
            raise DataError(f"two samples have the id {sample.sample_id!r}; make the ids unique")
        seen.add(sample.sample_id)
    return samples


def _rows(data: Any) -> Iterator[Any]:
    if hasattr(data, "to_dict") and hasattr(data, "columns"):  # a pandas data frame
        absent = data.isna()
        rows, gaps = data.to_dict("records"), absent.to_dict("records")
        for row, gap in zip(rows, gaps, strict=True):
            yield {str(name): None if gap[name] else value for name, value in row.items()}
    elif isinstance(data, Mapping):
        what = "splits" if all(hasattr(v, "column_names") for v in data.values()) else "one row"
        raise DataError(
            f"expected samples, found a mapping ({what}); pass one split or a list of rows"
        )
    elif isinstance(data, Iterable):
        yield from data
    else:
        raise DataError(
            f"expected a path, a list of strings, rows or Samples, or a data set, found "
            f"{type(data).__name__}"
        )


def _sample(row: Any, number: int) -> Sample:
    if isinstance(row, Sample):
        return row
    value = {"text": row} if isinstance(row, str) else row
    return row_sample(PlacedRow(f"row {number}", f"row-{number}", value))
