"""Samples in a temporary file, so that memory does not grow with their number."""

import json
import os
import tempfile
import weakref
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import overload

from facsynth.data.files import Source
from facsynth.data.read import SampleStream, open_samples
from facsynth.data.report import ReadReport
from facsynth.data.settings import ReadSettings
from facsynth.records import Sample, sample_from_row

__all__ = ["SampleSpool", "spool_samples"]


class SampleSpool(Sequence[Sample]):
    """A sequence of samples that is kept on disk; memory holds eight bytes of each.

    The file is deleted with the object.
    """

    def __init__(self, samples: Iterable[Sample], stream: SampleStream) -> None:
        """Write the samples, made of those of the stream, into a temporary file."""
        self._stream = stream
        self._file = tempfile.TemporaryFile()  # noqa: SIM115
        weakref.finalize(self, self._file.close)
        self._starts = array("q", [0])
        for sample in samples:
            line = json.dumps(asdict(sample)).encode()
            self._starts.append(self._starts[-1] + self._file.write(line))
        self._file.flush()

    @property
    def report(self) -> ReadReport:
        """What was read of the rows that the samples come from."""
        return self._stream.report

    def __len__(self) -> int:
        return len(self._starts) - 1

    @overload
    def __getitem__(self, index: int) -> Sample: ...
    @overload
    def __getitem__(self, index: slice) -> list[Sample]: ...
    def __getitem__(self, index: int | slice) -> Sample | list[Sample]:
        if isinstance(index, slice):
            return [self._read(i) for i in range(*index.indices(len(self)))]
        return self._read(range(len(self))[index])

    def __iter__(self) -> Iterator[Sample]:
        return map(self._read, range(len(self)))

    def _read(self, index: int) -> Sample:
        start, end = self._starts[index : index + 2]
        content = os.pread(self._file.fileno(), end - start, start)  # threads share the file
        return sample_from_row(json.loads(content))


def spool_samples(
    source: Source,
    settings: ReadSettings | None = None,
    *,
    rejected: Path | None = None,
    change: Callable[[Iterable[Sample]], Iterable[Sample]] = iter,
) -> SampleSpool:
    """As `read_samples`, with the samples on disk.

    Args:
        source: See `read_samples`.
        settings: How it is read.
        rejected: Where rows that are skipped are written.
        change: Makes the samples that are kept of those that are read.

    Raises:
        DataError: As `read_samples`.
    """
    stream = open_samples(source, settings, rejected=rejected)
    return SampleSpool(change(stream), stream)
