"""Progress bars on standard error, tables and JSON on standard output."""

import json
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import click
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.progress import Progress as Bars
from rich.table import Table

from facsynth.progress import Task
from facsynth.show import Result, TextTable, cell_text, visible_text

__all__ = ["RichProgress", "print_json", "print_table", "print_tables", "show"]


_SAID_FROM_S = 10
"""Shorter times that are left are not worth a word."""

_QUIET_S = 60
"""Longest time without a line where there is no terminal."""

_NUMBER = re.compile(r"[-+±–]?[\d.,]*(?: ?%)?(?: .*)?$")
"""A cell that begins with a number, such as a count, a share, or a mean with its range."""

Row = dict[str, Any]
"""What a command has found, as plain values under stable keys."""


class _BarTask:
    def __init__(self, bars: Bars, unit: str, total: int | float) -> None:
        self._bars = bars
        self._task = bars.add_task(unit, total=total, note="")

    def advance(self, n: int | float = 1, note: str = "") -> None:
        if note:
            self._bars.update(self._task, advance=n, note=note)
        else:
            self._bars.update(self._task, advance=n)


class _LineTask:
    """Without a terminal: a line at every tenth, and after a minute without one."""

    def __init__(self, console: Console, name: str, total: int | float, unit: str) -> None:
        self._console, self._name, self._total, self._unit = console, name, total, unit
        self._done = 0.0
        self._said = 0
        self._start = self._when = time.monotonic()

    def advance(self, n: int | float = 1, note: str = "") -> None:
        self._done += n
        tenth = int(10 * self._done / self._total) if self._total else 10
        now = time.monotonic()
        if tenth > self._said or now - self._when > _QUIET_S:
            self._said, self._when = tenth, now
            tail = f" ({visible_text(note)})" if note else ""
            left_s = (now - self._start) * (self._total - self._done) / max(self._done, 1e-9)
            is_said = self._done and left_s >= _SAID_FROM_S
            left = f", {timedelta(seconds=round(left_s))} left" if is_said else ""
            self._console.print(
                f"  {self._name}: {self._done:,.0f} of {self._total:,.0f} {self._unit}{left}{tail}",
                highlight=False,
                markup=False,
                soft_wrap=True,
            )


class RichProgress:
    """Bars with rate and time left on a terminal, plain lines elsewhere."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)

    @contextmanager
    def task(self, name: str, total: int | float, unit: str) -> Iterator[Task]:
        """Draw one bar while the block runs."""
        if not self._console.is_terminal:
            yield _LineTask(self._console, visible_text(name), total, unit)
            return
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[note]}", markup=False),
        )
        with _RatedBars(*columns, console=self._console, transient=False) as bars:
            bars.unit = unit
            yield _BarTask(bars, visible_text(name), total)

    def say(self, line: str) -> None:
        """Print one line."""
        self._console.print(visible_text(line), highlight=False, markup=False, soft_wrap=True)


class _RatedBars(Bars):
    """Bars that know their speed in units per second."""

    unit = ""

    def get_renderables(self) -> Iterator[object]:  # type: ignore[override]
        for task in self.tasks:
            speed = f"{task.speed:,.0f} {self.unit}/s" if task.speed else self.unit
            task.fields["rate"] = speed
        yield from super().get_renderables()


def print_json(value: object) -> None:
    """Print JSON with stable keys on standard output."""
    text = json.dumps(value, indent=2, ensure_ascii=False)
    # JSON escapes most controls; these it leaves as they are, and some terminals obey them.
    click.echo(re.sub("[\x7f-\x9f]", lambda found: f"\\u{ord(found[0]):04x}", text))


def print_tables(tables: Iterable[TextTable]) -> None:
    """Print the tables of a result on standard output."""
    for table in tables:
        print_table(table.title, table.columns, table.rows, table.note)


def show(
    result: Result, *, as_json: bool, notes: Iterable[str] = (), read: Row | None = None
) -> None:
    """Print a result: JSON or tables on standard output, notes on standard error."""
    if as_json:
        print_json(result.row() if read is None else {**result.row(), "read": read})
    else:
        print_tables(result.tables())
    for note in notes:
        click.echo(f"Note: {visible_text(note)}", err=True)


def print_table(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[object]], note: str = ""
) -> None:
    """Print a small table on standard output; columns of numbers are aligned to the right."""
    console, table = Console(), Table()
    cells = [[cell_text(value) for value in row] for row in rows]
    for index, column in enumerate(columns):
        is_number = index > 0 and all(_NUMBER.match(row[index]) for row in cells)
        table.add_column(column, justify="right" if is_number else "left")
    for row in cells:
        table.add_row(*row)
    # Title and note stand outside, because Rich would wrap them to the width of a narrow table.
    console.print(visible_text(title), style="italic", highlight=False, markup=False)
    console.print(table, markup=False)
    if note:
        console.print(visible_text(note), highlight=False, markup=False)
