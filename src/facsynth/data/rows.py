"""Rows of files as they stand there, and what can be wrong with any of them."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from facsynth.errors import DataError

__all__ = ["BadRow", "FileRow", "Rows", "not_utf8", "refuse_twice"]


class BadRow(NamedTuple):
    """Stands where a row cannot be read, so that the rows behind it can."""

    reason: str


class FileRow(NamedTuple):
    """A row of a file."""

    number: int
    """From 1."""
    line: int
    """Line where it starts; the number in formats without lines."""
    value: object


Rows = Iterator[FileRow]


def not_utf8(error: UnicodeDecodeError) -> str:
    """Why bytes are no text, and what to do."""
    return f"not UTF-8 (byte {error.object[error.start]:#04x}); convert the file with `iconv`"


def refuse_twice(names: Sequence[str], what: str) -> None:
    """Refuse columns of one name: which of them holds the text would be a matter of luck."""
    plain = [name.strip().lower() for name in names]
    twice = next((name for name in plain if name and plain.count(name) > 1), None)
    if twice is not None:
        raise DataError(f"{what} has `{twice[:60]}` twice; rename one of them")
