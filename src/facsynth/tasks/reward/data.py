"""Preference data as pairs of conversations: RewardBench, LLMBar, HH-RLHF, plain files.

A row with `input`, `output_1`, `output_2` and `label` (1 or 2) is LLMBar's; every other row is read
as `read_samples` reads preference pairs. The field `subset` names the part of RewardBench.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from facsynth.data.read import read_placed_rows
from facsynth.data.settings import ReadSettings
from facsynth.data.shapes import PlacedRow, read_row
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
    split: str = "train",
    limit: int | None = None,
) -> list[Comparison]:
    """Read preference pairs of any of the known formats.

    Args:
        source: What `read_samples` takes.
        subset_field: Field that names the part of the data set.
        split: Split of a Hub data set.
        limit: Read at most this many rows.

    Raises:
        DataError: A row is not a preference pair, its two answers are equal, or there are no rows.
    """
    found: list[Comparison] = []
    for row in read_placed_rows(source, ReadSettings(split=split, limit=limit)):
        fields: Any = row.value if isinstance(row.value, dict) else {}
        subset = fields.get(subset_field)
        found.append(_comparison(row, fields, None if subset is None else str(subset)))
    if not found:
        raise DataError(f"no preference pairs in {source}: it has no rows")
    for pair in found:
        if pair.chosen == pair.rejected:
            raise DataError(
                f"the pair {pair.pair_id!r} of {source} has two equal answers, so neither is "
                "better; remove it"
            )
    return found


def _comparison(row: PlacedRow, fields: Any, subset: str | None) -> Comparison:
    name = str(fields.get("id", row.fallback_id))
    if {"input", "output_1", "output_2", "label"} <= fields.keys():
        return _llmbar(row, fields, name, subset)
    sample = read_row(row).sample
    if not sample.rejected:
        raise DataError(
            f"{row.place}: not a preference pair; it needs the fields `chosen` and `rejected`"
        )
    return Comparison(name, sample.messages, sample.rejected, subset)


def _llmbar(row: PlacedRow, fields: Any, name: str, subset: str | None) -> Comparison:
    better = str(fields["label"])
    if better not in ("1", "2"):
        raise DataError(f"{row.place}: `label` is {better[:20]!r}, but must be 1 or 2")
    one, two = (_exchange(fields["input"], fields[f"output_{i}"]) for i in (1, 2))
    chosen, rejected = (one, two) if better == "1" else (two, one)
    return Comparison(name, chosen, rejected, subset)


def _exchange(prompt: str, answer: str) -> tuple[Message, ...]:
    return (Message("user", prompt), Message("assistant", answer))
