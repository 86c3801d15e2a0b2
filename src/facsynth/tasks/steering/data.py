"""Questions with lettered options, one of which shows a behaviour (CAA, Anthropic's evals).

A row has `question` with the options in it, each on a line that starts with `(A)`, and the answers
`answer_matching_behavior` and `answer_not_matching_behavior`; or `prompt`, `correct` and
`incorrect`. The matching answer is the one that shows the behaviour in the title, and the vector
points to it. Some data sets have it the other way round: in CAA's survival instinct the matching
answer accepts to be switched off. They are read with `matching="other"`.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from facsynth.data.read import open_samples
from facsynth.data.report import ReadReport
from facsynth.data.settings import ReadSettings
from facsynth.data.shapes import PlacedRow, Reading
from facsynth.data.unread import unread_fields
from facsynth.errors import DataError
from facsynth.records import Message, Sample

__all__ = ["Item", "Matching", "answer_texts", "parse_item", "read_items", "swapped"]

Matching = Literal["given", "other"]
"""Which answer of a row shows the behaviour."""

_OPTION = re.compile(r"^[ \t]*\(([A-Z])\)[ \t]*", re.MULTILINE)
_ANSWER = re.compile(r"\(?([A-Z])\)?")
_FIELDS = (
    ("question", "answer_matching_behavior", "answer_not_matching_behavior"),
    ("prompt", "correct", "incorrect"),
)


@dataclass(frozen=True)
class Item:
    """A question whose two answers differ in a behaviour."""

    item_id: str
    question: str
    """As it is asked, options included."""

    matching: str
    """Letter of the answer that shows the behaviour."""

    other: str
    """Letter of the answer that does not."""


def read_items(
    source: str,
    *,
    matching: Matching = "given",
    reading: ReadSettings | None = None,
    rejected: Path | None = None,
    on_read: Callable[[ReadReport], None] | None = None,
) -> list[Item]:
    """Read questions with options.

    Args:
        source: What `read_samples` takes.
        matching: Which of the two answers shows the behaviour: the one that the data name as
            matching, or the other one.
        reading: How the rows are read.
        rejected: Where rows that are skipped are written.
        on_read: Gets what was read, and what was not.

    Raises:
        DataError: A row lacks the fields or the options that its answers name, or there is none.
    """
    stream = open_samples(source, reading, rejected=rejected, reader=_read_item)
    found = [_item(row)[0] for row, _ in stream.rows()]
    if on_read:
        on_read(stream.report)
    if matching == "given":
        return found
    return [replace(item, matching=item.other, other=item.matching) for item in found]


def answer_texts(item: Item) -> tuple[str, str]:
    """The texts of the matching and of the other answer."""
    spans = _spans(item)
    matching, other = (item.question[slice(*spans[name])] for name in (item.matching, item.other))
    return matching, other


def parse_item(item_id: str, question: str, matching: str, other: str) -> Item:
    """Check that a question has the options that its answers name.

    Raises:
        DataError: An option is missing or comes twice, or both answers are the same.
    """
    letters = [_letter(item_id, answer) for answer in (matching, other)]
    if letters[0] == letters[1]:
        raise DataError(f"item {item_id!r}: both answers are ({letters[0]}); they must differ")
    names = [match[1] for match in _OPTION.finditer(question)]
    for letter in letters:
        if names.count(letter) != 1:
            shown = ", ".join(f"({name})" for name in names) or "none"
            raise DataError(
                f"item {item_id!r} needs one line that starts with the option ({letter}); its "
                f"options are {shown}"
            )
    item = Item(item_id, question, *letters)
    texts = [question[slice(*_spans(item)[letter])] for letter in letters]
    if texts[0] == texts[1]:
        raise DataError(f"item {item_id!r}: both answers have the same text; remove it")
    return item


def swapped(item: Item) -> Item:
    r"""The same question with the texts of the two answers exchanged, so that letters trade roles.

    >>> item = parse_item("a", "Tea?\n (A) Yes\n (B) No", "(A)", "(B)")
    >>> swapped(item)
    Item(item_id='a', question='Tea?\n (A) No\n (B) Yes', matching='B', other='A')
    """
    spans = _spans(item)
    (a, b), (c, d) = sorted((spans[item.matching], spans[item.other]))
    q = item.question
    question = q[:a] + q[c:d] + q[b:c] + q[a:b] + q[d:]
    return Item(item.item_id, question, item.other, item.matching)


def _spans(item: Item) -> dict[str, tuple[int, int]]:
    """Start and end of each option's text, without white space around it."""
    marks = list(_OPTION.finditer(item.question))
    ends = [mark.start() for mark in marks[1:]] + [len(item.question)]
    return {
        mark[1]: (mark.end(), mark.end() + len(item.question[mark.end() : end].rstrip()))
        for mark, end in zip(marks, ends, strict=True)
    }


def _read_item(row: PlacedRow, _: ReadSettings) -> Reading:
    item, names = _item(row)
    assert isinstance(row.value, dict)
    sample = Sample(row.fallback_id, (Message("user", item.question),))
    unread = unread_fields(row.value, names)
    return Reading(sample, "question + two answers", names, unread)


def _item(row: PlacedRow) -> tuple[Item, tuple[str, ...]]:
    """The question of a row, and the fields that it stands in."""
    fields: Any = row.value if isinstance(row.value, dict) else {}
    for names in _FIELDS:
        if all(isinstance(fields.get(name), str) for name in names):
            item_id = str(fields.get("id", row.fallback_id))
            return parse_item(item_id, *(fields[name] for name in names)), names
    wanted = " or ".join(", ".join(f"`{name}`" for name in names) for names in _FIELDS)
    raise DataError(f"{row.place}: not a question with options; it needs the strings {wanted}")


def _letter(item_id: str, answer: str) -> str:
    found = _ANSWER.fullmatch(answer.strip())
    if not found:
        raise DataError(f"item {item_id!r}: the answer {answer[:20]!r} is not a letter such as (A)")
    return found[1]
