"""The samples of a page: written ones with their credits, rejected ones, the seed, the anchor."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from facsynth.records import Message, Sample
from facsynth.report.data import Credit, Place, SampleEntry
from facsynth.report.sets import ReportInputs
from facsynth.report.texts import RowKey, Texts

__all__ = ["Listed", "listed_rows", "rejected_entry", "sample_entry", "sample_of_row"]

MAX_CREDITS = 40
N_STRONGEST = 12
"""Features shown for a sample that fills nothing."""

_FACTS = (
    *(("step", "step"), ("round", "round"), ("generator", "written by")),
    *(("method", "method"), ("contrast_to", "contrast to")),
)


@dataclass(frozen=True, slots=True)
class Listed:
    """A row of a table that the page lists, and the features shown with it."""

    key: RowKey
    features: tuple[int, ...]
    n_active: int


def listed_rows(inputs: ReportInputs, most: int, peaks: np.ndarray) -> list[Listed]:
    """Rows to list: all written ones, then the seed, those that fill alone first, then the anchor.

    Args:
        inputs: The tables.
        most: Rows at most.
        peaks: Largest activation of each feature.
    """
    listed: list[Listed] = []
    for kind in ("synthetic", "seed", "anchor"):
        if kind not in inputs.tables:
            continue
        rows = inputs.active[kind].activations
        special = _special(inputs, kind)
        found = []
        for row, (start, end) in enumerate(zip(rows.row_starts, rows.row_starts[1:], strict=False)):
            ids, values = rows.feature_ids[start:end], rows.values[start:end]
            is_special = special[ids]
            order = np.lexsort((-values / np.maximum(peaks[ids], 1e-12), ~is_special))
            n_special = int(np.count_nonzero(is_special))
            n = min(MAX_CREDITS, n_special) if kind == "synthetic" and n_special else N_STRONGEST
            chosen = tuple(int(f) for f in ids[order[: max(n, min(n_special, MAX_CREDITS))]])
            found.append((-n_special, Listed(RowKey(kind, row), chosen, int(end - start))))
        if kind == "seed":
            found.sort(key=lambda one: one[0])
        listed += [one for _, one in found]
        if len(listed) >= most:
            break
    return listed[:most]


def _special(inputs: ReportInputs, kind: str) -> np.ndarray:
    """Features that a row of this kind is shown for first."""
    if kind == "synthetic":
        return inputs.missing_before
    if kind == "seed":  # what no other sample of the seed does
        alone = inputs.active["seed"].counts == 1
        return np.asarray(alone & inputs.active["anchor"].features)
    return np.zeros(inputs.n_features, dtype=np.bool_)


def sample_entry(
    listed: Listed,
    sample: Sample,
    inputs: ReportInputs,
    texts: Texts,
    paints: Mapping[tuple[RowKey, int], Mapping[int, str]],
    place: Place | None,
) -> SampleEntry:
    """One row of a table as the page shows it; its texts must have been cut."""
    key = listed.key
    rows = inputs.active[key.kind].activations
    start, end = int(rows.row_starts[key.row]), int(rows.row_starts[key.row + 1])
    where = {int(rows.feature_ids[i]): i for i in range(start, end)}
    credits = []
    for feature in listed.features:
        entry = where[feature]
        at = texts.find(key, int(rows.positions[entry]))
        paint = paints.get((key, feature))
        text, peak = at if at else (None, None)
        credits.append(Credit(feature, float(rows.values[entry]), text, peak, paint))
    origin = inputs.provenance.get(sample.sample_id, {}) if key.kind == "synthetic" else {}
    return SampleEntry(
        sample_id=sample.sample_id,
        kind=key.kind,  # type: ignore[arg-type]
        parts=texts.parts(sample, key),
        n_tokens=int(rows.n_tokens[key.row]),
        credits=tuple(credits),
        n_active=listed.n_active,
        target=origin.get("target_feature"),
        facts=_facts(origin, sample),
        place=place,
    )


def rejected_entry(row: Mapping[str, Any], number: int, texts: Texts) -> SampleEntry:
    """A written sample that was not kept."""
    origin = row.get("provenance") or row
    credited = origin.get("credited") or ()
    sample = sample_of_row(row, f"rejected-{number}")
    return SampleEntry(
        sample_id=sample.sample_id,
        kind="rejected",
        parts=texts.parts(sample, None),
        credits=tuple(Credit(c["feature_id"], float(c["activation"])) for c in credited),
        target=origin.get("target_feature"),
        facts=_facts(origin, sample),
        reason=str(row.get("reason") or "not said"),
    )


def sample_of_row(row: Mapping[str, Any], sample_id: str) -> Sample:
    """The sample in a JSON row, as `write_synthesis` writes it."""
    turns = row.get("messages") or row.get("chosen") or ()
    messages = tuple(Message(str(m["role"]), str(m.get("content") or "")) for m in turns)
    rejected = row.get("rejected") or ()
    return Sample(
        str(row.get("sample_id") or sample_id),
        messages=messages,
        text=None if messages else str(row.get("text") or ""),
        rejected=tuple(Message(m["role"], m["content"]) for m in rejected),
    )


def _facts(origin: Mapping[str, Any], sample: Sample) -> tuple[tuple[str, str], ...]:
    facts = [(shown, str(origin[key])) for key, shown in _FACTS if origin.get(key) is not None]
    if sample.label is not None:
        facts.append(("label", sample.label))
    return tuple(facts)
