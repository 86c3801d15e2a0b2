"""The feature table: a folder of Parquet files with a manifest.

```
TABLE/manifest.json            what was read, with which model and SAE; written last
TABLE/part-00000.parquet       one row per sample: its active features, values, positions
TABLE/samples/part-00000.parquet   the samples themselves, in the same order
TABLE/hidden/part-00000.parquet    with `--hidden`: each sample's mean hidden state, in that order
TABLE/counts/part-00000.json   rows and checksums of the part; written when the part is complete
```

A folder without a manifest is unfinished; `plan.json` lets the same run resume it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float32

from facsynth.errors import DataError
from facsynth.records import FeatureActivations, Sample
from facsynth.remote import local_copy, naming_address
from facsynth.show import TextTable, as_html
from facsynth.table.ahead import one_ahead
from facsynth.table.manifest import Manifest, read_manifest
from facsynth.table.parts import (
    check_part_files,
    read_part,
    read_part_hidden,
    read_part_samples,
)
from facsynth.table.rows import stack_rows

__all__ = ["FeatureTable", "open_table"]


@dataclass(frozen=True)
class FeatureTable:
    """A finished feature table on disk; what has been read stays in memory."""

    folder: Path
    manifest: Manifest

    def activations(self, *, hidden: bool = False) -> FeatureActivations:
        """All rows; `hidden` adds the mean hidden states if the table keeps them."""
        return replace(self._rows, hidden=self.hidden) if hidden else self._rows

    def samples(self) -> list[Sample]:
        """The samples, in the order of the rows."""
        return list(self._samples)

    def row(self) -> dict[str, Any]:
        """The folder, under `table`, and the fields of the manifest."""
        return {"table": str(self.folder), **self.manifest.row()}

    def tables(self) -> list[TextTable]:
        """The sizes of the table."""
        rows = [
            ("samples", self.manifest.n_samples),
            ("scored tokens", self.manifest.n_tokens),
            ("stored activations", self.manifest.n_entries),
            ("samples cut", self.manifest.n_truncated),
        ]
        note = "Next: `fac coverage --anchor TABLE --seed TABLE` compares two tables."
        return [TextTable(f"Feature table {self.folder}", ("what", "count"), rows, note)]

    _repr_html_ = as_html

    @property
    def is_in_memory(self) -> bool:
        """Whether the rows have been read as a whole."""
        return "_rows" in self.__dict__

    def parts(self) -> Iterator[FeatureActivations]:
        """The rows part by part, without keeping them; the next part is read ahead."""
        given = enumerate(self.manifest.parts)
        yield from one_ahead(
            lambda part: read_part(self.folder, *part, self.manifest.source), given
        )

    def check_ids(self, sample_ids: Sequence[str]) -> None:
        """Raise a DataError if ids of the table repeat."""
        if len(set(sample_ids)) < len(sample_ids):
            raise DataError(
                f"{self.folder} holds several samples of one id, so rows and samples cannot be "
                "told apart; extract it again"
            )

    @cached_property
    def _rows(self) -> FeatureActivations:
        rows = stack_rows(list(self.parts())) if self.manifest.parts else self._nothing()
        self.check_ids(rows.sample_ids)
        return rows

    @cached_property
    def hidden(self) -> Float32[np.ndarray, "n_samples d_model"] | None:
        """Mean hidden states of all rows; None if the table keeps none."""
        if not self.manifest.source.hidden:
            return None
        parts = [
            read_part_hidden(self.folder, index, part)
            for index, part in enumerate(self.manifest.parts)
        ]
        if len({part.shape[1] for part in parts}) > 1:
            raise DataError(
                f"{self.folder} holds hidden states of several widths; extract it again"
            )
        return np.concatenate(parts) if parts else np.zeros((0, 0), dtype=np.float32)

    @cached_property
    def _samples(self) -> tuple[Sample, ...]:
        return tuple(
            sample
            for index, part in enumerate(self.manifest.parts)
            for sample in read_part_samples(self.folder, index, part)
        )

    def _nothing(self) -> FeatureActivations:
        return FeatureActivations(
            n_features=self.manifest.source.n_features,
            sample_ids=(),
            n_tokens=np.zeros(0, np.int64),
            row_starts=np.zeros(1, np.int64),
            feature_ids=np.zeros(0, np.uint32),
            values=np.zeros(0, np.float32),
            positions=np.zeros(0, np.uint16),
        )


def open_table(folder: str | Path) -> FeatureTable:
    """Open a finished feature table, in a local folder or at an address of fsspec.

    Raises:
        DataError: There is none, it is unfinished, its version is not the current one, its
            manifest contradicts itself, or a file is missing or of another length. What the
            files hold is checked as they are read.
    """
    copy = local_copy(folder)
    with naming_address(copy, folder):
        return _open_here(copy)


def _open_here(folder: Path) -> FeatureTable:
    path = folder / "manifest.json"
    if folder.is_file():
        raise DataError(
            f"{folder} is a file, not a feature table; run `fac extract {folder} -o TABLE` first "
            "and pass TABLE"
        )
    if (folder / "plan.json").is_file() and not path.is_file():
        raise DataError(
            f"{folder} is an unfinished feature table; run the same `fac extract` again to "
            "resume it"
        )
    if not path.is_file():
        raise DataError(
            f"{folder} is not a feature table ({path.name} is missing); run "
            "`fac extract DATA -o TABLE` first"
        )
    manifest = read_manifest(folder)
    check_part_files(folder, dict(enumerate(manifest.parts)))
    return FeatureTable(folder, manifest)
