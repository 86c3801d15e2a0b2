"""Samples in the forms that training tools read.

Each form is a folder: `train.jsonl` (for Hugging Face `data/train.jsonl`), with `dataset_info.json`
for LLaMA-Factory, `axolotl.yaml` for Axolotl and a data card for Hugging Face. A sample that a form
cannot hold is left out and counted with its reason, never bent into shape.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from facsynth.data.forms import Form, axolotl_config, form_row, llamafactory_entry
from facsynth.data.write import write_json, write_jsonl, write_text
from facsynth.errors import DataError
from facsynth.records import Sample

__all__ = ["TASK_FIELDS", "Exported", "Row", "export_samples"]

_ONE_KIND = {
    "openai": ("input", "OpenAI tunes on"),
    "llamafactory": ("chosen", "LLaMA-Factory reads"),
    "axolotl": ("chosen", "Axolotl reads"),
}
"""Forms that take pairs or conversations in one file, with the field that only pairs have."""

TASK_FIELDS = (
    "flaw",
    "question",
    "answer_matching_behavior",
    "answer_not_matching_behavior",
    "swapped",
)
"""Columns that tasks add to the rows of synthetic samples."""


@dataclass(frozen=True)
class Row:
    """A sample with what is known about where it came from."""

    sample: Sample
    provenance: Mapping[str, object] | None = None
    fields: Mapping[str, object] = field(default_factory=dict)
    """Those of `TASK_FIELDS` that it has."""


@dataclass(frozen=True)
class Exported:
    """What was written."""

    data: Path
    n_rows: int
    left_out: Mapping[str, int]
    """Samples that the form cannot hold, by the reason."""

    n_without_reasoning: int = 0
    """Messages whose reasoning the form has no field for."""


def export_samples(
    rows: Sequence[Row],
    folder: Path,
    form: Form,
    *,
    name: str = "facsynth",
    card: str = "",
    clean: bool = False,
) -> Exported:
    """Write samples into a folder, in one form.

    Args:
        rows: The samples.
        folder: Where the files go; files of the same names are replaced.
        form: What reads them.
        name: Name of the data set; LLaMA-Factory calls it so.
        card: Text of `README.md`; only the form `hf` has one.
        clean: Leave out provenance and sample ids.

    Raises:
        DataError: The form can hold none of the samples.
        SpaceError: The folder cannot be written.
    """
    made, left_out = list[dict[str, Any]](), Counter[str]()
    for row in rows:
        found = _choices(row) if form == "choice" else form_row(row.sample, form)
        if isinstance(found, str):
            left_out[found] += 1
            continue
        added = row.fields if form == "hf" else {}
        for fields in found if isinstance(found, list) else [found]:
            made.append(fields if form == "openai" else {**fields, **added, **_origin(row, clean)})
    if not made:
        reasons = ", ".join(f"{n} {why}" for why, n in left_out.items()) or "there are none"
        raise DataError(f"no sample can be written as {form}: {reasons}; choose another --format")
    if form in _ONE_KIND:
        _check_one_kind(made, *_ONE_KIND[form])
    if form == "llamafactory" and any("tools" in row for row in made):
        made = [{"tools": "", **row} for row in made]  # it looks the column up in every row
    data = folder / ("data/train.jsonl" if form == "hf" else "train.jsonl")
    write_jsonl(made, data)
    if form == "llamafactory":
        write_json({name: llamafactory_entry(made)}, folder / "dataset_info.json")
    if form == "axolotl":
        write_text(axolotl_config(made), folder / "axolotl.yaml")
    if form == "hf":
        write_text(card, folder / "README.md")
    is_dropped = form == "openai" or (form == "axolotl" and "chosen" in made[0])
    messages = [message for row in rows for message in (*row.sample.messages, *row.sample.rejected)]
    n_without = sum(message.reasoning is not None for message in messages) if is_dropped else 0
    return Exported(data, len(made), dict(left_out), n_without)


def _check_one_kind(made: Sequence[Mapping[str, Any]], mark: str, who: str) -> None:
    pairs, texts, turns = "preference pairs", "plain texts", "conversations"
    kinds = Counter(pairs if mark in row else texts if "text" in row else turns for row in made)
    if len(kinds) > 1:
        counts = " and ".join(f"{n} {kind}" for kind, n in sorted(kinds.items()))
        raise DataError(f"{counts}, but {who} one kind of sample in a file; split them first")


def _choices(row: Row) -> list[dict[str, object]] | str:
    """An item in both orders of its options, so that a letter alone tells nothing."""
    names = ("question", "answer_matching_behavior", "answer_not_matching_behavior")
    swapped = row.fields.get("swapped")
    if not isinstance(swapped, Mapping) or any(name not in row.fields for name in names):
        return "without two options"
    return [{name: item[name] for name in names} for item in (row.fields, swapped)]


def _origin(row: Row, clean: bool) -> dict[str, object]:
    if clean:
        return {}
    provenance = {} if row.provenance is None else {"provenance": row.provenance}
    return {"sample_id": row.sample.sample_id, **provenance}
