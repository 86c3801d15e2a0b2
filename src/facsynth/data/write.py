"""Rows, JSON and text onto the disk: whole, or not at all."""

import gzip
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from io import TextIOWrapper
from pathlib import Path

from facsynth.errors import DataError
from facsynth.folders import atomic_path
from facsynth.records import Message, Sample, ToolCall

__all__ = [
    "message_row",
    "sample_row",
    "tool_call_row",
    "write_json",
    "write_jsonl",
    "write_text",
]


def write_jsonl(rows: Iterable[Mapping[str, object]], path: str | Path) -> int:
    """Write one JSON object per line, and through gzip when the name ends in `.gz`.

    Args:
        rows: Consumed one by one, so that a generator never has to fit into memory.
        path: Replaced only after the last row; see `atomic_path`.

    Returns:
        The number of rows.

    Raises:
        DataError: A row holds NaN, an infinity or an unpaired surrogate.
        SpaceError: The file cannot be written.
    """
    n_rows = 0
    with atomic_path(path) as temporary, _opened(temporary) as stream:
        for row in rows:
            n_rows += 1
            stream.write(_json(row, f"row {n_rows} for {path}", indent=None) + "\n")
    return n_rows


def write_json(value: object, path: str | Path) -> None:
    """Write one JSON value, indented, with the errors of `write_jsonl`."""
    write_text(_json(value, f"the value for {path}", indent=2) + "\n", path)


def write_text(text: str, path: str | Path) -> None:
    """Write a text as UTF-8 with its line ends as they are."""
    with atomic_path(path) as temporary, _opened(temporary) as stream:
        stream.write(text)


def sample_row(sample: Sample) -> dict[str, object]:
    """The JSON row of a sample in TRL's field names; `read_samples` gives the sample back.

    >>> sample_row(Sample("a-1", messages=(Message("user", "Hi"),), label="greeting"))
    {'sample_id': 'a-1', 'messages': [{'role': 'user', 'content': 'Hi'}], 'label': 'greeting'}

    Raises:
        DataError: The sample holds neither text nor messages.
    """
    row: dict[str, object] = {"sample_id": sample.sample_id}
    if sample.text is not None:
        row["text"] = sample.text
    elif not sample.messages:
        raise DataError(f"sample {sample.sample_id!r} has neither text nor messages; leave it out")
    elif sample.rejected:
        row["chosen"] = _turns(sample.messages)
        row["rejected"] = _turns(sample.rejected)
    else:
        row["messages"] = _turns(sample.messages)
    if sample.tools:
        row["tools"] = f"[{', '.join(sample.tools)}]"
    if sample.label is not None:
        row["label"] = sample.label
    return row


def message_row(message: Message) -> dict[str, object]:
    """A message as OpenAI and TRL write it; what it does not have is left out."""
    row: dict[str, object] = {"role": message.role, "content": message.content}
    if message.reasoning is not None:
        row["reasoning_content"] = message.reasoning
    if message.tool_calls:
        row["tool_calls"] = [tool_call_row(call) for call in message.tool_calls]
    if message.tool_call_id is not None:
        row["tool_call_id"] = message.tool_call_id
    if message.name is not None:
        row["name"] = message.name
    return row


def tool_call_row(call: ToolCall) -> dict[str, object]:
    """A tool call as OpenAI writes it, with its arguments as JSON text."""
    row: dict[str, object] = {} if call.call_id is None else {"id": call.call_id}
    function = {"name": call.name, "arguments": call.arguments}
    return {**row, "type": "function", "function": function}


def _turns(messages: tuple[Message, ...]) -> list[dict[str, object]]:
    return [message_row(message) for message in messages]


def _json(value: object, what: str, *, indent: int | None) -> str:
    try:
        text = json.dumps(value, ensure_ascii=False, allow_nan=False, indent=indent)
        text.encode()
    except ValueError as error:
        raise DataError(f"{what} cannot be written as JSON: {error}; repair the value") from error
    return text


@contextmanager
def _opened(path: Path) -> Iterator[TextIOWrapper]:
    """Open for writing; compressed bytes depend on the content alone, not on name or time."""
    if path.suffix != ".gz":
        with path.open("w", encoding="utf-8", newline="") as stream:
            yield stream
        return
    with (
        path.open("wb") as raw,
        gzip.GzipFile(filename="", mode="wb", fileobj=raw, mtime=0) as packed,
        TextIOWrapper(packed, encoding="utf-8", newline="") as stream,
    ):
        yield stream
