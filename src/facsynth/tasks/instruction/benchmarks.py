"""Instruction benchmarks: IFEval, GSM8K and AlpacaEval, each recognised by its fields."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facsynth.data.read import open_samples, read_placed_rows
from facsynth.data.report import ReadReport
from facsynth.data.settings import ReadSettings
from facsynth.data.shapes import PlacedRow, Reading
from facsynth.errors import DataError
from facsynth.records import Message, Sample

__all__ = [
    "BENCHMARKS",
    "Benchmark",
    "BenchmarkItem",
    "BenchmarkKind",
    "read_benchmark",
    "read_responses",
]


@dataclass(frozen=True)
class BenchmarkKind:
    """What is particular to a benchmark."""

    name: str
    fields: tuple[str, ...]
    """Fields by which its rows are recognised; the first one is asked."""

    max_new_tokens: int
    """Longest answer, where the user sets no other limit."""

    titles: Mapping[str, str]
    """Keys of its scores, by their titles for people; the first one is the main score."""

    simple: str | None = None
    """Key of the score that a rule without a model reaches."""

    request: str = ""
    """Text to add to each question."""

    note: str = ""
    """What people should know of a score that is absent."""


BENCHMARKS = (
    BenchmarkKind(
        "ifeval",
        ("prompt", "instruction_id_list", "kwargs"),
        1280,
        {
            "prompts followed, strict": "prompt_strict",
            "prompts followed, loose": "prompt_loose",
            "instructions followed, strict": "instruction_strict",
            "instructions followed, loose": "instruction_loose",
            "prompts": "n_prompts",
            "  without an answer": "n_empty",
        },
    ),
    BenchmarkKind(
        "gsm8k",
        ("question", "answer"),
        512,
        {
            "exact match (last number)": "exact_match",
            "  after ####": "strict_match",
            "questions": "n_questions",
            "  without a number": "n_without_number",
        },
        request="\n\nEnd your answer with a line that says: #### and the number.",
    ),
    BenchmarkKind(
        "alpaca",
        ("instruction", "output"),
        2048,
        {
            "win rate": "win_rate",
            "  at equal lengths, as published": "length_controlled",
            "  at equal lengths, without difficulties": "length_controlled_minimal",
            "  of the longer answer": "longer_win_rate",
            "share of wins of the answer shown first": "first_share",
            "instructions judged": "n_judged",
            "  not judged": "n_unjudged",
        },
        simple="longer_win_rate",
        note="The published rate at equal lengths needs the difficulty of each instruction "
        "(--gamed df_gamed.csv). The rate without difficulties may be far above it; do not compare "
        "it with the leaderboard.",
    ),
)

_ASKED = ("prompt", "instruction", "question")
_RESPONSES = ("response", "output", "answer", "completion")


@dataclass(frozen=True)
class BenchmarkItem:
    """One task of a benchmark."""

    item_id: str
    prompt: str
    fields: Mapping[str, Any]
    """The row as it is in the file."""


@dataclass(frozen=True)
class Benchmark:
    """Items of one kind."""

    kind: BenchmarkKind
    items: tuple[BenchmarkItem, ...]


def read_benchmark(
    source: str,
    *,
    reading: ReadSettings | None = None,
    rejected: Path | None = None,
    on_read: Callable[[ReadReport], None] | None = None,
) -> Benchmark:
    """Read a benchmark and recognise which one it is.

    Args:
        source: What `read_samples` takes.
        reading: How the rows are read.
        rejected: Where rows that are skipped are written.
        on_read: Gets what was read, and what was not.

    Raises:
        DataError: There are no rows, a row is of no known benchmark, or rows are of several.
    """
    kinds: dict[str, BenchmarkKind] = {}
    items = []
    stream = open_samples(source, reading, rejected=rejected, reader=_read_item)
    for row, _ in stream.rows():
        kind, fields = _kind(row)
        kinds[kind.name] = kind
        item_id = str(fields.get("key", fields.get("id", row.fallback_id)))
        items.append(BenchmarkItem(item_id, fields[kind.fields[0]], fields))
    if on_read:
        on_read(stream.report)
    if len(kinds) != 1:
        named = " and ".join(sorted(kinds)) or "no rows"
        raise DataError(f"{source} holds {named}; evaluate one benchmark at a time")
    return Benchmark(next(iter(kinds.values())), tuple(items))


def _read_item(row: PlacedRow, _: ReadSettings) -> Reading:
    kind, fields = _kind(row)
    sample = Sample(row.fallback_id, (Message("user", fields[kind.fields[0]]),))
    return Reading(sample, f"items of {kind.name}", tuple(fields))


def _kind(row: PlacedRow) -> tuple[BenchmarkKind, dict[str, Any]]:
    """The benchmark that a row is of, and its fields."""
    fields: Any = row.value if isinstance(row.value, dict) else {}
    fits = (k for k in BENCHMARKS if all(fields.get(name) is not None for name in k.fields))
    kind = next(fits, None)
    if kind is None or not isinstance(fields[kind.fields[0]], str):
        known = "; ".join(f"{k.name}: {', '.join(k.fields)}" for k in BENCHMARKS)
        raise DataError(f"{row.place}: not a row of a known benchmark, whose fields are {known}")
    return kind, fields


def read_responses(source: str, benchmark: Benchmark) -> dict[str, str]:
    """Ready responses to the items, by prompt; not every item needs one.

    Args:
        source: Rows with `prompt`, `instruction` or `question`, and `response`, `output`,
            `answer` or `completion`.
        benchmark: What was asked.

    Raises:
        DataError: A row lacks these fields, or no item has a response.
    """
    by_prompt: dict[str, str] = {}
    for row in read_placed_rows(source):
        fields: Any = row.value if isinstance(row.value, dict) else {}
        asked = next((fields[n] for n in _ASKED if isinstance(fields.get(n), str)), None)
        said = next((fields[n] for n in _RESPONSES if isinstance(fields.get(n), str)), None)
        if asked is None or said is None:
            raise DataError(
                f"{row.place}: not a response; it needs one of the fields {', '.join(_ASKED)} and "
                f"one of {', '.join(_RESPONSES)}"
            )
        by_prompt[asked] = said
    if not any(item.prompt in by_prompt for item in benchmark.items):
        raise DataError(
            f"{source} has no response to any of the {len(benchmark.items)} items; responses are "
            "found by their prompts, which must be those of the benchmark"
        )
    return by_prompt
