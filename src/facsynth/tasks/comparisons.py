"""Preference data as pairs of conversations: RewardBench, RM-Bench, LLMBar, HH-RLHF, plain files.

A row is recognised by its fields: `chosen` and `rejected` lists of answers with a `prompt` are
RM-Bench; `input`, `output_1`, `output_2` and `label` (1 or 2) are LLMBar; everything else is read
as `read_samples` reads preference pairs. `subset` names the part of RewardBench, `domain` that of
RM-Bench.
"""

from dataclasses import dataclass
from typing import Any

from facsynth.data.read import read_placed_rows
from facsynth.data.settings import ReadSettings
from facsynth.data.shapes import PlacedRow, read_row
from facsynth.errors import DataError
from facsynth.records import Message, Sample

__all__ = ["Comparison", "read_comparisons"]


@dataclass(frozen=True)
class Comparison:
    """Two conversations of which the first should be preferred."""

    pair_id: str
    chosen: tuple[Message, ...]
    rejected: tuple[Message, ...]
    subset: str | None = None
    """Part of the data set that the pair belongs to."""

    styles: tuple[int, int] | None = None
    """RM-Bench: style of the chosen and of the rejected answer, 0 (concise) to 2 (formatted)."""

    def samples(self) -> tuple[Sample, Sample]:
        """Both sides as samples, chosen first."""
        return (
            Sample(f"{self.pair_id}#chosen", messages=self.chosen),
            Sample(f"{self.pair_id}#rejected", messages=self.rejected),
        )


def read_comparisons(
    source: str,
    *,
    subset_field: str | None = None,
    split: str = "train",
    limit: int | None = None,
) -> list[Comparison]:
    """Read preference pairs of any of the known formats.

    Args:
        source: What `read_samples` takes.
        subset_field: Field that names the part of the data set; else `subset` or `domain`.
        split: Split of a Hub data set.
        limit: Read the first `limit` rows only.

    Raises:
        DataError: A row is no preference pair, both of its answers are equal, or there is none.
    """
    found: list[Comparison] = []
    for row in read_placed_rows(source, ReadSettings(split=split, limit=limit)):
        fields: Any = row.value if isinstance(row.value, dict) else {}
        names = (subset_field,) if subset_field else ("subset", "domain")
        subset = next((str(fields[n]) for n in names if fields.get(n) is not None), None)
        found += _comparisons(row, fields, subset)
    if not found:
        raise DataError(f"no preference pairs in {source}; it holds no rows")
    for pair in found:
        if pair.chosen == pair.rejected:
            raise DataError(
                f"the pair {pair.pair_id!r} of {source} has two equal answers, so neither is the "
                "better one; remove it"
            )
    return found


def _comparisons(row: PlacedRow, fields: Any, subset: str | None) -> list[Comparison]:
    name = str(fields.get("id", row.fallback_id))
    if {"input", "output_1", "output_2", "label"} <= fields.keys():
        return [_llmbar(row, fields, name, subset)]
    answers = (fields.get("chosen"), fields.get("rejected"))
    if all(isinstance(a, list) and a and isinstance(a[0], str) for a in answers):
        return _matrix(row, fields, name, subset)
    sample = read_row(row).sample
    if not sample.rejected:
        raise DataError(f"{row.place}: no preference pair; fields `chosen` and `rejected` needed")
    return [Comparison(name, sample.messages, sample.rejected, subset)]


def _llmbar(row: PlacedRow, fields: Any, name: str, subset: str | None) -> Comparison:
    better = str(fields["label"])
    if better not in ("1", "2"):
        raise DataError(f"{row.place}: `label` is {better[:20]!r}, but the better output is 1 or 2")
    one, two = (_exchange(fields["input"], fields[f"output_{i}"]) for i in (1, 2))
    chosen, rejected = (one, two) if better == "1" else (two, one)
    return Comparison(name, chosen, rejected, subset)


def _matrix(row: PlacedRow, fields: Any, name: str, subset: str | None) -> list[Comparison]:
    """Every style of the chosen answer against every style of the rejected one."""
    chosen, rejected = fields["chosen"], fields["rejected"]
    if len(chosen) != 3 or len(rejected) != 3 or fields.get("prompt") is None:
        raise DataError(
            f"{row.place}: {len(chosen)} chosen and {len(rejected)} rejected answers, but RM-Bench "
            "has a prompt and three of each"
        )
    return [
        Comparison(
            f"{name}.{i}{j}",
            _exchange(fields["prompt"], chosen[i]),
            _exchange(fields["prompt"], rejected[j]),
            subset,
            (i, j),
        )
        for i in range(3)
        for j in range(3)
    ]


def _exchange(prompt: str, answer: str) -> tuple[Message, ...]:
    return (Message("user", prompt), Message("assistant", answer))
