"""Gathers what a run folder holds into the records that the report shows."""

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from facsynth.records import Message, Span
from facsynth.report.page import FeatureRow, NeighbourRow, Report, SampleRow, TopicRow

__all__ = ["collect_report"]

_OUTCOMES = {
    "kept": "kept",
    "not needed": "usable, but others were chosen",
    "not asked: budget": "not asked for: the budget was spent",
}


def collect_report(
    folder: Path,
    title: str,
    facts: tuple[tuple[str, str], ...],
    before: dict[str, Any],
    after: dict[str, Any],
) -> Report:
    """A report of a finished run.

    Args:
        folder: The run folder.
        title: Heading of the page.
        facts: Label and value pairs shown at the top.
        before: `Coverage.row` of the seed.
        after: `Coverage.row` of the seed with the synthetic samples.
    """
    summary = json.loads((folder / "synthesize" / "summary.json").read_text(encoding="utf-8"))
    rows = list(_rows(folder / "synthesize" / "synthetic.jsonl"))
    hits = Counter(c["feature_id"] for row in rows for c in row["provenance"]["credited"])
    features = tuple(
        _feature(row, hits)
        for row in _rows(folder / "coverage" / "missing.jsonl")
        if row["name"] is not None
    )
    total = sum(summary["outcomes"].values())
    outcomes = [("candidates asked for", total)]
    outcomes += [(_OUTCOMES.get(k, f"rejected: {k}"), n) for k, n in summary["outcomes"].items()]
    return Report(
        title=title,
        facts=(*facts, ("Generator", summary["generator"])),
        before=before,
        after=after,
        features=features,
        topics=tuple(_topic(row, hits) for row in _rows(folder / "coverage" / "topics.jsonl")),
        samples=tuple(_sample(row) for row in rows),
        outcomes=tuple(outcomes),
        rounds=tuple(summary["rounds"]),
        features_file="coverage/missing.jsonl",
        samples_file="synthesize/synthetic.jsonl",
        is_sensitive=bool(summary.get("sensitive")),
    )


def _rows(path: Path) -> Iterator[dict[str, Any]]:
    with path.open(encoding="utf-8") as stream:
        for line in stream:
            yield json.loads(line)


def _topic(row: dict[str, Any], hits: Counter[int]) -> TopicRow:
    n_filled = sum(hits[feature] > 0 for feature in row["feature_ids"])
    return TopicRow(row["name"], row["n_features"], n_filled, row["n_anchor_samples"])


def _neighbour(row: dict[str, Any], hits: Counter[int]) -> NeighbourRow:
    return NeighbourRow(
        feature_id=row["feature_id"],
        name=row["name"],
        status="covered" if row["covered"] else "filled" if hits[row["feature_id"]] else "missing",
        cosine=float(row["cosine"]),
        shared=float(row["shared"]),
    )


def _feature(row: dict[str, Any], hits: Counter[int]) -> FeatureRow:
    n_synthetic = hits[row["feature_id"]]
    return FeatureRow(
        feature_id=row["feature_id"],
        name=row["name"],
        status="filled" if n_synthetic else "missing",
        n_anchor_samples=row["n_anchor_samples"],
        max_activation=float(row["max_activation"]),
        n_synthetic=n_synthetic,
        spans=tuple(Span(**span) for span in row["spans"]),
        balanced_accuracy=row["balanced_accuracy"],
        is_doubtful=row["doubtful"],
        topic=row["topic"],
        neighbours=tuple(_neighbour(near, hits) for near in row["neighbours"]),
    )


def _sample(row: dict[str, Any]) -> SampleRow:
    provenance = row["provenance"]
    turns = row.get("messages") or row.get("chosen") or ()
    messages = [Message(**m) for m in turns] or [Message("text", row["text"])]
    if row.get("rejected"):
        messages.append(Message("rejected answer", row["rejected"][-1]["content"]))
    activation = {c["feature_id"]: float(c["activation"]) for c in provenance["credited"]}
    return SampleRow(
        sample_id=row["sample_id"],
        messages=tuple(messages),
        target_feature=provenance["target_feature"],
        credited=tuple((f, activation[f]) for f in provenance["new_features"]),
        step=str(provenance["step"]),
        round=provenance["round"],
        generator=provenance["generator"],
    )
