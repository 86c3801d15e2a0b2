"""How long work tells how far it is; the command line draws it, the library only reports.

A stage opens a task, advances it, and may add a few words about its state.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, runtime_checkable

__all__ = ["SILENT", "Progress", "Silent", "Task"]


@runtime_checkable
class Task(Protocol):
    """One piece of work with a known size."""

    def advance(self, n: int | float = 1, note: str = "") -> None:
        """`n` more units are done; `note` replaces the words beside the bar."""


@runtime_checkable
class Progress(Protocol):
    """Where tasks are shown."""

    def task(self, name: str, total: int | float, unit: str) -> AbstractContextManager[Task]:
        """Open a task of `total` units."""

    def say(self, line: str) -> None:
        """Print one line for the user."""


class _SilentTask:
    def advance(self, n: int | float = 1, note: str = "") -> None:
        return None


class Silent:
    """Shows nothing: for libraries and tests."""

    @contextmanager
    def task(self, name: str, total: int | float, unit: str) -> Iterator[Task]:
        """Open a task that nobody watches."""
        yield _SilentTask()

    def say(self, line: str) -> None:
        """Swallow the line."""
        return


SILENT = Silent()
