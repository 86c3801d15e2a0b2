"""Scores of a model on samples: plain files, and the logs of evaluation tools.

A score is a number a sample: correct or not, a reward, a loss. Logs are those of
lm-evaluation-harness (`samples_*.jsonl` of `--log_samples`) and of Inspect (`.json` and `.eval`).
"""

import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float64

from facsynth.data.read import read_placed_rows
from facsynth.errors import DataError
from facsynth.records import Sample, sample_text

__all__ = ["read_scores"]

_IDS = ("sample_id", "id")
_NAMES = ("score", "correct", "is_correct", "passed", "pass", "accuracy", "acc", "reward", "loss")
"""Fields of plain rows that hold a score, the first of them where a row has several."""

_WORDS = dict.fromkeys(("true", "yes", "correct", "c", "pass", "passed"), 1.0) | dict.fromkeys(
    ("false", "no", "incorrect", "i", "n", "fail", "failed"), 0.0
)
"""Verdicts in words; C, I and N (no answer) are Inspect's, as is P for partly correct."""

_HARNESS = frozenset(
    ("doc_id", "doc", "target", "arguments", "resps", "filtered_resps", "filter", "metrics")
)
"""Fields of a log of lm-evaluation-harness; every other number is a metric."""


@dataclass(frozen=True)
class _Entry:
    """What a file says about one sample."""

    place: str
    scores: Mapping[str, float]
    sample_id: str | None = None
    position: int | None = None
    """Place of the sample in the data set, from 0, where the log knows it."""

    texts: str = field(default="", repr=False)
    """All that a log holds in words, to check that it is about the same questions."""


def read_scores(
    path: str | Path, samples: Sequence[Sample], *, score: str | None = None
) -> tuple[str, Float64[np.ndarray, " n_samples"]]:
    """One score for each sample, from a file of scores or the log of an evaluation.

    A row is matched by `sample_id` or `id`. Without ids a plain file has one row for each sample,
    in the same order; logs of lm-evaluation-harness are matched by `doc_id`, which is the place of
    the question in the data set, and logs of Inspect by their ids or in their order. Several
    scores of one sample (epochs, repeats) are averaged.

    Args:
        path: Rows (JSON, JSONL, CSV, TSV, Parquet), one number a line, or a log.
        samples: The samples that the scores are about.
        score: Field, metric or scorer to use; needed where a file has several.

    Returns:
        The name of the score, and its values; NaN where a sample has none.

    Raises:
        DataError: The file cannot be read, or its scores do not fit the samples.
    """
    path = Path(path)
    entries = list(_entries(path))
    name = _chosen(entries, score, path)
    places = _places(entries, samples, path)
    sums, counts = np.zeros(len(samples)), np.zeros(len(samples))
    for place, entry in zip(places, entries, strict=True):
        value = entry.scores.get(name, np.nan)
        if not np.isnan(value):
            sums[place] += value
            counts[place] += 1
    if not counts.any():
        raise DataError(f"{path} holds no number under `{name}`")
    with np.errstate(invalid="ignore"):
        return name, sums / np.where(counts > 0, counts, np.nan)


def _entries(path: Path) -> Iterator[_Entry]:
    if path.suffix == ".eval":
        yield from map(_of_inspect, _zipped_samples(path))
        return
    for row in read_placed_rows(path):
        value = row.value
        if not isinstance(value, Mapping):
            yield _Entry(row.place, {"score": _number(value, row.place)})
        elif isinstance(value.get("samples"), list) and "eval" in value:
            yield from (_of_inspect((row.place, one)) for one in value["samples"])
        elif isinstance(value.get("scores"), Mapping):
            yield _of_inspect((row.place, value))
        elif "doc_id" in value:
            yield _of_harness(value, row.place)
        else:
            yield _plain(value, row.place)


def _zipped_samples(path: Path) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The samples of an `.eval` file, a ZIP archive with one JSON file each."""
    try:
        with zipfile.ZipFile(path) as archive:
            for name in archive.namelist():
                if name.startswith("samples/") and name.endswith(".json"):
                    yield f"{path}, {name}", json.loads(archive.read(name))
    except (OSError, zipfile.BadZipFile, NotImplementedError, ValueError) as error:
        raise DataError(
            f"{path} cannot be read as a log of Inspect: {error}; `inspect log convert --to json` "
            "writes one that can"
        ) from error


def _plain(row: Mapping[str, Any], place: str) -> _Entry:
    name = next((str(row[key]) for key in _IDS if row.get(key) not in (None, "")), None)
    scores = {}
    for key, value in row.items():
        if key not in _IDS and (number := _number_or_none(value)) is not None:
            scores["score" if key == "text" else str(key)] = number  # `text`: a line of a text file
    return _Entry(place, scores, name)


def _of_harness(row: Mapping[str, Any], place: str) -> _Entry:
    """A row of lm-evaluation-harness; with several filters a metric is called `metric,filter`."""
    named = row.get("metrics")
    names = named if isinstance(named, list) else [key for key in row if key not in _HARNESS]
    suffix = f",{row['filter']}" if row.get("filter") not in (None, "none") else ""
    found = {f"{key}{suffix}": _number_or_none(row.get(key)) for key in names}
    scores = {key: value for key, value in found.items() if value is not None}
    words = [row[key] for key in ("doc", "arguments") if row.get(key)]
    texts = json.dumps(words, ensure_ascii=False) if words else ""
    return _Entry(place, scores, position=int(row["doc_id"]), texts=texts)


def _of_inspect(placed: tuple[str, Mapping[str, Any]]) -> _Entry:
    """A sample of Inspect; a scorer with several values is called `scorer/value`."""
    place, row = placed
    scores: dict[str, float] = {}
    for scorer, given in (row.get("scores") or {}).items():
        value = given.get("value") if isinstance(given, Mapping) else given
        parts = value if isinstance(value, Mapping) else {"": value}
        for part, one in parts.items():
            if (number := _number_or_none(one)) is not None:
                scores[f"{scorer}/{part}" if part else scorer] = number
    texts = json.dumps(row.get("input"), ensure_ascii=False)
    return _Entry(place, scores, str(row.get("id")), texts=texts)


def _number(value: object, place: str) -> float:
    number = _number_or_none(value)
    if number is None:
        raise DataError(f"{place}: expected a number or a verdict, found {str(value)[:60]!r}")
    return number


def _number_or_none(value: object) -> float | None:
    """A number, a verdict in words, or the mean of a list of them; None for anything else."""
    if isinstance(value, list) and value:
        parts = [_number_or_none(one) for one in value]
        known = [one for one in parts if one is not None]
        return float(np.mean(known)) if len(known) == len(parts) else None
    if isinstance(value, str):
        word = value.strip().lower()
        if word == "p":
            return 0.5
        try:
            value = _WORDS[word] if word in _WORDS else float(word)
        except ValueError:
            return None
    if not isinstance(value, bool | int | float) or not np.isfinite(value):
        return None
    return float(value)


def _chosen(entries: Sequence[_Entry], score: str | None, path: Path) -> str:
    names = list(dict.fromkeys(name for entry in entries for name in entry.scores))
    listed = ", ".join(names) or "none"
    if score is not None:
        if score not in names:
            raise DataError(f"{path} has no score called {score!r}; there are {listed}")
        return score
    if len(names) == 1:
        return names[0]
    usual = [name for name in _NAMES if name in names]
    if len(usual) != 1:
        raise DataError(f"{path} has the scores {listed}; name the one to use by --score")
    return usual[0]


def _places(entries: Sequence[_Entry], samples: Sequence[Sample], path: Path) -> list[int]:
    """Which sample each entry is about."""
    by_id = {sample.sample_id: i for i, sample in enumerate(samples)}
    ids = [entry.sample_id for entry in entries]
    if any(name in by_id for name in ids):
        unknown = [entry for entry in entries if entry.sample_id not in by_id]
        if unknown:
            raise DataError(
                f"{unknown[0].place}: the table has no sample {unknown[0].sample_id!r}; its ids "
                f"look like {samples[0].sample_id!r}"
            )
        return [by_id[str(name)] for name in ids]
    is_log = any(entry.texts or entry.position is not None for entry in entries)
    if not is_log and any(name is not None for name in ids):
        raise DataError(
            f"{path}: no id such as {next(filter(None, ids))!r} is in the table, whose ids look "
            f"like {samples[0].sample_id!r}; without ids the rows count in the table's order"
        )
    if not is_log:
        places = list(range(len(entries)))
    elif all(entry.position is not None for entry in entries):
        places = [entry.position or 0 for entry in entries]
    else:
        order = {name: i for i, name in enumerate(dict.fromkeys(ids))}
        places = [order[name] for name in ids]
    _check_places(entries, places, samples, path)
    return places


def _check_places(
    entries: Sequence[_Entry], places: Sequence[int], samples: Sequence[Sample], path: Path
) -> None:
    """Refuse rows that cannot be about these samples."""
    n = max(places, default=-1) + 1
    knows_places = any(entry.position is not None for entry in entries)
    if n > len(samples) or (n < len(samples) and not knows_places):
        raise DataError(
            f"{path} has scores for {n:,} samples and the table has {len(samples):,}; give the "
            "rows ids, or extract the same samples in the same order"
        )
    checked = [(e, samples[p]) for e, p in zip(entries, places, strict=True) if e.texts]
    wrong = [(entry, sample) for entry, sample in checked if not _asks(entry, sample)]
    if 2 * len(wrong) > len(checked):
        entry, sample = wrong[0]
        raise DataError(
            f"{entry.place}: the log's question is not that of sample {sample.sample_id!r} in the "
            "table; extract the questions of this evaluation, in its order"
        )


def _asks(entry: _Entry, sample: Sample) -> bool:
    """Whether the words of a log hold the question of a sample."""
    asked = next((m.content for m in sample.messages if m.role == "user"), sample_text(sample))
    return json.dumps(asked.strip(), ensure_ascii=False)[1:-1] in entry.texts
