"""Columns of the samples of a table, read part by part without the rest."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from facsynth.records import Sample
from facsynth.table.parts import read_part_columns, read_part_samples
from facsynth.table.table import FeatureTable

__all__ = ["StoredSamples", "has_pairs", "read_labels", "read_samples", "read_texts"]


class StoredSamples(Sequence[Sample]):
    """The samples of a table on disk, read part by part whenever they are asked for."""

    def __init__(self, table: FeatureTable) -> None:
        self._table = table

    def __len__(self) -> int:
        return self._table.manifest.n_samples

    def __getitem__(self, place: Any) -> Any:
        rows = range(len(self))[place]
        return self.take(rows) if isinstance(place, slice) else self.take([rows])[0]

    def __iter__(self) -> Iterator[Sample]:
        for index, part in enumerate(self._table.manifest.parts):
            yield from read_part_samples(self._table.folder, index, part)

    def take(self, rows: Sequence[int] | NDArray[np.int64]) -> list[Sample]:
        """The samples of some rows, in the order given."""
        return read_samples(self._table, rows)


def read_labels(table: FeatureTable) -> list[str | None]:
    """Label of each sample."""
    return [label for part in _parts(table, "label") for label in part["label"]]


def has_pairs(table: FeatureTable) -> bool:
    """Whether some sample is a preference pair."""
    parts = _parts(table, "rejected.list.element.role")
    return any(rejected for part in parts for rejected in part["rejected"])


def read_texts(table: FeatureTable) -> Iterator[str]:
    """Text of each sample, as `sample_text` gives it."""
    for part in _parts(table, "text", "messages.list.element.content"):
        for text, messages in zip(part["text"], part["messages"], strict=True):
            yield text if text is not None else "\n".join(one["content"] for one in messages)


def read_samples(table: FeatureTable, rows: Sequence[int] | NDArray[np.int64]) -> list[Sample]:
    """The samples of some rows, in the order given."""
    wanted = np.unique(np.asarray(rows, dtype=np.int64))
    found, start = dict[int, Sample](), 0
    for index, part in enumerate(table.manifest.parts):
        here = wanted[(wanted >= start) & (wanted < start + part.n_samples)]
        if here.size:
            read = read_part_samples(table.folder, index, part, rows=here - start)
            found |= zip(here.tolist(), read, strict=True)
        start += part.n_samples
    return [found[int(row)] for row in rows]


def _parts(table: FeatureTable, *columns: str) -> Iterator[dict[str, list[Any]]]:
    for index, part in enumerate(table.manifest.parts):
        yield read_part_columns(table.folder, index, part, columns)
