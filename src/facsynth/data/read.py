"""Files and Hub data sets become samples.

A row is recognised by its fields: `_SHAPES` lists what is looked for, first match wins, and
fields that are null count as absent. Nothing is dropped in silence: a row that cannot be
read ends the reading with a `DataError` that names its place. Texts are never changed.
"""

import csv
import gzip
import json
import os
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from io import TextIOWrapper
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from facsynth.errors import DataError
from facsynth.records import Message, Sample

__all__ = ["read_samples"]

Row = Mapping[str, object]
Rows = Iterator[tuple[int, object]]  # number from 1, and what stands there


def read_samples(
    source: str | Path,
    *,
    text_field: str | None = None,
    label_field: str | None = None,
    split: str = "train",
    limit: int | None = None,
) -> list[Sample]:
    """Read a file, a folder of files or a Hub data set.

    Args:
        source: A `.jsonl`, `.ndjson`, `.json`, `.csv`, `.tsv` or `.txt` file (each also with
            `.gz`), a `.parquet` file, a folder of such files (read in the order of their
            names, sub-folders left out), or `hf://owner/name`, `hf://owner/name/config` or
            `owner/name` for a data set on the Hugging Face Hub.
        text_field: Take this one field as plain text, whatever else the row holds.
        label_field: Field of the label; by default `label`, where a row has one.
        split: Split of a Hub data set; files have none.
        limit: Read the first `limit` samples only.

    Returns:
        The samples in the order of the source. A sample is called by the `sample_id` or `id`
        of its row, or else `<file stem>-<number of the row, from 1>`.

    Raises:
        DataError: Something cannot be read, two rows share an id, or there is no sample.
    """
    if limit is not None and limit < 1:
        raise DataError(f"limit is {limit}, but at least one sample has to be read; pass 1 or more")
    samples: list[Sample] = []
    places: dict[str, str] = {}
    for row in islice(_rows(source, split, limit), limit):
        sample = _sample(row, text_field, label_field)
        if sample.sample_id in places:
            raise DataError(
                f"sample id {sample.sample_id!r} stands twice, at {places[sample.sample_id]} and "
                f"at {row.place}; make the ids unique, or remove the id field to number the rows"
            )
        places[sample.sample_id] = row.place
        samples.append(sample)
    if not samples:
        raise DataError(f"no samples in {source}; it holds no rows")
    return samples


# Rows to samples


class _Row(NamedTuple):
    place: str
    """Where a user finds the row, such as `a.jsonl, line 7`."""
    fallback_id: str
    """Id of the sample when the row brings none."""
    value: object


class _Content(NamedTuple):
    messages: tuple[Message, ...] = ()
    text: str | None = None
    rejected: tuple[Message, ...] = ()


def _sample(row: _Row, text_field: str | None, label_field: str | None) -> Sample:
    fields = row.value
    try:
        if not isinstance(fields, Mapping):
            raise DataError(f"{_kind(fields)} where an object with fields was expected")
        if label_field is not None and label_field not in fields:
            raise DataError(f"no label field `{label_field}`; found {_found(fields)}")
        content = _content(fields) if text_field is None else _plain_text(fields, text_field)
        sample_id = _first(fields, "sample_id", "id")
        return Sample(
            sample_id=row.fallback_id if sample_id is None else sample_id,
            label=_first(fields, label_field or "label"),
            **content._asdict(),
        )
    except DataError as error:
        raise DataError(f"{row.place}: {error}") from error


def _content(row: Row) -> _Content:
    for names, build in _SHAPES:
        if all(row.get(name) is not None for name in names):
            return build(row)
    wanted = ", ".join(" + ".join(f"`{name}`" for name in names) for names, _ in _SHAPES)
    raise DataError(f"no known fields; looked for {wanted}; found {_found(row)}; rename them")


def _plain_text(row: Row, name: str) -> _Content:
    if row.get(name) is None:
        raise DataError(f"no field `{name}`; found {_found(row)}; name one of these")
    return _Content(text=_string(row[name], f"`{name}`"))


def _first(row: Row, *names: str) -> str | None:
    """The first of the fields that is not null, as a string."""
    values = (row.get(name) for name in names)
    return next((_string(str(value), names[0]) for value in values if value is not None), None)


def _found(row: Row) -> str:
    names = (f"`{name}`" + (" (empty)" if row[name] is None else "") for name in row)
    return ", ".join(names) or "no field at all"


# The shapes of rows


def _preference(row: Row) -> _Content:
    chosen, rejected = (_exchange(row, "prompt", name) for name in ("chosen", "rejected"))
    return _Content(messages=chosen, rejected=rejected)


def _alpaca(row: Row, answer: str | None = None) -> tuple[Message, ...]:
    """The instruction, with its input below it, and the answer unless it is empty."""
    names = (name for name in ("instruction", "input") if row.get(name))
    asked = Message("user", "\n\n".join(_string(row[name], f"`{name}`") for name in names))
    told = _string(row[answer], f"`{answer}`") if answer else ""
    return (asked, Message("assistant", told)) if told else (asked,)


_SHAPES: tuple[tuple[tuple[str, ...], Callable[[Row], _Content]], ...] = (
    (("messages",), lambda row: _Content(_listed(row["messages"], "`messages`"))),
    (("conversations",), lambda row: _Content(_listed(row["conversations"], "`conversations`"))),
    (("chosen", "rejected"), _preference),
    (("prompt", "completion"), lambda row: _Content(_exchange(row, "prompt", "completion"))),
    (("prompt", "response"), lambda row: _Content(_exchange(row, "prompt", "response"))),
    (("instruction", "output"), lambda row: _Content(_alpaca(row, "output"))),
    (("instruction", "response"), lambda row: _Content(_alpaca(row, "response"))),
    (("question", "answer"), lambda row: _Content(_exchange(row, "question", "answer"))),
    (("prompt",), lambda row: _Content(_exchange(row, "prompt"))),
    (("instruction",), lambda row: _Content(_alpaca(row))),
    (("text",), lambda row: _plain_text(row, "text")),
)
"""Fields that a row must have, and what it is then read as; the first match wins."""


# Messages

_ROLE_KEYS = {"role": "content", "from": "value"}
"""Field with the speaker, and the field beside it with the words."""

_ROLES = {"human": "user", "gpt": "assistant", "Human": "user", "Assistant": "assistant"}
"""Speakers of ShareGPT and HH-RLHF; other names stay as they are."""

_HH_TURN = re.compile(r"\n\n(Human|Assistant): ?")
"""Opens a turn in the strings of HH-RLHF; the text before the first turn is empty."""


def _exchange(row: Row, prompt_name: str, answer_name: str | None = None) -> tuple[Message, ...]:
    """Join a prompt, if the row has one, and an answer, which may repeat the prompt."""
    prompt = row.get(prompt_name)
    answer = row[answer_name] if answer_name else None
    if isinstance(prompt, str) and isinstance(answer, str) and _HH_TURN.match(prompt):
        whole = answer if answer.startswith(prompt) else prompt + answer
        return _turns(whole, f"`{answer_name}`", "assistant")
    asked = () if prompt is None else _turns(prompt, f"`{prompt_name}`", "user")
    told = () if answer is None else _turns(answer, f"`{answer_name}`", "assistant")
    repeats = bool(told) and told[0].role != "assistant" and set(asked) <= set(told)
    return told if repeats else asked + told


def _turns(value: object, what: str, role: str) -> tuple[Message, ...]:
    """Messages of a list, of an HH-RLHF string, or the one message that a string is."""
    if not isinstance(value, str):
        return _listed(value, what)
    pieces = _HH_TURN.split(_string(value, what))
    if len(pieces) == 1 or pieces[0]:
        return (Message(role, value),)
    turns = zip(pieces[1::2], pieces[2::2], strict=True)
    return tuple(Message(_ROLES[speaker], words) for speaker, words in turns)


def _listed(value: object, what: str) -> tuple[Message, ...]:
    if not isinstance(value, list) or not value:
        kind = "an empty conversation" if value == [] else _kind(value)
        raise DataError(f"{what} is {kind} where a list of messages was expected")
    return tuple(_message(turn, f"message {n} of {what}") for n, turn in enumerate(value, 1))


def _message(turn: object, what: str) -> Message:
    if not isinstance(turn, Mapping):
        raise DataError(f"{what} is {_kind(turn)} where role and content were expected")
    for speaker, words in _ROLE_KEYS.items():
        if turn.get(speaker) is not None and words in turn:
            role = _string(turn[speaker], f"`{speaker}` of {what}")
            role = _ROLES.get(role, role) if speaker == "from" else role
            return Message(role, _spoken(turn[words], f"`{words}` of {what}"))
    wanted = " or ".join(f"`{speaker}` + `{words}`" for speaker, words in _ROLE_KEYS.items())
    raise DataError(f"{what} lacks {wanted}; found {_found(turn)}")


def _spoken(content: object, what: str) -> str:
    """The content itself, or the joined texts of a list of OpenAI content parts."""
    if not isinstance(content, list):
        return _string(content, what)
    for part in content:
        if not isinstance(part, Mapping) or part.get("type") != "text":
            raise DataError(f"{what} has a part that is not text; only text can be measured")
    return "".join(_string(part.get("text"), f"a part of {what}") for part in content)


def _string(value: object, what: str) -> str:
    if not isinstance(value, str):
        raise DataError(f"{what} is {_kind(value)} where a string was expected")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{what} holds half of a character ({error.reason}); repair it") from error
    return value


def _kind(value: object) -> str:
    return "null" if value is None else f"a {type(value).__name__}"


# Sources to rows


def _rows(source: str | Path, split: str, limit: int | None) -> Iterator[_Row]:
    if on_hub := _hub_name(str(source)):
        return _hub_rows(on_hub["name"], on_hub["config"], split, limit)
    path = Path(source)
    if os.path.isdir(path):
        return (row for file in _files_of(path) for row in _file_rows(file))
    return _file_rows(path)


def _file_rows(path: Path) -> Iterator[_Row]:
    if not os.path.exists(path):
        raise DataError(f"no file or folder {path}; for a Hub data set write hf://owner/name")
    ending = _ending(path)
    if ending is None:
        raise DataError(f"{path} has no known ending; facsynth reads {', '.join(_FORMATS)}")
    unit, read = _FORMATS[ending]
    stem = path.name[: -len(ending)]
    for number, value in read(path):
        yield _Row(f"{path}, {unit} {number}", f"{stem}-{number}", value)


def _files_of(folder: Path) -> list[Path]:
    files = sorted(file for file in folder.iterdir() if file.is_file() and file.name[0] != ".")
    known = [file for file in files if _ending(file)]
    if not known:
        raise DataError(f"no samples in {folder}: none of its files ends in {', '.join(_FORMATS)}")
    return known


def _ending(path: Path) -> str | None:
    name = path.name.lower()
    return next((ending for ending in _FORMATS if name.endswith(ending)), None)


@contextmanager
def _opened(path: Path, newline: str) -> Iterator[TextIOWrapper]:
    try:
        opener = gzip.open if path.suffix.lower() == ".gz" else open
        with opener(path, "rt", encoding="utf-8-sig", newline=newline) as handle:
            yield handle
    except UnicodeDecodeError as error:
        byte = f"byte {error.object[error.start]:#04x}"
        raise DataError(f"{path} is not UTF-8 ({byte}); convert it with `iconv`") from error
    except (OSError, EOFError, zlib.error) as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def _parsed(path: Path, text: str, line: int, advice: str) -> object:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        place = f"{path}, line {line + error.lineno - 1}, column {error.colno}"
        raise DataError(f"{place}: not JSON ({error.msg}); {advice}") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}, line {line}: JSON beyond reading ({error})") from error


def _json_lines(path: Path) -> Rows:
    with _opened(path, "\n") as handle:
        for number, line in enumerate(handle, 1):
            if text := line.strip():
                yield number, _parsed(path, text, number, "write one object per line")


def _json_list(path: Path) -> Rows:
    with _opened(path, "\n") as handle:
        text = handle.read()
    value = _parsed(path, text, 1, "name it .jsonl if it holds one object per line")
    if isinstance(value, dict):
        lists = {name: held for name, held in value.items() if isinstance(held, list)}
        if len(lists) != 1:
            raise DataError(f"{path} is an object with {len(lists)} lists {[*lists]}; keep one")
        value = next(iter(lists.values()))
    if not isinstance(value, list):
        raise DataError(f"{path} holds {_kind(value)} where a list of objects was expected")
    yield from enumerate(value, 1)


def _table_rows(delimiter: str, path: Path) -> Rows:
    csv.field_size_limit(2**31 - 1)  # by default a cell of 131,072 characters is an error
    with _opened(path, "") as handle:
        table = csv.DictReader(handle, delimiter=delimiter, restkey="", strict=True)
        try:
            for number, row in enumerate(table, 1):
                if isinstance(row.get(""), list):
                    raise DataError(f"{path}, row {number}: more cells than the header has")
                yield number, {name: cell or None for name, cell in row.items()}
        except csv.Error as error:
            place = f"{path}, row that starts at line {table.line_num + 1}"
            raise DataError(f"{place}: {error}; repair its quotes") from error


def _text_lines(path: Path) -> Rows:
    with _opened(path, "\n") as handle:
        for number, line in enumerate(handle, 1):
            text = line.removesuffix("\n").removesuffix("\r")
            if not text:
                advice = "each line is one sample; remove it, or use .jsonl for longer texts"
                raise DataError(f"{path}, line {number} is empty, but {advice}")
            yield number, {"text": text}


def _parquet_rows(path: Path) -> Rows:
    try:
        with pq.ParquetFile(path) as file:
            batches = file.iter_batches(batch_size=1024)
            yield from enumerate((row for batch in batches for row in batch.to_pylist()), 1)
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path} cannot be read as Parquet: {error}") from error


_TEXT_FORMATS: dict[str, tuple[str, Callable[[Path], Rows]]] = {
    ".jsonl": ("line", _json_lines),
    ".ndjson": ("line", _json_lines),
    ".json": ("item", _json_list),
    ".csv": ("row", partial(_table_rows, ",")),
    ".tsv": ("row", partial(_table_rows, "\t")),
    ".txt": ("line", _text_lines),
}
_GZIP_FORMATS = {f"{ending}.gz": way for ending, way in _TEXT_FORMATS.items()}
_FORMATS = _TEXT_FORMATS | _GZIP_FORMATS | {".parquet": ("row", _parquet_rows)}
"""Ending of a file: how its rows are counted, and what reads them."""


_HUB_NAME = re.compile(r"(hf://)?(?P<name>[\w.-]+/[\w.-]+)(?(1)(?:/(?P<config>[\w.-]+))?)")


def _hub_name(source: str) -> re.Match[str] | None:
    """The parts of `hf://owner/name[/config]`, or of `owner/name` where that is no local path."""
    found = _HUB_NAME.fullmatch(source)
    is_local = os.path.exists(source) or source[:1] == "." or _ending(Path(source)) is not None
    return None if found is None or (is_local and not found[1]) else found


def _hub_rows(name: str, config: str | None, split: str, limit: int | None) -> Iterator[_Row]:
    try:
        import datasets
    except ImportError as error:
        raise DataError(f"to read {name} from the Hub, `pip install datasets`") from error
    try:
        rows = datasets.load_dataset(name, config, split=split, streaming=limit is not None)
        for number, row in enumerate(rows, 1):
            yield _Row(f"{name} [{split}], row {number}", f"{name.split('/')[1]}-{number}", row)
    except Exception as error:  # whatever the network and the loader raise, reported once
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(
            f"Hub data set {name} [{split}] cannot be read: {reason}; check network, name, split"
        ) from error
