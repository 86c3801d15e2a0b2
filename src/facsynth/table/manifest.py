"""What a feature table says about itself: where its numbers come from, and what each part holds."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from facsynth.data.stored import read_json
from facsynth.errors import DataError
from facsynth.settings import Settings, read_settings
from facsynth.table.settings import Gating, Pooling

__all__ = [
    "SCHEMA_VERSION",
    "Manifest",
    "StoredFile",
    "TablePart",
    "TableSource",
    "part_path",
    "read_manifest",
]

SCHEMA_VERSION = 4
"""4 added the rows and checksums of every part."""

_MOST_FEATURES = 1 << 26
"""Arrays of this many features still fit into memory; the widest published SAEs have 2^24."""


@dataclass(frozen=True)
class TableSource(Settings):
    """Where the numbers of a table come from; see `check_same_features` for what must agree."""

    model_hash: str
    sae_hash: str
    n_features: int
    layer: int
    gate: Gating
    """Activations that count: the SAE's own (`sae`) or all positive ones (`relu`)."""

    pooling: Pooling
    """How token activations become one number per sample.

    Positions are those of the largest activation, the first of equals; with `last`, of the last
    scored token.
    """

    score: Literal["all", "user", "assistant"]
    """Whose words are scored."""

    max_length: int
    """Tokens at which samples were cut."""

    chat_format_hash: str
    """sha256 of the chat template."""

    model_name: str
    sae_name: str
    score_reasoning: bool = True
    """Whether the reasoning of answers was scored."""

    hidden: bool = False
    """Whether mean hidden states are kept; tables with and without compare in their features."""

    dtype: str = ""
    """Precision of the model, such as `mixed` or `float32`."""

    def __post_init__(self) -> None:
        if not 1 <= self.n_features <= _MOST_FEATURES:
            raise DataError(
                f"n_features is {self.n_features}, and must be between 1 and {_MOST_FEATURES:,}"
            )
        if self.layer < 0:
            raise DataError(f"layer is {self.layer}, and must be at least 0")
        if not 1 <= self.max_length <= 65_535:
            raise DataError(f"max_length is {self.max_length}, and must be between 1 and 65,535")


@dataclass(frozen=True)
class StoredFile(Settings):
    """A file of a table, as it was written."""

    n_bytes: int
    sha256: str


@dataclass(frozen=True)
class TablePart(Settings):
    """What one part of a table holds."""

    n_samples: int
    n_tokens: int
    """Scored tokens of its samples."""

    n_entries: int
    n_truncated: int
    """Samples that were cut at `max_length`."""

    features: StoredFile
    samples: StoredFile
    hidden: StoredFile | None = None
    left_out: Mapping[str, int] = field(default_factory=dict)
    """Samples with `reasoning`, `tool calls` or `tools` that the chat template does not show, and
    those with `no scored token`."""

    def __post_init__(self) -> None:
        for name in ("n_samples", "n_tokens", "n_entries", "n_truncated"):
            if getattr(self, name) < 0:
                raise DataError(f"{name} is {getattr(self, name)}, and must be at least 0")


@dataclass(frozen=True)
class Manifest(Settings):
    """What a finished table says about itself."""

    source: TableSource
    samples_hash: str
    parts: tuple[TablePart, ...]
    facsynth_version: str
    schema_version: int = SCHEMA_VERSION
    read: Mapping[str, Any] | None = None
    """What was read of the data and what was not, by `ReadReport.row`; null for samples that were
    made otherwise."""

    @property
    def n_samples(self) -> int:
        """Samples of all parts."""
        return sum(part.n_samples for part in self.parts)

    @property
    def n_tokens(self) -> int:
        """Scored tokens of all samples."""
        return sum(part.n_tokens for part in self.parts)

    @property
    def n_entries(self) -> int:
        """Stored activations."""
        return sum(part.n_entries for part in self.parts)

    @property
    def n_truncated(self) -> int:
        """Samples that were cut at `max_length`."""
        return sum(part.n_truncated for part in self.parts)

    @property
    def left_out(self) -> dict[str, int]:
        """Samples that the model did not read as a whole, by what of them it did not."""
        return dict(sum((Counter(part.left_out) for part in self.parts), Counter()))

    @property
    def n_parts(self) -> int:
        """Number of parts."""
        return len(self.parts)

    def row(self) -> dict[str, Any]:
        """The facts, with the sums over the parts in place of the parts."""
        names = ("n_samples", "n_tokens", "n_entries", "n_truncated", "n_parts")
        return {
            "source": asdict(self.source),
            "samples_hash": self.samples_hash,
            **{name: getattr(self, name) for name in names},
            "left_out": self.left_out,
            "read": self.read,
            "facsynth_version": self.facsynth_version,
            "schema_version": self.schema_version,
        }

    def stored(self) -> dict[str, Any]:
        """What `manifest.json` holds: the facts and the parts."""
        return {**self.row(), "parts": [asdict(part) for part in self.parts]}


def read_manifest(folder: Path) -> Manifest:
    """Read and check the manifest of a table.

    Raises:
        DataError: It is not one, another version wrote it, or it contradicts itself.
    """
    path = folder / "manifest.json"
    what = "a feature table's manifest"
    raw = read_json(path, what=what)
    if not isinstance(raw, dict) or "schema_version" not in raw:
        raise DataError(f"{path} is not {what}: it has no schema_version")
    if raw["schema_version"] != SCHEMA_VERSION:
        raise DataError(
            f"{folder} was written in version {str(raw['schema_version'])[:20]} of the table "
            f"format, and this facsynth reads version {SCHEMA_VERSION}; extract it again"
        )
    derived = ("n_", "left_out")
    facts = {name: value for name, value in raw.items() if not name.startswith(derived)}
    manifest = read_settings(Manifest, facts, f"{path} is not {what}")
    for name, value in manifest.row().items():
        if raw.get(name) != value and name.startswith("n_"):
            raise DataError(
                f"{path} says {name} {str(raw.get(name))[:40]}, and its parts have {value}; "
                f"extract the table again"
            )
    return manifest


def part_path(folder: Path, index: int, inner: str = ".") -> Path:
    """File of a part: of its features, or in the sub-folder `samples` or `hidden`."""
    return folder / inner / f"part-{index:05d}.parquet"
