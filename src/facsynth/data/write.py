"""Rows, JSON and text onto the disk: whole, or not at all."""

import errno
import gzip
import json
import os
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from pathlib import Path

from facsynth.errors import DataError, SpaceError
from facsynth.records import Message, Sample, ToolCall

__all__ = [
    "atomic_path",
    "message_row",
    "sample_row",
    "tool_call_row",
    "write_json",
    "write_jsonl",
    "write_text",
]

_CANNOT_WRITE = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` that becomes `path` when the block succeeds.

    The temporary name is hidden and ends like `path`. Missing parent folders are made. What
    the block wrote there, one file or a folder, reaches the disk before it is renamed, so
    that a reader, or a run started again after a kill, sees the old content or the new one.
    When the block fails, the temporary is deleted and `path` stays as it was.

    Args:
        path: The final file, which is replaced where it exists; or the final folder, which
            must then be absent or empty.

    Raises:
        SpaceError: The disk is full or read-only, or the folder is closed to this user.
    """
    path = Path(path)
    temporary = path.with_name(f".tmp-{os.getpid()}-{secrets.token_hex(4)}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        for written in (*temporary.rglob("*"), temporary):
            _flush(written)
        os.replace(temporary, path)
        _flush(path.parent)
    except OSError as error:
        if error.errno not in _CANNOT_WRITE:
            raise
        raise SpaceError(
            f"{path} cannot be written: {error.strerror}; free space or choose another place"
        ) from error
    finally:
        _delete(temporary)


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


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _delete(path: Path) -> None:
    """Remove what a failed block left behind; the error of the block matters more."""
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()
