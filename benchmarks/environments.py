"""Separate environments for contenders that facsynth does not depend on.

`pins/NAME.txt` pins every package of an environment, so pip has nothing to resolve. Without pins,
pip spent 20 minutes trying versions of the dependencies of SAELens.
"""

import fcntl
import hashlib
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from facsynth.folders import cache_folder

__all__ = ["CannotInstall", "Environment", "pinned"]

_PINS = Path(__file__).resolve().parent / "pins"
_CPU_INDEX = "https://download.pytorch.org/whl/cpu"
_TIMEOUT_S = 600
_LAST_LINES = 12


class CannotInstall(Exception):  # noqa: N818
    """Says in one line why pip failed; pip's last lines are printed to stderr."""


@dataclass(frozen=True)
class Environment:
    """A virtual environment under the cache folder."""

    name: str
    """Name of its file in `pins`."""

    requirements: tuple[str, ...]
    """Main packages with exact versions; the file pins these and all their dependencies."""

    @property
    def folder(self) -> Path:
        """Its location; different pins use a different folder, so one in use never changes."""
        digest = hashlib.sha256("\n".join(pinned(self.name)).encode()).hexdigest()
        return cache_folder() / "benchmarks" / f"{self.name}-{digest[:8]}"

    def python(self) -> Path:
        """Its interpreter; the first call creates the environment, concurrent calls wait.

        Raises:
            CannotInstall: pip failed.
        """
        python, done = self.folder / "bin" / "python", self.folder / ".installed"
        if not done.is_file():
            with _locked(self.folder.with_suffix(".lock")):
                if not done.is_file():
                    _fill(self.folder, pinned(self.name))
                    done.touch()
        return python


def pinned(name: str) -> list[str]:
    """All requirements in `pins/NAME.txt` and the files that it includes, sorted."""
    found: set[str] = set()
    for row in (_PINS / f"{name}.txt").read_text().splitlines():
        if row.startswith("-r "):
            found.update(pinned(row.removeprefix("-r ").removesuffix(".txt")))
        elif row and not row.startswith("#"):
            found.add(row)
    return sorted(found)


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock between processes; a process that dies releases it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _fill(folder: Path, pins: Sequence[str]) -> None:
    print(f"installing {len(pins)} packages into {folder}", file=sys.stderr)
    _call([sys.executable, "-m", "venv", "--clear", str(folder)])
    pip = [str(folder / "bin" / "python"), "-m", "pip", "--no-input", "--disable-pip-version-check"]
    install = [*pip, "install", "--quiet", "--no-deps", "--no-compile"]
    torch = [pin for pin in pins if re.match(r"torch==", pin)]
    others = [pin for pin in pins if pin not in torch]
    if torch:
        try:
            _call([*install, *torch], say=False)
        except CannotInstall:
            _call([*install, "--extra-index-url", _CPU_INDEX, *torch])
    _call([*install, *others])


def _call(command: Sequence[str], *, say: bool = True) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_TIMEOUT_S)
    except subprocess.TimeoutExpired as error:
        raise CannotInstall(f"pip did not finish within {_TIMEOUT_S} s") from error
    if done.returncode:
        lines = done.stderr.strip().splitlines() or ["no output"]
        if say:
            print("\n".join(lines[-_LAST_LINES:]), file=sys.stderr)
        errors = [line for line in lines if line.startswith("ERROR: ")]
        raise CannotInstall((errors or lines)[-1].removeprefix("ERROR: ")[:200])
