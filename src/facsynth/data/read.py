"""The one reader of user data: files, folders, Hub data sets and rows become samples.

Nothing is dropped in silence: a row that cannot be read ends the reading with a `DataError` that
names its place, or is counted and kept in `rejected.jsonl`; the report says which fields were read
and which were not. See `facsynth.data.shapes` for what a row may look like.
"""

import json
import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from facsynth.data.fields import open_path
from facsynth.data.files import Source, open_rows
from facsynth.data.formats import BadRow, file_rows
from facsynth.data.formats import json_lines as _json_lines
from facsynth.data.places import Places
from facsynth.data.report import ReadCounts, ReadReport
from facsynth.data.roles import kind_of
from facsynth.data.settings import ReadSettings
from facsynth.data.shapes import PlacedRow, Reading, read_row
from facsynth.errors import DataError
from facsynth.folders import atomic_path
from facsynth.records import Sample

__all__ = [
    "REJECTED_FILE",
    "Reader",
    "SampleList",
    "SampleStream",
    "Source",
    "as_samples",
    "json_lines",
    "open_samples",
    "read_placed_rows",
    "read_rows",
    "read_samples",
]


Reader = Callable[[PlacedRow, ReadSettings], Reading]
"""Reads one row, or raises a DataError that names its place."""


class SampleList(list[Sample]):
    """Samples, and what was read of the rows that they come from."""

    def __init__(self, samples: Iterable[Sample], report: ReadReport) -> None:
        """Read the samples, behind the last of which the report is complete."""
        super().__init__(samples)
        self.report = report


def as_samples(data: Source) -> list[Sample]:
    """Samples as they are, and anything else as `read_samples` reads it.

    Raises:
        DataError: It holds no samples, or something else.
    """
    if isinstance(data, SampleList):
        return data
    if isinstance(data, list | tuple) and all(isinstance(row, Sample) for row in data):
        return list(data)
    return read_samples(data)


REJECTED_FILE = "rejected.jsonl"
"""File in an output folder with the rows that `on_bad_row="skip"` leaves out."""


def read_samples(
    source: Source, settings: ReadSettings | None = None, *, rejected: Path | None = None
) -> SampleList:
    """Read a file, a folder of files, a Hub data set, several of these, or rows.

    Args:
        source: A `.jsonl`, `.ndjson`, `.json`, `.csv`, `.tsv` or `.txt` file (each also with
            `.gz`, `.bz2`, `.xz` or `.zst`), a `.parquet`, `.arrow` or `.feather` file, a folder of
            such files or of `save_to_disk`; `hf://owner/name`, `hf://owner/name/config` or
            `owner/name` for a data set on the Hugging Face Hub; a list of these; or a list of
            texts, objects or samples, a `datasets.Dataset`, or a table of pandas, Polars or
            pyarrow.
        settings: How it is read.
        rejected: Where rows that are skipped are written, one JSON object a line.

    Returns:
        The samples in the order of the source, with a `report` on what was read. A sample is
        called by the `sample_id` or `id` of its row, or else `<file stem>-<row, from 1>`.

    Raises:
        DataError: Something cannot be read, two rows share an id, or there is no sample.
    """
    stream = open_samples(source, settings, rejected=rejected)
    samples = list(stream)
    return SampleList(samples, stream.report)


def open_samples(
    source: Source,
    settings: ReadSettings | None = None,
    *,
    rejected: Path | None = None,
    reader: Reader = read_row,
) -> "SampleStream":
    """As `read_samples`, one sample at a time and with a report; `reader` reads other rows.

    >>> stream = open_samples([{"question": "Is tea hot?", "answer": "Yes."}])
    >>> [sample.messages[1].content for sample in stream]
    ['Yes.']
    >>> stream.report.sentences()
    ['read 1 row as prompt + answer (fields question, answer)']
    """
    return SampleStream(source, settings or ReadSettings(), rejected, reader)


class SampleStream:
    """Samples as they are read; the report is complete behind the last one."""

    def __init__(
        self, source: Source, settings: ReadSettings, rejected: Path | None, reader: Reader
    ) -> None:
        """Find the files; rows are read as samples are asked for."""
        self._source, self._settings, self._rejected = source, settings, rejected
        self._reader = reader
        self._opened = open_rows(source, settings)
        self._counts = ReadCounts()
        self._places = Places()
        self._missing = dict(settings.named_fields)

    @property
    def report(self) -> ReadReport:
        """What was read so far."""
        return self._counts.report(self._opened.files, self._opened.left_out)

    def __iter__(self) -> Iterator[Sample]:
        """Yield the samples, once."""
        return (reading.sample for _, reading in self.rows())

    def rows(self) -> Iterator[tuple[PlacedRow, Reading]]:
        """Yield the samples with the rows that they come from, once."""
        with ExitStack() as stack:
            bad_rows: IO[str] | None = None
            for row in self._sampled(self._opened.rows):
                try:
                    reading = self._reading(row)
                except DataError as error:
                    if self._settings.on_bad_row == "error":
                        raise
                    self._counts.reject(str(error))
                    if self._rejected is not None:
                        if bad_rows is None:
                            path = stack.enter_context(atomic_path(self._rejected))
                            bad_rows = stack.enter_context(path.open("w", encoding="utf-8"))
                        bad_rows.write(_rejected_line(row, error))
                    continue
                self._check_strict(row, reading)
                self._counts.add(reading)
                yield row, reading
        self._check_end()

    def _sampled(self, rows: Iterator[PlacedRow]) -> Iterator[PlacedRow]:
        """All rows, or a random sample of them in their order (reservoir sampling)."""
        n_wanted = self._settings.sample
        if n_wanted is None:
            return rows
        rng = random.Random(self._settings.random_seed)
        kept: list[tuple[int, PlacedRow]] = []
        number = -1
        for number, row in enumerate(rows):
            if number < n_wanted:
                kept.append((number, row))
            elif (place := rng.randrange(number + 1)) < n_wanted:
                kept[place] = (number, row)
        self._counts.n_not_sampled = number + 1 - len(kept)
        return iter([row for _, row in sorted(kept, key=lambda entry: entry[0])])

    def _reading(self, row: PlacedRow) -> Reading:
        if isinstance(row.value, BadRow):
            raise DataError(f"{row.place}: {row.value.reason}")
        if self._missing and isinstance(row.value, Mapping):
            fields = open_path(row.value, self._missing.values())
            known = [part for part, name in self._missing.items() if name in fields]
            for part in known:
                del self._missing[part]
        reading = self._reader(row, self._settings)
        name = reading.sample.sample_id
        if self._places.note(name, row.file, row.at):
            return reading
        before = self._places.find(name)
        if before is not None and before[0] != row.file and reading.has_own_id:
            name = f"{row.fallback_id.rpartition('-')[0]}/{name}"
            reading = _renamed(reading, name)
            if self._places.note(name, row.file, row.at):
                self._counts.n_renamed += 1
                return reading
            before = self._places.find(name)
        assert before is not None  # it was not noted now, so it was before
        raise DataError(
            f"sample id {name!r} is used twice, at {', '.join(before)} and at {row.place}; "
            "make the ids unique, or remove the id field to number the rows"
        )

    def _check_strict(self, row: PlacedRow, reading: Reading) -> None:
        unread = [name for name, is_text in reading.unread.items() if is_text]
        if self._settings.strict and unread:
            raise DataError(
                f"{row.place}: the field `{unread[0]}` holds text that is not read, which --strict "
                "forbids; name it with --fields or remove it"
            )

    def _check_end(self) -> None:
        counts = self._counts
        if not counts.n_read:
            first = f"the first: {counts.reasons[0]}" if counts.reasons else "it holds no rows"
            raise DataError(f"no samples in {_shown(self._source)}; {first}")
        if self._missing and not self._settings.limit and not self._settings.sample:
            part, name = next(iter(self._missing.items()))
            raise DataError(
                f"no row of {_shown(self._source)} has the field `{name}`, named for {part}"
            )


def read_placed_rows(source: Source, settings: ReadSettings | None = None) -> Iterator[PlacedRow]:
    """The rows of a source as they stand there, for readers of formats of their own.

    Raises:
        DataError: Something cannot be read.
    """
    for row in open_rows(source, settings or ReadSettings()).rows:
        if isinstance(row.value, BadRow):
            raise DataError(f"{row.place}: {row.value.reason}")
        yield row


def read_rows(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Each row of one file with its place for messages; files as in `read_samples`.

    Raises:
        DataError: The file cannot be read, or a row is not an object.
    """
    if not path.exists():
        raise DataError(f"no file {path}")
    for row in file_rows(path):
        place, value = f"{path}, line {row.line}", row.value
        if isinstance(value, BadRow):
            raise DataError(f"{place}: {value.reason}")
        if not isinstance(value, Mapping):
            raise DataError(f"{place}: {kind_of(value)} where an object was expected")
        yield place, value


def json_lines(
    path: Path, *, advice: str = "write one object per line"
) -> Iterator[tuple[str, Any]]:
    """Each line of a file as JSON with its place for messages, whatever the file's ending.

    Raises:
        DataError: The file cannot be read, or a line is not JSON; it ends with the advice.
    """
    for row in _json_lines(path, advice):
        if isinstance(row.value, BadRow):
            raise DataError(f"{path}, line {row.line}: {row.value.reason}")
        yield f"{path}, line {row.line}", row.value


def _renamed(reading: Reading, name: str) -> Reading:
    return replace(reading, sample=replace(reading.sample, sample_id=name))


def _rejected_line(row: PlacedRow, error: DataError) -> str:
    value = None if isinstance(row.value, BadRow) else row.value
    unit, _, number = row.at.rpartition(" ")
    line = int(number) if unit == "line" else None
    entry = {"file": row.file, "place": row.at, "line": line, "reason": str(error), "row": value}
    return json.dumps(entry, default=str) + "\n"


def _shown(source: Source) -> str:
    if isinstance(source, str | Path):
        return str(source)
    named = isinstance(source, list | tuple) and all(isinstance(s, str | Path) for s in source)
    return ", ".join(str(item)[:60] for item in source[:3]) if named else "the rows given"
