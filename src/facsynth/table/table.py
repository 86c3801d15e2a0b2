"""The feature table: a folder of Parquet files with a manifest.

```
TABLE/manifest.json            what was read, with which model and SAE; written last
TABLE/part-00000.parquet       one row per sample: its active features, values, positions
TABLE/samples/part-00000.parquet   the samples themselves, in the same order
TABLE/hidden/part-00000.parquet    with `--hidden`: each sample's mean hidden state, in that order
```

A folder without a manifest is unfinished; `plan.json` lets the same run go on with it.
"""

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from facsynth.data.write import atomic_path, sample_row, write_json
from facsynth.errors import DataError, MismatchError
from facsynth.records import FeatureActivations, Message, Sample

__all__ = [
    "FeatureTable",
    "Manifest",
    "TableSource",
    "check_same_features",
    "has_part",
    "open_table",
    "precision_remark",
    "samples_hash",
    "stack_rows",
    "start_table",
    "take_rows",
    "write_manifest",
    "write_part",
]

SCHEMA_VERSION = 2
"""2 added the hidden states; tables of version 1 have none and are read as they are."""

_MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
_SAMPLE_SCHEMA = pa.schema(
    [
        ("sample_id", pa.string()),
        ("messages", _MESSAGES),
        ("text", pa.string()),
        ("rejected", _MESSAGES),
        ("label", pa.string()),
    ]
)
_FEATURE_SCHEMA = pa.schema(
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

    max_tokens: int
    """Samples were cut at so many tokens."""

    chat_format_hash: str
    """sha256 of the chat template."""

    model_name: str
    sae_name: str
    hidden: bool = False
    """Whether mean hidden states are kept; tables with and without compare in their features."""

    dtype: str = ""
    """Precision of the model, such as `mixed` or `float32`; empty in tables of older versions."""


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
    """Samples that were cut at `max_tokens`."""

    n_parts: int
    facsynth_version: str
    schema_version: int = SCHEMA_VERSION


@dataclass(frozen=True)
class FeatureTable:
    """A finished feature table on disk."""

    folder: Path
    manifest: Manifest

    def activations(self, *, hidden: bool = False) -> FeatureActivations:
        """All rows, in memory; `hidden` adds the mean hidden states, where there are any."""
        parts = [pq.read_table(self._part(i)) for i in range(self.manifest.n_parts)]
        table = pa.concat_tables([_FEATURE_SCHEMA.empty_table(), *parts]).combine_chunks()
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
            hidden=self._hidden() if hidden and self.manifest.source.hidden else None,
        )

    def _hidden(self) -> np.ndarray:
        parts = [
            pq.read_table(self._part(i, "hidden"))["hidden"].combine_chunks()
            for i in range(self.manifest.n_parts)
        ]
        rows = [part.flatten().to_numpy().reshape(len(part), -1) for part in parts]
        return np.concatenate(rows) if rows else np.zeros((0, 0), dtype=np.float32)

    def samples(self) -> list[Sample]:
        """The samples, in the order of the rows."""
        rows: list[Sample] = []
        for index in range(self.manifest.n_parts):
            part = pq.read_table(self._part(index, "samples"))
            rows += [_sample(row) for row in part.to_pylist()]
        return rows

    def _part(self, index: int, inner: str = ".") -> Path:
        return _part_path(self.folder, index, inner)


def open_table(folder: str | Path) -> FeatureTable:
    """Open a finished feature table.

    Raises:
        DataError: There is none, it is unfinished, or it has an unknown version.
    """
    folder = Path(folder)
    path = folder / "manifest.json"
    if not path.is_file():
        unfinished = (folder / "plan.json").is_file()
        why = "is an unfinished feature table" if unfinished else "is not a feature table"
        raise DataError(f"{folder} {why} ({path.name} is missing); run `fac extract` on it")
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        if raw["schema_version"] not in range(1, SCHEMA_VERSION + 1):
            raise DataError(
                f"{path} has schema version {raw['schema_version']}, this facsynth reads up to "
                f"{SCHEMA_VERSION}; extract it again"
            )
        manifest = Manifest(**{**raw, "source": TableSource(**raw["source"])})
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(f"{path} is not a feature table's manifest: {error}") from error
    return FeatureTable(folder, manifest)


def start_table(
    folder: Path, source: TableSource, wanted_samples: str, *, part_samples: int
) -> int:
    """Claim a folder for a table, or go on with the same one.

    Returns:
        Samples per part: `part_samples`, or what the unfinished table was begun with.

    Raises:
        DataError: The folder holds something else.
    """
    plan = {"source": asdict(source), "samples_hash": wanted_samples}
    path = folder / "plan.json"
    if path.is_file():
        found = json.loads(path.read_text(encoding="utf-8"))
        begun_with = int(found.pop("part_samples", part_samples))
        older = {"hidden": False, "dtype": source.dtype}  # which older versions did not write
        found["source"] = older | found["source"]
        if found != plan:
            raise DataError(
                f"{folder} holds a feature table of other samples, model, SAE or settings "
                f"({_difference(found, plan)}); choose another output folder or delete it"
            )
        return begun_with
    if folder.exists() and not _is_empty(folder):
        raise DataError(f"{folder} exists and is not a feature table; choose another output folder")
    folder.mkdir(parents=True, exist_ok=True)
    write_json({**plan, "part_samples": part_samples}, path)
    return part_samples


def _difference(found: dict[str, Any], plan: dict[str, Any]) -> str:
    """Which fields of two plans differ, with the values of those that are short."""
    before, now = ({"samples_hash": p["samples_hash"]} | p["source"] for p in (found, plan))
    names = [name for name in now if before.get(name) != now[name]]
    return ", ".join(
        name if name.endswith("_hash") else f"{name} {before.get(name)!r} there, {now[name]!r} here"
        for name in names
    )


def _is_empty(folder: Path) -> bool:
    """Whether it is a folder with nothing but what a killed `atomic_path` left behind."""
    return folder.is_dir() and all(file.name.startswith(".tmp-") for file in folder.iterdir())


def has_part(folder: Path, index: int) -> bool:
    """Whether this part is on disk; its features are written last, so one file tells."""
    return _part_path(folder, index).is_file()


def write_part(
    folder: Path, index: int, activations: FeatureActivations, samples: Sequence[Sample]
) -> None:
    """Write one part: its samples first, then hidden states, its features last."""
    rows = [
        {
            "sample_id": s.sample_id,
            "messages": [{"role": m.role, "content": m.content} for m in s.messages] or None,
            "text": s.text,
            "rejected": [{"role": m.role, "content": m.content} for m in s.rejected] or None,
            "label": s.label,
        }
        for s in samples
    ]
    _write(_part_path(folder, index, "samples"), pa.Table.from_pylist(rows, _SAMPLE_SCHEMA))
    if activations.hidden is not None:
        states = pa.FixedSizeListArray.from_arrays(
            pa.array(activations.hidden.reshape(-1)), activations.hidden.shape[1]
        )
        named = {"sample_id": pa.array(activations.sample_ids), "hidden": states}
        _write(_part_path(folder, index, "hidden"), pa.table(named), repeats=False)
    offsets = pa.array(activations.row_starts.astype(np.int32))
    lists = (activations.feature_ids, activations.values, activations.positions)
    columns = [
        pa.array(activations.sample_ids),
        pa.array(activations.n_tokens.astype(np.int32)),
        *(pa.ListArray.from_arrays(offsets, pa.array(values)) for values in lists),
    ]
    _write(_part_path(folder, index), pa.Table.from_arrays(columns, schema=_FEATURE_SCHEMA))


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


def check_same_features(one: FeatureTable, other: FeatureTable) -> None:
    """Raise a MismatchError unless both tables speak of the same features."""
    names = ("model_hash", "sae_hash", "n_features", "layer", "gate", "pooling", "score")
    for name in names:
        a, b = getattr(one.manifest.source, name), getattr(other.manifest.source, name)
        if a != b:
            raise MismatchError(
                f"{one.folder} and {other.folder} do not compare: {name} is {_short(a)} in the "
                f"first and {_short(b)} in the second; run `fac extract` again with the same "
                "--model, --sae, --gate, --pooling and --score"
            )


def precision_remark(one: FeatureTable, other: FeatureTable) -> str:
    """What to say of two tables that were made in different precisions; empty if they were not."""
    a, b = one.manifest.source.dtype, other.manifest.source.dtype
    if not a or not b or a == b:
        return ""
    return (
        f"{one.folder} was extracted in {a} and {other.folder} in {b}: features near the threshold "
        "can differ by rounding; run `fac extract` again with the same --dtype"
    )


def take_rows(
    activations: FeatureActivations, rows: Sequence[int] | NDArray[np.integer]
) -> FeatureActivations:
    """Some rows of a table, in the order given."""
    index = np.asarray(rows, dtype=np.int64)
    lengths = np.diff(activations.row_starts)[index]
    row_starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    owner = np.repeat(np.arange(len(index)), lengths)
    entries = activations.row_starts[index][owner] + np.arange(len(owner)) - row_starts[owner]
    return FeatureActivations(
        n_features=activations.n_features,
        sample_ids=tuple(activations.sample_ids[i] for i in index),
        n_tokens=activations.n_tokens[index],
        row_starts=row_starts,
        feature_ids=activations.feature_ids[entries],
        values=activations.values[entries],
        positions=activations.positions[entries],
        hidden=None if activations.hidden is None else activations.hidden[index],
    )


def stack_rows(parts: Sequence[FeatureActivations]) -> FeatureActivations:
    """Rows of several tables of one width; hidden states where all of them have them."""
    widths = {part.n_features for part in parts}
    if len(widths) != 1:
        raise MismatchError(f"tables of different widths cannot be stacked: {sorted(widths)}")
    lengths = np.concatenate([np.diff(part.row_starts) for part in parts])
    hidden = [part.hidden for part in parts if part.hidden is not None]
    return FeatureActivations(
        n_features=parts[0].n_features,
        sample_ids=tuple(name for part in parts for name in part.sample_ids),
        n_tokens=np.concatenate([part.n_tokens for part in parts]),
        row_starts=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        feature_ids=np.concatenate([part.feature_ids for part in parts]),
        values=np.concatenate([part.values for part in parts]),
        positions=np.concatenate([part.positions for part in parts]),
        hidden=np.concatenate(hidden) if len(hidden) == len(parts) else None,
    )


def _part_path(folder: Path, index: int, inner: str = ".") -> Path:
    return folder / inner / f"part-{index:05d}.parquet"


def _write(path: Path, table: pa.Table, *, repeats: bool = True) -> None:
    """Write a file; values that do not repeat are larger with a dictionary than without."""
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="zstd", use_dictionary=repeats)


def _flat(column: pa.ChunkedArray) -> np.ndarray:
    chunks = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in column.chunks]
    return np.concatenate(chunks) if chunks else np.zeros(0)


def _sample(row: dict[str, Any]) -> Sample:
    return Sample(
        sample_id=row["sample_id"],
        messages=tuple(Message(**m) for m in row["messages"] or ()),
        text=row["text"],
        rejected=tuple(Message(**m) for m in row["rejected"] or ()),
        label=row["label"],
    )


def _short(value: object) -> str:
    text = str(value)
    return text[:12] + "…" if len(text) > 40 else text
