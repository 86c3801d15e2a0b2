"""Preference data as pairs of conversations: RewardBench, LLMBar, HH-RLHF, plain files.

Rows are read as `read_samples` reads preference pairs. The field `subset` names the part of
RewardBench.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facsynth.data.read import open_samples
from facsynth.data.report import ReadReport
from facsynth.data.settings import ReadSettings
from facsynth.data.shapes import PlacedRow, Reading, read_row
from facsynth.errors import DataError
from facsynth.records import Message, Sample

__all__ = ["Comparison", "both_sides", "read_comparisons"]


@dataclass(frozen=True)
class Comparison:
    """Two conversations of which the first should be preferred."""

    pair_id: str
    chosen: tuple[Message, ...]
    rejected: tuple[Message, ...]
    subset: str | None = None
    """Part of the data set that the pair belongs to."""


def both_sides(pairs: Sequence[Comparison]) -> list[Sample]:
    """Both sides of every pair as samples, chosen first."""
    sides = []
    for pair in pairs:
        sides.append(Sample(f"{pair.pair_id}#chosen", messages=pair.chosen))
        sides.append(Sample(f"{pair.pair_id}#rejected", messages=pair.rejected))
    return sides


def read_comparisons(
    source: str,
    *,
    subset_field: str = "subset",
    reading: ReadSettings | None = None,
    rejected: Path | None = None,
    on_read: Callable[[ReadReport], None] | None = None,
) -> list[Comparison]:
    """Read preference pairs of any of the known formats.

    Args:
        source: What `read_samples` takes.
        subset_field: Field that names the part of the data set.
        reading: How the rows are read.
        rejected: Where rows that are skipped are written.
        on_read: Gets what was read, and what was not.

    Raises:
        DataError: A row is not a preference pair, its two answers are equal, or there are no rows.
    """
    found: list[Comparison] = []
    stream = open_samples(source, reading, rejected=rejected, reader=_read_pair)
    for row, read in stream.rows():
        fields: Any = row.value if isinstance(row.value, dict) else {}
        part, sample = fields.get(subset_field), read.sample
        subset = None if part is None else str(part)
        found.append(Comparison(sample.sample_id, sample.messages, sample.rejected, subset))
    if on_read:
        on_read(stream.report)
    for pair in found:
        if pair.chosen == pair.rejected:
            raise DataError(
                f"the pair {pair.pair_id!r} of {source} has two equal answers, so neither is "
                "better; remove it"
            )
    return found


def _read_pair(row: PlacedRow, reading: ReadSettings) -> Reading:
    found = read_row(row, reading)
    if not found.sample.rejected:
        raise DataError(
            f"{row.place}: not a preference pair; it needs the fields `chosen` and `rejected`"
        )
    return found
