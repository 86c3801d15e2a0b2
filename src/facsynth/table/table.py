"""The feature table: a folder of Parquet files with a manifest.

```
TABLE/manifest.json            what was read, with which model and SAE; written last
TABLE/part-00000.parquet       one row per sample: its active features, values, positions
TABLE/samples/part-00000.parquet   the samples themselves, in the same order
TABLE/hidden/part-00000.parquet    with `--hidden`: each sample's mean hidden state, in that order
```

A folder without a manifest is unfinished; `plan.json` lets the same run resume it.
"""

import json
from dataclasses import asdict, dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from facsynth.errors import DataError
from facsynth.records import FeatureActivations, Message, Sample, ToolCall
from facsynth.show import TextTable, as_html

__all__ = [
    "FEATURE_SCHEMA",
    "SAMPLE_SCHEMA",
    "SCHEMA_VERSION",
    "FeatureTable",
    "Manifest",
    "TableSource",
    "open_table",
    "part_path",
]

SCHEMA_VERSION = 3
"""3 renamed `max_tokens` to `max_length`, and stores tools, their calls and reasoning."""

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


@dataclass(frozen=True)
class TableSource:
    """Where the numbers of a table come from; two tables compare when the first seven agree."""

    model_hash: str
    sae_hash: str
    n_features: int
    layer: int
    gate: str
    """Activations that count: the SAE's own (`sae`) or all positive ones (`relu`)."""

    pooling: str
    """How token activations become one number per sample: `max`, `mean`, `last` or `count`.

    Positions are those of the largest activation, the first of equals; with `last`, of the last
    scored token.
    """

    score: str
    """Whose words are scored: `all`, `user` or `assistant`."""

    max_length: int
    """Tokens at which samples were cut."""

    chat_format_hash: str
    """sha256 of the chat template."""

    model_name: str
    sae_name: str
    hidden: bool = False
    """Whether mean hidden states are kept; tables with and without compare in their features."""

    dtype: str = ""
    """Precision of the model, such as `mixed` or `float32`."""


@dataclass(frozen=True)
class Manifest:
    """What a finished table says about itself."""

    source: TableSource
    samples_hash: str
    n_samples: int
    n_tokens: int
    """Scored tokens of all samples."""

    n_entries: int
    n_truncated: int
    """Samples that were cut at `max_length`."""

    n_parts: int
    facsynth_version: str
    schema_version: int = SCHEMA_VERSION


@dataclass(frozen=True)
class FeatureTable:
    """A finished feature table on disk; what has been read stays in memory."""

    folder: Path
    manifest: Manifest

    def activations(self, *, hidden: bool = False) -> FeatureActivations:
        """All rows; `hidden` adds the mean hidden states if the table keeps them."""
        if hidden and self.manifest.source.hidden:
            return replace(self._rows, hidden=self._hidden)
        return self._rows

    def samples(self) -> list[Sample]:
        """The samples, in the order of the rows."""
        return list(self._samples)

    def row(self) -> dict[str, Any]:
        """The folder, under `table`, and the fields of the manifest."""
        return {"table": str(self.folder), **asdict(self.manifest)}

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

    @cached_property
    def _rows(self) -> FeatureActivations:
        parts = [pq.read_table(self._part(i)) for i in range(self.manifest.n_parts)]
        table = pa.concat_tables([FEATURE_SCHEMA.empty_table(), *parts]).combine_chunks()
        lists = [_flat(table[name]) for name in ("feature_ids", "activations", "positions")]
        lengths = np.concatenate(
            [chunk.value_lengths().to_numpy() for chunk in table["feature_ids"].chunks]
            or [np.zeros(0, dtype=np.int32)]
        )
        return FeatureActivations(
            n_features=self.manifest.source.n_features,
            sample_ids=tuple(table["sample_id"].to_pylist()),
            n_tokens=table["n_tokens"].to_numpy().astype(np.int64),
            row_starts=np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)]),
            feature_ids=lists[0].astype(np.uint32, copy=False),
            values=lists[1].astype(np.float32, copy=False),
            positions=lists[2].astype(np.uint16, copy=False),
        )

    @cached_property
    def _hidden(self) -> np.ndarray:
        parts = [
            pq.read_table(self._part(i, "hidden"))["hidden"].combine_chunks()
            for i in range(self.manifest.n_parts)
        ]
        rows = [part.flatten().to_numpy().reshape(len(part), -1) for part in parts]
        return np.concatenate(rows) if rows else np.zeros((0, 0), dtype=np.float32)

    @cached_property
    def _samples(self) -> tuple[Sample, ...]:
        parts = [pq.read_table(self._part(i, "samples")) for i in range(self.manifest.n_parts)]
        return tuple(_sample(row) for part in parts for row in part.to_pylist())

    def _part(self, index: int, inner: str = ".") -> Path:
        return part_path(self.folder, index, inner)


def open_table(folder: str | Path) -> FeatureTable:
    """Open a finished feature table.

    Raises:
        DataError: There is none, it is unfinished, or its version is not the current one.
    """
    folder = Path(folder)
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
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if raw["schema_version"] != SCHEMA_VERSION:
            raise DataError(
                f"{folder} was written in version {raw['schema_version']} of the table format, and "
                f"this facsynth reads version {SCHEMA_VERSION}; extract it again"
            )
        manifest = Manifest(**{**raw, "source": TableSource(**raw["source"])})
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is not a feature table's manifest: {error}") from error
    return FeatureTable(folder, manifest)


def part_path(folder: Path, index: int, inner: str = ".") -> Path:
    """File of a part: of its features, or in the sub-folder `samples` or `hidden`."""
    return folder / inner / f"part-{index:05d}.parquet"


def _flat(column: pa.ChunkedArray) -> np.ndarray:
    chunks = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in column.chunks]
    return np.concatenate(chunks) if chunks else np.zeros(0)


def _sample(row: dict[str, Any]) -> Sample:
    return Sample(
        sample_id=row["sample_id"],
        messages=tuple(map(_message, row["messages"])),
        text=row["text"],
        rejected=tuple(map(_message, row["rejected"])),
        label=row["label"],
        tools=tuple(row["tools"]),
    )


def _message(row: dict[str, Any]) -> Message:
    return Message(**row | {"tool_calls": tuple(ToolCall(**call) for call in row["tool_calls"])})
