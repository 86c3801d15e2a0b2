"""Samples in the forms that training tools read.

Each form is a folder: `train.jsonl` (for Hugging Face `data/train.jsonl`), with `dataset_info.json`
for LLaMA-Factory and a data card for Hugging Face. A sample that a form cannot hold is left out and
counted with its reason, never bent into shape.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from facsynth.data.write import sample_row, write_json, write_jsonl, write_text
from facsynth.errors import DataError
from facsynth.records import Message, Sample, sample_text

__all__ = ["TASK_FIELDS", "Exported", "Form", "Row", "export_samples", "form_row"]

Form = Literal[
    "hf",
    "sft",
    "prompt-completion",
    "preference",
    "classification",
    "choice",
    "llamafactory",
    "openai",
]
"""`sft`, `prompt-completion`, `preference` and `classification` are TRL's data set formats;
`choice` are the items of CAA (arXiv 2312.06681), each in both orders of its options."""

TASK_FIELDS = (
    "flaw",
    "question",
    "answer_matching_behavior",
    "answer_not_matching_behavior",
    "swapped",
)
"""Columns that tasks add to the rows of synthetic samples."""

_ROLE_TAGS = {
    "role_tag": "role",
    "content_tag": "content",
    "user_tag": "user",
    "assistant_tag": "assistant",
    "system_tag": "system",
}


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
    made, left_out = list[dict[str, object]](), Counter[str]()
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
    if form == "openai" and len({"input" in fields for fields in made}) == 2:
        raise DataError(
            "some samples are preference pairs and some are conversations; OpenAI tunes on one "
            "kind of file at a time, so split them first"
        )
    data = folder / ("data/train.jsonl" if form == "hf" else "train.jsonl")
    write_jsonl(made, data)
    if form == "llamafactory":
        write_json({name: _llamafactory_entry(made)}, folder / "dataset_info.json")
    if form == "hf":
        write_text(card, folder / "README.md")
    return Exported(data, len(made), dict(left_out))


def form_row(sample: Sample, form: Form) -> dict[str, object] | str:
    """The row of a sample in a form, or why the form cannot hold it."""
    if form == "hf":
        row = sample_row(sample)
        del row["sample_id"]
        return row
    if form == "classification":
        if sample.label is None:
            return "without a label"
        return {"text": sample_text(sample), "label": sample.label}
    if form == "choice":
        return "without two options"
    if form == "preference":
        return _preference(sample)
    if sample.text is not None:
        return {"text": sample.text} if form == "sft" else "without roles"
    if sample.messages[-1].role != "assistant":
        return "without an answer"
    if form == "prompt-completion":
        return {"prompt": _turns(sample.messages[:-1]), "completion": _turns(sample.messages[-1:])}
    if form == "llamafactory" and sample.rejected:
        return _llamafactory_pair(sample)
    if form == "openai" and sample.rejected:
        return _openai_pair(sample)
    return {"messages": _turns(sample.messages)}


def _choices(row: Row) -> list[dict[str, object]] | str:
    """An item in both orders of its options, so that a letter alone tells nothing."""
    names = ("question", "answer_matching_behavior", "answer_not_matching_behavior")
    swapped = row.fields.get("swapped")
    if not isinstance(swapped, Mapping) or any(name not in row.fields for name in names):
        return "without two options"
    return [{name: item[name] for name in names} for item in (row.fields, swapped)]


def _preference(sample: Sample) -> dict[str, object] | str:
    if not sample.rejected:
        return "without a rejected answer"
    n = _n_shared(sample)
    return {
        "prompt": _turns(sample.messages[:n]),
        "chosen": _turns(sample.messages[n:]),
        "rejected": _turns(sample.rejected[n:]),
    }


def _llamafactory_pair(sample: Sample) -> dict[str, object] | str:
    """A ranking row: one conversation and two last messages."""
    n = _n_shared(sample)
    if (len(sample.messages), len(sample.rejected)) != (n + 1, n + 1):
        return "with answers of several turns"
    (chosen,), (rejected,) = _turns(sample.messages[n:]), _turns(sample.rejected[n:])
    return {"messages": _turns(sample.messages[:n]), "chosen": chosen, "rejected": rejected}


def _openai_pair(sample: Sample) -> dict[str, object] | str:
    """A row of preference fine-tuning: what was said, and two answers of one message."""
    n = _n_shared(sample)
    if (len(sample.messages), len(sample.rejected)) != (n + 1, n + 1):
        return "with answers of several turns"
    return {
        "input": {"messages": _turns(sample.messages[:n])},
        "preferred_output": _turns(sample.messages[n:]),
        "non_preferred_output": _turns(sample.rejected[n:]),
    }


def _n_shared(sample: Sample) -> int:
    """Turns that both conversations of a pair begin with; each keeps at least one of its own."""
    most = min(len(sample.messages), len(sample.rejected)) - 1
    same = (a == b for a, b in zip(sample.messages, sample.rejected, strict=False))
    return next((i for i, is_same in enumerate(same) if not is_same or i == most), most)


def _llamafactory_entry(made: Sequence[Mapping[str, object]]) -> object:
    columns = {"messages": "messages"}
    n_pairs = sum("chosen" in row for row in made)
    if n_pairs not in (0, len(made)):
        raise DataError(
            f"{n_pairs} of {len(made)} samples are preference pairs; LLaMA-Factory wants pairs or "
            "conversations in one file, so split them first"
        )
    if n_pairs:
        columns |= {"chosen": "chosen", "rejected": "rejected"}
    return {
        "file_name": "train.jsonl",
        "formatting": "sharegpt",
        **({"ranking": True} if n_pairs else {}),
        "columns": columns,
        "tags": _ROLE_TAGS,
    }


def _origin(row: Row, clean: bool) -> dict[str, object]:
    if clean:
        return {}
    provenance = {} if row.provenance is None else {"provenance": row.provenance}
    return {"sample_id": row.sample.sample_id, **provenance}


def _turns(messages: Sequence[Message]) -> list[dict[str, str]]:
    return [{"role": message.role, "content": message.content} for message in messages]
