"""Instruction benchmarks: IFEval, GSM8K and AlpacaEval, each known by its fields."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from facsynth.data.read import read_placed_rows
from facsynth.data.settings import ReadSettings
from facsynth.errors import DataError

__all__ = ["Benchmark", "BenchmarkItem", "read_benchmark", "read_responses"]

Kind = Literal["ifeval", "gsm8k", "alpaca"]

_FIELDS: tuple[tuple[Kind, tuple[str, ...], str], ...] = (
    ("ifeval", ("prompt", "instruction_id_list", "kwargs"), "prompt"),
    ("gsm8k", ("question", "answer"), "question"),
    ("alpaca", ("instruction", "output"), "instruction"),
)
"""Fields that a row must have, and the one that is asked."""

_ASKED = ("prompt", "instruction", "question")
_TOLD = ("response", "output", "answer", "completion")


@dataclass(frozen=True)
class BenchmarkItem:
    """One task of a benchmark."""

    item_id: str
    prompt: str
    fields: Mapping[str, Any]
    """The row as it stands in the file."""


@dataclass(frozen=True)
class Benchmark:
    """Items of one kind."""

    kind: Kind
    items: tuple[BenchmarkItem, ...]


def read_benchmark(source: str, *, split: str = "train", limit: int | None = None) -> Benchmark:
    """Read a benchmark and say which it is.

    Args:
        source: What `read_samples` takes.
        split: Split of a Hub data set.
        limit: Read the first `limit` rows only.

    Raises:
        DataError: There are no rows, a row is of no benchmark, or rows are of different ones.
    """
    kinds, items = set[Kind](), []
    for row in read_placed_rows(source, ReadSettings(split=split, limit=limit)):
        fields: Any = row.value if isinstance(row.value, dict) else {}
        found = next((f for f in _FIELDS if all(fields.get(n) is not None for n in f[1])), None)
        if found is None or not isinstance(fields[found[2]], str):
            wanted = "; ".join(f"{kind}: {', '.join(names)}" for kind, names, _ in _FIELDS)
            raise DataError(f"{row.place}: of no benchmark that is known; fields wanted: {wanted}")
        kinds.add(found[0])
        item_id = str(fields.get("key", fields.get("id", row.fallback_id)))
        items.append(BenchmarkItem(item_id, fields[found[2]], fields))
    if len(kinds) != 1:
        named = " and ".join(sorted(kinds)) or "no rows"
        raise DataError(f"{source} holds {named}; evaluate one benchmark at a time")
    return Benchmark(kinds.pop(), tuple(items))


def read_responses(source: str, benchmark: Benchmark) -> list[str]:
    """Ready responses to the items, found by their prompts.

    Args:
        source: Rows with `prompt`, `instruction` or `question`, and `response`, `output`,
            `answer` or `completion`.
        benchmark: What was asked.

    Raises:
        DataError: A row lacks these fields, or an item has no response.
    """
    told: dict[str, str] = {}
    for row in read_placed_rows(source):
        fields: Any = row.value if isinstance(row.value, dict) else {}
        asked = next((fields[n] for n in _ASKED if isinstance(fields.get(n), str)), None)
        said = next((fields[n] for n in _TOLD if isinstance(fields.get(n), str)), None)
        if asked is None or said is None:
            raise DataError(
                f"{row.place}: no response; one of {', '.join(_ASKED)} and one of "
                f"{', '.join(_TOLD)} needed"
            )
        told[asked] = said
    missing = [item.item_id for item in benchmark.items if item.prompt not in told]
    if missing:
        shown = ", ".join(missing[:3]) + (", …" if len(missing) > 3 else "")
        raise DataError(
            f"{source} has no response to {len(missing)} of {len(benchmark.items)} items "
            f"({shown}); add them, or remove the items"
        )
    return [told[item.prompt] for item in benchmark.items]
