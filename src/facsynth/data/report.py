"""What was read of a data set, and what was not."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from facsynth.data.shapes import Reading

__all__ = ["ReadCounts", "ReadReport", "ShapeCount"]

_N_EXAMPLES = 5


@dataclass(frozen=True)
class ShapeCount:
    """Rows that were read in one way."""

    n_rows: int
    fields: Mapping[str, int]
    """Fields that were read, with the rows that had them."""


@dataclass(frozen=True)
class ReadReport:
    """What was read of a data set, and what was not."""

    n_read: int
    """Rows that became samples."""

    n_rejected: int
    """Rows that were skipped because they could not be read."""

    n_not_sampled: int
    """Rows that a random sample left out."""

    n_renamed: int
    """Samples whose id an earlier file uses too, and which got the file's name in front."""

    shapes: Mapping[str, ShapeCount]
    """By what the rows were read as, such as `prompt + answer`."""

    not_read: Mapping[str, int]
    """Fields that hold text and were not read, with the rows that have them."""

    ignored: Mapping[str, int]
    """Other fields that were not read: numbers, names, metadata."""

    files: tuple[str, ...] = ()
    """Files that were read, where a folder or several files were given."""

    files_left_out: tuple[str, ...] = ()
    """Files of the folder that were not."""

    reasons: tuple[str, ...] = ()
    """Places and reasons of the first rejected rows."""

    def row(self) -> dict[str, Any]:
        """The report as plain values, for JSON and manifests."""
        return dict(json.loads(json.dumps(asdict(self))))

    def sentences(self) -> list[str]:
        """What a person has to know, one sentence an entry; the first says what was read."""
        said = [self._read()]
        if self.files:
            left = f"; left out {_listing(self.files_left_out)}" if self.files_left_out else ""
            said.append(f"files: {_listing(self.files)}{left}")
        if self.n_renamed:
            said.append(f"{self.n_renamed:,} ids are used in two files; the later got a prefix")
        if self.n_not_sampled:
            said.append(f"{self.n_not_sampled:,} rows are not in the random sample")
        if self.n_rejected:
            said.append(f"skipped {self.n_rejected:,} bad rows; the first: {self.reasons[0]}")
        if self.not_read:
            counts = ", ".join(f"{name} ({n:,} rows)" for name, n in self.not_read.items())
            said.append(
                f"fields with text or media that were not read: {counts}; name them with --fields"
            )
        return said

    def _read(self) -> str:
        shown = [
            (f"{count.n_rows:,} " if len(self.shapes) > 1 else "")
            + f"as {shape} (fields {', '.join(count.fields)})"
            for shape, count in self.shapes.items()
        ]
        rows = "row" if self.n_read == 1 else "rows"
        colon = ":" if len(shown) > 1 else ""
        return f"read {self.n_read:,} {rows}{colon} {', '.join(shown)}"


@dataclass
class ReadCounts:
    """Counts while rows are read."""

    n_read: int = 0
    n_rejected: int = 0
    n_not_sampled: int = 0
    n_renamed: int = 0
    shapes: Counter[str] = field(default_factory=Counter)
    fields: dict[str, Counter[str]] = field(default_factory=dict)
    unread: Counter[str] = field(default_factory=Counter)
    with_text: set[str] = field(default_factory=set)
    reasons: list[str] = field(default_factory=list)

    def add(self, reading: Reading) -> None:
        """Count a row that was read."""
        self.n_read += 1
        self.shapes[reading.shape] += 1
        self.fields.setdefault(reading.shape, Counter()).update(reading.fields)
        self.unread.update(reading.unread.keys())
        self.with_text.update(name for name, is_text in reading.unread.items() if is_text)

    def reject(self, reason: str) -> None:
        """Count a row that was not."""
        self.n_rejected += 1
        if len(self.reasons) < _N_EXAMPLES:
            self.reasons.append(reason)

    def report(self, files: tuple[str, ...], left_out: tuple[str, ...]) -> ReadReport:
        """The counts so far."""
        by_kind: tuple[dict[str, int], dict[str, int]] = ({}, {})
        for name, n_rows in self.unread.items():
            by_kind[name in self.with_text][name] = n_rows
        return ReadReport(
            n_read=self.n_read,
            n_rejected=self.n_rejected,
            n_not_sampled=self.n_not_sampled,
            n_renamed=self.n_renamed,
            shapes={s: ShapeCount(n, dict(self.fields[s])) for s, n in self.shapes.most_common()},
            not_read=by_kind[True],
            ignored=by_kind[False],
            files=files,
            files_left_out=left_out,
            reasons=tuple(self.reasons),
        )


def _listing(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - 8:,} more" if len(names) > 8 else ""
    return ", ".join(names[:8]) + more
