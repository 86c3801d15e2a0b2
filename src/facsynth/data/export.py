"""Samples in the forms that training tools read.

Each form is a folder: `train.jsonl` (for Hugging Face `data/train.jsonl`), with `dataset_info.json`
for LLaMA-Factory, `axolotl.yaml` for Axolotl and a data card for Hugging Face. A sample that a form
cannot hold is left out and counted with its reason, never bent into shape.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from facsynth.data.settings import Form
from facsynth.data.write import message_row, sample_row, write_json, write_jsonl, write_text
from facsynth.errors import DataError
from facsynth.records import Message, Sample, sample_text

__all__ = ["TASK_FIELDS", "Exported", "Row", "export_samples", "form_row"]

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


_LLAMAFACTORY_TAGS = {
    "role_tag": "role",
    "content_tag": "content",
    "user_tag": "user",
    "assistant_tag": "assistant",
    "system_tag": "system",
    "observation_tag": "observation",
    "function_tag": "function_call",
}
_TOOLS_APART = "with words beside a tool call"
_NOT_ALTERNATING = "with turns that do not alternate, which LLaMA-Factory skips"

Made = dict[str, Any] | str


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

    parts_left_out: Mapping[str, int] = field(default_factory=dict)
    """What samples that were written have and the form does not, such as `reasoning`."""

    def row(self) -> dict[str, Any]:
        """Plain values under stable keys."""
        return {
            "data": str(self.data),
            "n_samples": self.n_rows,
            "left_out": dict(self.left_out),
            "parts_left_out": dict(self.parts_left_out),
        }


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
    made, kept, left_out = list[dict[str, Any]](), list[Sample](), Counter[str]()
    for row in rows:
        found = _choices(row) if form == "choice" else form_row(row.sample, form)
        if isinstance(found, str):
            left_out[found] += 1
            continue
        kept.append(row.sample)
        added = row.fields if form == "hf" else {}
        for fields in found if isinstance(found, list) else [found]:
            made.append(fields if form == "openai" else {**fields, **added, **_origin(row, clean)})
    if not made:
        reasons = ", ".join(f"{n} {why}" for why, n in left_out.items()) or "there are none"
        raise DataError(f"no sample can be written as {form}: {reasons}; choose another --format")
    if form in _ONE_KIND:
        _check_one_kind(made, *_ONE_KIND[form])
    data = _write(made, folder, form, name=name, card=card)
    return Exported(data, len(made), dict(left_out), _parts_left_out(kept, form))


def _write(made: list[dict[str, Any]], folder: Path, form: Form, *, name: str, card: str) -> Path:
    """Write the rows and what stands beside them; the file of the rows."""
    if form == "llamafactory" and any("tools" in row for row in made):
        made = [{"tools": "", **row} for row in made]  # it looks the column up in every row
    data = folder / ("data/train.jsonl" if form == "hf" else "train.jsonl")
    write_jsonl(made, data)
    if form == "llamafactory":
        write_json({name: _llamafactory_entry(made)}, folder / "dataset_info.json")
    if form == "axolotl":
        write_text(_axolotl_config(made), folder / "axolotl.yaml")
    if form == "hf":
        write_text(card, folder / "README.md")
    return data


def _parts_left_out(samples: Sequence[Sample], form: Form) -> dict[str, int]:
    """Samples with a part that their row in a form has no field for, by the part."""
    found = Counter[str]()
    for sample in samples:
        is_pair = bool(sample.rejected)
        bare = form == "openai" or (form == "axolotl" and is_pair)
        found["reasoning"] += bare and any(
            m.reasoning for m in (*sample.messages, *sample.rejected)
        )
        found["tools"] += form == "axolotl" and is_pair and bool(sample.tools)
        found["the rejected answer"] += form in ("sft", "prompt-completion") and is_pair
    return {part: n for part, n in found.items() if n}


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


# The row of a sample in each form


def form_row(sample: Sample, form: Form) -> Made:
    """The row of a sample in a form, or why the form cannot hold it."""
    if form in _CONVERSATIONS:
        if sample.text is not None:
            plain = form in ("sft", "axolotl")
            return {"text": sample.text} if plain else "without roles"
        if not _is_answered(sample.messages):
            return "without an answer"
    return _FORMS[form](sample)


def _llamafactory_entry(rows: Sequence[Mapping[str, object]]) -> dict[str, object]:
    """Entry of `dataset_info.json` for a file with these rows."""
    names = ("messages", "chosen", "rejected", "tools")
    return {
        "file_name": "train.jsonl",
        "formatting": "sharegpt",
        **({"ranking": True} if "chosen" in rows[0] else {}),
        "columns": {name: name for name in names if name in rows[0]},
        "tags": _LLAMAFACTORY_TAGS,
    }


def _axolotl_config(rows: Sequence[Mapping[str, object]]) -> str:
    """What an Axolotl configuration needs to read a file with these rows."""
    lines = ["datasets:", "  - path: train.jsonl", "    ds_type: json", "    split: train"]
    if "text" in rows[0]:
        lines += ["    type: completion", "    field: text"]
    elif "chosen" in rows[0]:
        lines = ["rl: dpo", *lines, "    type: chat_template.default"]
        lines += [f"    field_{name}: {name}" for name in ("messages", "chosen", "rejected")]
    else:
        lines += ["    type: chat_template", "    field_messages: messages"]
        lines += ["    field_tools: tools"] if any("tools" in row for row in rows) else []
    head = "# Paste this into an Axolotl configuration and check the path.\n"
    return head + "\n".join(lines) + "\n"


def _hf(sample: Sample) -> Made:
    row = sample_row(sample)
    del row["sample_id"]
    return row


def _sft(sample: Sample) -> Made:
    return {"messages": _trl(sample.messages), **_tools_text(sample)}


def _prompt_completion(sample: Sample) -> Made:
    row = {"prompt": _trl(sample.messages[:-1]), "completion": _trl(sample.messages[-1:])}
    return {**row, **_tools_text(sample)}


def _preference(sample: Sample) -> Made:
    if not sample.rejected:
        return "without a rejected answer"
    asked, chosen, rejected = _parted(sample)
    row = {"prompt": _trl(asked), "chosen": _trl(chosen), "rejected": _trl(rejected)}
    return {**row, **_tools_text(sample)}


def _classification(sample: Sample) -> Made:
    if sample.label is None:
        return "without a label"
    return {"text": sample_text(sample), "label": sample.label}


def _choice(sample: Sample) -> Made:
    return "without two options"


def _openai(sample: Sample) -> Made:
    tools = {"tools": [json.loads(tool) for tool in sample.tools]} if sample.tools else {}
    if (turns := _openai_turns(sample.messages)) is None:
        return "with the answer of a tool that no message calls"
    if not sample.rejected:
        return {"messages": turns, **tools}
    asked, chosen, rejected = _parted(sample)
    if (len(chosen), len(rejected)) != (1, 1):
        return "with answers of several turns"
    return {
        "input": {"messages": _openai_turns(asked), **tools},
        "preferred_output": _openai_turns(chosen),
        "non_preferred_output": _openai_turns(rejected),
    }


def _openai_turns(messages: Sequence[Message]) -> list[dict[str, Any]] | None:
    """OpenAI's own keys; None where a tool answers no call.

    Its fine-tuning refuses reasoning, and wants an id in each call and its answer.
    """
    rows: list[dict[str, Any]] = [dict(message_row(message)) for message in messages]
    n_calls, waiting = 0, list[str]()
    for row in rows:
        row.pop("reasoning_content", None)
        if calls := row.get("tool_calls"):
            row["tool_calls"] = [
                {**call, "id": call.get("id") or f"call_{n}"}
                for n, call in enumerate(calls, start=n_calls)
            ]
            n_calls += len(calls)
            waiting += [call["id"] for call in row["tool_calls"]]
        elif row["role"] == "tool":
            if not waiting:
                return None
            row["tool_call_id"] = row.get("tool_call_id") or waiting[0]
            waiting = [one for one in waiting if one != row["tool_call_id"]]
    return rows


def _axolotl(sample: Sample) -> Made:
    if not sample.rejected:
        tools = {"tools": [json.loads(tool) for tool in sample.tools]} if sample.tools else {}
        return {"messages": [message_row(message) for message in sample.messages], **tools}
    asked, chosen, rejected = _parted(sample)
    if (len(chosen), len(rejected)) != (1, 1):
        return "with answers of several turns"
    if any(message.tool_calls for message in (*asked, *chosen, *rejected)):
        return "with tool calls in a preference pair, which Axolotl drops"
    return {
        "messages": [message_row(message) for message in asked],
        "chosen": message_row(chosen[0]),
        "rejected": message_row(rejected[0]),
    }


def _llamafactory(sample: Sample) -> Made:
    if any(m.tool_calls and m.content.strip() for m in (*sample.messages, *sample.rejected)):
        return _TOOLS_APART
    functions = json.dumps([_function(tool) for tool in sample.tools], ensure_ascii=False)
    tools = {"tools": functions} if sample.tools else {}
    if not sample.rejected:
        turns = [_llamafactory_turn(message) for message in sample.messages]
        return {"messages": turns, **tools} if _alternates(turns, 0) else _NOT_ALTERNATING
    asked, chosen, rejected = _parted(sample)
    if (len(chosen), len(rejected)) != (1, 1):
        return "with answers of several turns"
    turns = [_llamafactory_turn(message) for message in asked]
    if not _alternates(turns, 1):
        return _NOT_ALTERNATING
    answers = (_llamafactory_turn(side[0]) for side in (chosen, rejected))
    return {"messages": turns, **dict(zip(("chosen", "rejected"), answers, strict=True)), **tools}


def _llamafactory_turn(message: Message) -> dict[str, str]:
    """A turn with LLaMA-Factory's tags; reasoning stands in front of the words, as it expects."""
    thought = f"<think>\n{message.reasoning}\n</think>\n\n" if message.reasoning else ""
    if message.tool_calls:
        calls = [{"name": c.name, "arguments": c.value} for c in message.tool_calls]
        held = calls[0] if len(calls) == 1 else calls
        content = thought + json.dumps(held, ensure_ascii=False)
        return {"role": "function_call", "content": content}
    role = "observation" if message.role == "tool" else message.role
    return {"role": role, "content": thought + message.content}


def _alternates(turns: Sequence[Mapping[str, str]], rest: int) -> bool:
    """Whether LLaMA-Factory takes the turns: user and assistant in turn, behind a system turn."""
    said = [turn["role"] for turn in turns]
    said = said[1:] if said[:1] == ["system"] else said
    sides = (("user", "observation"), ("assistant", "function_call"))
    return len(said) % 2 == rest and all(role in sides[i % 2] for i, role in enumerate(said))


def _function(tool: str) -> object:
    held = json.loads(tool)
    return held.get("function", held)


def _trl(messages: Sequence[Message]) -> list[dict[str, Any]]:
    """Turns for chat templates, which render the arguments of a call as an object."""
    rows: list[dict[str, Any]] = [message_row(message) for message in messages]
    for row, message in zip(rows, messages, strict=True):
        for made, call in zip(row.get("tool_calls", ()), message.tool_calls, strict=True):
            made["function"]["arguments"] = call.value
    return rows


def _tools_text(sample: Sample) -> dict[str, str]:
    """TRL reads the tools from JSON text, which no loader can merge with those of other rows."""
    return {"tools": f"[{', '.join(sample.tools)}]"} if sample.tools else {}


def _parted(sample: Sample) -> tuple[tuple[Message, ...], tuple[Message, ...], tuple[Message, ...]]:
    """What both conversations of a pair begin with, and the rest of each, at least one turn."""
    most = min(len(sample.messages), len(sample.rejected)) - 1
    same = (a == b for a, b in zip(sample.messages, sample.rejected, strict=False))
    n = next((i for i, is_same in enumerate(same) if not is_same or i == most), most)
    return sample.messages[:n], sample.messages[n:], sample.rejected[n:]


def _is_answered(messages: Sequence[Message]) -> bool:
    last = messages[-1]
    return last.role == "assistant" and bool(last.content.strip() or last.tool_calls)


_CONVERSATIONS = ("sft", "prompt-completion", "llamafactory", "openai", "axolotl")
_FORMS: dict[str, Callable[[Sample], Made]] = {
    "hf": _hf,
    "sft": _sft,
    "prompt-completion": _prompt_completion,
    "preference": _preference,
    "classification": _classification,
    "choice": _choice,
    "llamafactory": _llamafactory,
    "openai": _openai,
    "axolotl": _axolotl,
}
"""What makes the row of each form."""
