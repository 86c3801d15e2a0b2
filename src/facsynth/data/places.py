"""Where each sample was read, so that an id that is used twice is told with both places."""

import sqlite3
import weakref

from facsynth.errors import SpaceError

__all__ = ["Places"]

_CACHE_KB = 16_384


class Places:
    """The place of every id, in a temporary database: memory does not grow with the samples.

    Small ones never reach the disk; the file is deleted with the object.
    """

    def __init__(self) -> None:
        """Make an empty database, in the folder for temporary files."""
        self._files: dict[str, int] = {}
        self._held = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        weakref.finalize(self, self._held.close)
        self._held.executescript(
            "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;"
            f"PRAGMA cache_size = -{_CACHE_KB};"
            "CREATE TABLE place (id BLOB PRIMARY KEY, file INTEGER, at BLOB) WITHOUT ROWID; BEGIN"
        )

    def find(self, name: str) -> tuple[str, str] | None:
        """File and place of an id that was noted."""
        found = self._ask("SELECT file, at FROM place WHERE id = ?", _bytes(name)).fetchone()
        return None if found is None else (list(self._files)[found[0]], _text(found[1]))

    def note(self, name: str, file: str, at: str) -> bool:
        """Note where an id was read; False, and nothing is changed, where it was noted before."""
        number = self._files.setdefault(file, len(self._files))
        done = self._ask(
            "INSERT OR IGNORE INTO place VALUES (?, ?, ?)", _bytes(name), number, _bytes(at)
        )
        return done.rowcount == 1

    def _ask(self, command: str, *values: bytes | int) -> sqlite3.Cursor:
        try:
            return self._held.execute(command, values)
        except sqlite3.OperationalError as error:
            raise SpaceError(
                f"ids cannot be kept in the folder for temporary files: {error}; free space there "
                "or name another with TMPDIR"
            ) from error


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")  # what JSON escapes may hold


def _text(content: bytes) -> str:
    return content.decode("utf-8", "surrogatepass")
