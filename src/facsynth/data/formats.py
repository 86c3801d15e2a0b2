"""The rows of one file: JSON in its orients, CSV, TSV, text, Parquet and Arrow, also compressed.

Nothing is unpickled and no code is run. Lines and documents are read up to `MOST_BYTES`, so that a
small compressed file cannot fill the memory.
"""

import bz2
import codecs
import csv
import gzip
import io
import json
import lzma
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, cast

import pyarrow as pa

from facsynth.data.arrow import arrow_rows, parquet_rows
from facsynth.data.roles import is_turn, kind_of
from facsynth.data.rows import BadRow, FileRow, Rows, not_utf8, refuse_twice
from facsynth.errors import DataError

__all__ = ["FORMATS", "BadRow", "FileRow", "ending_of", "file_rows", "json_lines"]

MOST_BYTES = 2**30
"""Longest JSON document, after decompression."""

MOST_LINE = 2**27
"""Longest line; a longer one is a `BadRow`, and the lines behind it are read."""

MOST_PACKING = 300
"""Bytes that a byte of a compressed file may stand for, where they are many; text has 3 to 30."""

_SNIFFED_LINES = 50
_SEPARATORS = ",;\t|"


def file_rows(path: Path, separator: str | None = None) -> Rows:
    """The rows of a file; what cannot be read in one row only is a `BadRow`.

    Raises:
        DataError: The file cannot be read; the message names it, and the line where there is one.
    """
    if path.suffix.lower() in (".pkl", ".pickle", ".pt", ".pth"):
        raise DataError(f"{path} is a pickle, which could run code; write it as JSONL or Parquet")
    ending = ending_of(path)
    if ending is None:
        raise DataError(f"{path} has no known ending; facsynth reads {', '.join(FORMATS)}")
    if path.exists() and not path.is_file():
        raise DataError(
            f"{path} is no file but a pipe, a device or a folder; write the data to a file first"
        )
    kind = f".{ending.split('.')[1]}"
    if kind == ".tsv":
        return _table_rows(path, separator or "\t", is_quoted=separator is not None)
    if kind == ".csv":
        return _table_rows(path, separator or _sniff(path), is_quoted=True)
    return _READERS[kind](path)


def ending_of(path: Path) -> str | None:
    """The ending that says how a file is read, such as `.jsonl.gz`; None for an unknown one."""
    name = path.name.lower()
    return next((ending for ending in FORMATS if name.endswith(ending)), None)


def json_lines(path: Path, advice: str = "write one object per line") -> Rows:
    """Each line of a file as JSON, whatever its ending; a line that is none is a `BadRow`."""
    for number, line in _lines(path):
        if isinstance(line, BadRow):
            yield FileRow(number, number, line)
        elif text := line.strip():
            yield FileRow(number, number, _parsed_line(text, advice))


# Bytes and lines


def _zstandard(path: Path) -> Any:
    return pa.input_stream(str(path), compression="zstd")


_OPENERS: dict[str, Callable[[Path], Any]] = {
    ".gz": gzip.open,
    ".bz2": bz2.open,
    ".xz": lzma.open,
    ".zst": _zstandard,
}


@contextmanager
def _opened(path: Path) -> Iterator[io.BufferedReader]:
    """The decompressed bytes of a file."""
    try:
        opener = _OPENERS.get(path.suffix.lower(), partial(open, mode="rb"))
        with opener(path) as raw, io.BufferedReader(raw) as stream:
            yield stream
    except (
        OSError,
        EOFError,
        UnicodeError,
        zlib.error,
        lzma.LZMAError,
        pa.ArrowException,
    ) as error:
        raise DataError(f"{path} cannot be read: {error}") from error


def _lines(path: Path) -> Iterator[tuple[int, str | BadRow]]:
    """Lines with their ends, from 1; byte order marks are left out."""
    with _opened(path) as stream:
        encoding = _encoding(stream.peek(4))
        if encoding != "utf-8":
            with io.TextIOWrapper(stream, encoding, newline="\n") as text:
                yield from enumerate(text, 1)
            return
        number, n_read, most = 0, 0, _most_bytes(path)
        while line := stream.readline(MOST_LINE + 1):
            number += 1
            n_read += len(line)
            if n_read > most:
                raise DataError(_bomb(path))
            if len(line) > MOST_LINE:
                while not line.endswith(b"\n") and (line := stream.readline(MOST_LINE)):
                    n_read += len(line)
                    if n_read > most:
                        raise DataError(_bomb(path))
                yield number, BadRow(f"longer than {MOST_LINE:,} bytes; cut or split it")
                continue
            if number == 1:
                line = line.removeprefix(codecs.BOM_UTF8)
            try:
                yield number, line.decode()
            except UnicodeDecodeError as error:
                yield number, BadRow(not_utf8(error))


def _most_bytes(path: Path) -> int:
    """Bytes that a file may have after decompression: many, or many times its size."""
    return max(MOST_LINE, MOST_PACKING * path.stat().st_size)


def _bomb(path: Path) -> str:
    return (
        f"{path} unpacks to more than {MOST_PACKING} times its size, as no text does; unpack it "
        "where you trust it"
    )


def _encoding(head: bytes) -> str:
    is_utf16 = head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return "utf-16" if is_utf16 else "utf-8"


def _good(path: Path, lines: Iterable[tuple[int, str | BadRow]]) -> Iterator[str]:
    for number, line in lines:
        if isinstance(line, BadRow):
            raise DataError(f"{path}, line {number}: {line.reason}")
        yield line


# JSON


def _parsed_line(text: str, advice: str) -> object:
    try:
        return json.loads(text, object_pairs_hook=_object)
    except json.JSONDecodeError as error:
        return BadRow(f"not JSON ({error.msg}, column {error.colno}); {advice}")
    except (ValueError, RecursionError) as error:
        return BadRow(f"JSON that cannot be parsed ({error})")


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """An object whose keys differ; of equal ones Python would keep the last in silence."""
    made = dict(pairs)
    if len(made) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"an object has the key `{twice[:60]}` twice")
    return made


def _json_lines(path: Path) -> Rows:
    """Objects in lines, or the list that a file with this name sometimes holds."""
    rows = json_lines(path)
    with _opened(path) as stream:
        is_list = stream.peek(64).removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"[")
    return _json_document(path) if is_list else rows


def _json_document(path: Path) -> Rows:
    with _opened(path) as stream:
        content = stream.read(min(MOST_BYTES, _most_bytes(path)) + 1)
    if len(content) > _most_bytes(path):
        raise DataError(_bomb(path))
    if len(content) > MOST_BYTES:
        raise DataError(f"{path} is longer than {MOST_BYTES:,} bytes; write it as .jsonl")
    try:
        encoding = _encoding(content)
        text = content.decode("utf-8-sig" if encoding == "utf-8" else encoding)
        value = json.loads(text, object_pairs_hook=_object)
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}, line {line}: {not_utf8(error)}") from error
    except json.JSONDecodeError as error:
        if error.msg == "Extra data":  # objects in lines, under the name .json
            yield from json_lines(path)
            return
        what = f"{error.msg}, column {error.colno}"
        raise DataError(f"{path}, line {error.lineno}: not JSON ({what}); repair it") from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}, line 1: JSON that cannot be parsed ({error})") from error
    for number, row in enumerate(_oriented(value, path), 1):
        yield FileRow(number, number, row)


def _oriented(value: object, path: Path) -> Iterable[object]:
    """The rows of a JSON document, in the orients of pandas or as a list within an object."""
    if isinstance(value, list):
        return value
    if not isinstance(value, dict):
        raise DataError(f"{path} holds {kind_of(value)} where a list of objects was expected")
    names, data = value.get("columns"), value.get("data")
    if isinstance(names, list) and isinstance(data, list):  # split
        return [dict(zip(names, cells, strict=True)) for cells in data]
    held = list(value.values())
    if held and all(isinstance(inner, dict) for inner in held):
        return _labelled(value)
    lists = {name: inner for name, inner in value.items() if isinstance(inner, list)}
    if len(lists) == len(value) > 1 and len({len(inner) for inner in held}) == 1:  # columns
        return [dict(zip(lists, cells, strict=True)) for cells in zip(*held, strict=True)]
    rows = [inner for inner in lists.values() if inner and isinstance(inner[0], dict)]
    is_row = any(is_turn(inner[0]) for inner in rows) or not rows
    if is_row or len(rows) > 1:
        return [value]
    return cast(Iterable[object], rows[0])


def _labelled(value: Mapping[str, Any]) -> Iterable[object]:
    """Rows by their label (orient `index`), or columns of such (orient `columns`)."""
    inner = next(iter(value.values()))
    labels = list(inner)
    is_columns = bool(labels) and all(label.isdecimal() for label in labels)
    if not is_columns or all(label.isdecimal() for label in value):
        return value.values()
    return [{name: cells.get(label) for name, cells in value.items()} for label in labels]


# Tables


def _table_rows(path: Path, separator: str, *, is_quoted: bool) -> Rows:
    csv.field_size_limit(2**31 - 1)  # by default a cell of 131,072 characters is an error
    lines = _good(path, _lines(path))
    if is_quoted:
        reader = csv.reader(lines, delimiter=separator, strict=True)
    else:
        bare = (line.rstrip("\r\n") for line in lines)
        reader = csv.reader(bare, delimiter=separator, quoting=csv.QUOTE_NONE, strict=True)
    names: list[str] | None = None
    number, line = 0, 1
    try:
        for cells in reader:
            start, line = line, reader.line_num + 1
            if names is None:
                names = _header(path, cells)
            elif cells:
                number += 1
                yield FileRow(number, start, _table_row(names, cells))
    except csv.Error as error:
        raise DataError(
            f"{path}, row that starts at line {line}: {error}; repair its quotes"
        ) from error


def _header(path: Path, cells: list[str]) -> list[str]:
    refuse_twice(cells, f"{path}, line 1: the header")
    return cells


def _table_row(names: list[str], cells: list[str]) -> object:
    if len(cells) > len(names):
        return BadRow(
            f"{len(cells)} cells, and the header has {len(names)}; repair the quotes, or name the "
            "separator"
        )
    return {name: cell or None for name, cell in zip(names, cells, strict=False)}


def _sniff(path: Path) -> str:
    """The separator that cuts the first rows into most cells, as many in each as in the header."""
    head = [line for _, line in islice(_lines(path), _SNIFFED_LINES) if isinstance(line, str)]
    best, most = ",", 1
    for mark in _SEPARATORS:
        try:
            widths = [len(cells) for cells in csv.reader(head, delimiter=mark) if cells]
        except csv.Error:
            continue
        # The last row may go on behind the lines that were looked at.
        even = widths[:-1] if len(head) == _SNIFFED_LINES else widths
        if widths and len(set(even)) == 1 and widths[0] > most:
            best, most = mark, widths[0]
    return best


def _text_lines(path: Path) -> Rows:
    for number, line in _lines(path):
        if isinstance(line, BadRow):
            yield FileRow(number, number, line)
        elif text := line.removesuffix("\n").removesuffix("\r"):
            yield FileRow(number, number, {"text": text})
        else:
            advice = "each line is one sample; remove it, or use .jsonl for longer texts"
            yield FileRow(number, number, BadRow(f"empty, but {advice}"))


_READERS: dict[str, Callable[[Path], Rows]] = {
    ".jsonl": _json_lines,
    ".ndjson": _json_lines,
    ".json": _json_document,
    ".txt": _text_lines,
    ".parquet": parquet_rows,
    ".arrow": arrow_rows,
    ".feather": arrow_rows,
}
_COMPRESSED = (".jsonl", ".ndjson", ".json", ".csv", ".tsv", ".txt")
FORMATS = (
    *(f"{ending}{packed}" for ending in _COMPRESSED for packed in ("", *_OPENERS)),
    *(".parquet", ".arrow", ".feather"),
)
"""Endings of the files that are read."""
