"""What people see of a result: small tables, made once for the terminal and for notebooks."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, Protocol, runtime_checkable

__all__ = ["LONGEST", "Result", "TextTable", "as_html", "cell_text", "percent", "visible_text"]


_ACTING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""Controls other than tabs and line ends, and marks that turn the direction of writing."""

LONGEST = 2000
"""Characters of a cell or of an error line."""


@dataclass(frozen=True)
class TextTable:
    """A small table for people; the first column names its row."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    """Cells are strings, numbers or None; see `cell_text`."""

    note: str = ""
    """Stands below the table."""


@runtime_checkable
class Result(Protocol):
    """What a stage returns: one row for machines, some tables for people."""

    def row(self) -> dict[str, Any]:
        """Plain values under stable keys; what is absent is None."""

    def tables(self) -> Sequence[TextTable]:
        """The same for people, the finding first."""


def cell_text(value: object) -> str:
    """A cell in words: counts with separators, three decimals, a dash for what is absent."""
    if isinstance(value, float):
        return f"{value:.3f}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, Mapping):
        return visible_text(json.dumps(value), most=LONGEST)
    return "–" if value is None else visible_text(str(value), most=LONGEST)


def visible_text(text: str, *, most: int | None = None) -> str:
    r"""A text of data as it can stand on a terminal: what would act there is written out.

    Behind `most` characters the text is cut off.

    >>> visible_text("red: \x1b[31m, back: \u202e")
    'red: \\x1b[31m, back: \\u202e'
    """
    if most is not None and len(text) > most:
        text = f"{text[:most]}… ({len(text) - most:,} more)"
    return _ACTING.sub(lambda found: repr(found.group())[1:-1], text)


def percent(share: float) -> str:
    """A share in percent, with a digit more where it is small."""
    return f"{share:.0%}" if share >= 0.1 or share == 0 else f"{share:.1%}"


def as_html(result: Result) -> str:
    """The tables of a result as HTML; the `_repr_html_` of every result."""
    return "\n".join(_table_html(table) for table in result.tables())


def _table_html(table: TextTable) -> str:
    head = "".join(f"<th>{escape(name)}</th>" for name in table.columns)
    body = "".join(f"<tr>{_cells_html(row)}</tr>" for row in table.rows)
    note = f"<p>{escape(table.note)}</p>" if table.note else ""
    caption = f"<caption>{escape(table.title)}</caption>"
    return f"<table>{caption}<thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{note}"


def _cells_html(row: Sequence[object]) -> str:
    return "".join(f"<td>{escape(cell_text(value))}</td>" for value in row)
