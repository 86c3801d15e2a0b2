"""Files and folders at addresses of fsspec, such as `s3://` and `gs://`, by way of local copies.

Everything else in the project works on local paths: what is read is copied into the cache first,
and what is written is copied to its address when it is complete. A copy is renewed when the size,
the date or the tag of its file changes. Credentials are those of the environment.
"""

import json
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path, PurePosixPath
from typing import Any

from facsynth.errors import DataError, FacsynthError
from facsynth.folders import atomic_path, cache_folder

__all__ = ["local_copy", "naming_address", "remote_address", "remote_output"]

_ADDRESS = re.compile(r"(?P<protocol>[a-z][a-z0-9+.-]+):/+(?P<rest>[^/].*)")
_PACKAGES = {"s3": "s3fs", "gs": "gcsfs", "gcs": "gcsfs", "az": "adlfs", "abfs": "adlfs"}
_LAST = "manifest.json"
"""File that declares a folder complete; it is copied last."""


def remote_address(name: str | Path) -> str | None:
    """The address that a name is, or None of a local path.

    `Path` folds the slashes of an address, so `s3:/bucket/data` is one too.
    """
    found = _ADDRESS.fullmatch(str(name))
    return found and f"{found['protocol']}://{found['rest']}"


def local_copy(name: str | Path) -> Path:
    """The path of a local file or folder, or of the copy of a remote one.

    Raises:
        DataError: Nothing is there, or it cannot be read.
    """
    if (address := remote_address(name)) is None:
        return Path(name)
    copy = _copy_of(address)
    with _said(address):
        system, root = _open(address)
        there = system.find(root, detail=True)
        if not there:
            raise DataError(f"nothing is at {address}")
        is_file = list(there) == [root.rstrip("/")] and not system.isdir(root)
        base = root.rpartition("/")[0] if is_file else root.rstrip("/")
        _copy_changed(system, there, base, copy)
    return copy / root.rstrip("/").rpartition("/")[2] if is_file else copy


@contextmanager
def remote_output(name: str | Path) -> Iterator[Path]:
    """A local folder for what is to be written; copied to its address when the block succeeds.

    It stays the same for the same address, so that a stopped run resumes on this machine. It begins
    with what is at the address, and is emptied where what was finished here has been deleted there.
    """
    if (address := remote_address(name)) is None:
        yield Path(name)
        return
    folder = _copy_of(address).with_suffix(".out") / PurePosixPath(address).name
    with _said(address):
        system, root = _open(address)
        there = system.find(root, detail=True)
        if not there and (folder / _LAST).is_file():
            shutil.rmtree(folder)
        if there and not folder.exists():
            _copy_changed(system, there, root.rstrip("/"), folder)
    with naming_address(folder, name):
        yield folder
    with _said(address):
        written = [path for path in folder.rglob("*") if path.is_file() and path.name[0] != "."]
        for path in sorted(written, key=lambda path: (path.name == _LAST, path)):
            target = f"{root.rstrip('/')}/{path.relative_to(folder).as_posix()}"
            system.makedirs(target.rpartition("/")[0], exist_ok=True)
            system.put_file(str(path), target)


@contextmanager
def naming_address(copy: Path, name: str | Path) -> Iterator[None]:
    """Let errors name an address where they would name its local copy, which no user knows."""
    try:
        yield
    except FacsynthError as error:
        if (address := remote_address(name)) is None or str(copy) not in str(error):
            raise
        raise type(error)(str(error).replace(str(copy), address)) from error


def _copy_changed(system: Any, there: dict[str, Any], base: str, copy: Path) -> None:
    """Copy the files that are not here, or not as they are there."""
    facts = copy.with_suffix(".json")
    known = json.loads(facts.read_text(encoding="utf-8")) if facts.is_file() else {}
    now = {}
    for path, info in sorted(there.items(), key=lambda item: item[0].endswith(_LAST)):
        inner = PurePosixPath(path[len(base) :].lstrip("/"))
        if ".." in inner.parts or inner.is_absolute():
            raise DataError(f"{path} leads out of its folder")
        now[str(inner)] = sha256(repr(sorted(info.items())).encode()).hexdigest()
        if now[str(inner)] != known.get(str(inner)) or not (copy / inner).is_file():
            with atomic_path(copy / inner) as temporary:
                system.get_file(path, str(temporary))
    for gone in known.keys() - now.keys():
        (copy / gone).unlink(missing_ok=True)
    with atomic_path(facts) as temporary:
        temporary.write_text(json.dumps(now), encoding="utf-8")


def _copy_of(address: str) -> Path:
    return cache_folder() / "remote" / sha256(address.encode()).hexdigest()[:24]


def _open(address: str) -> tuple[Any, str]:
    import fsspec

    system, root = fsspec.core.url_to_fs(address)
    return system, str(root)


@contextmanager
def _said(address: str) -> Iterator[None]:
    """What file systems raise, in one line."""
    protocol = address.partition(":")[0]
    try:
        yield
    except DataError:
        raise
    except ImportError as error:
        package = _PACKAGES.get(protocol, "its package of fsspec")
        raise DataError(f"{protocol}:// needs {package}; run `pip install {package}`") from error
    except Exception as error:  # every file system has its own
        reason = (str(error) or type(error).__name__).splitlines()[0][:200]
        raise DataError(f"{address} cannot be reached: {reason}") from error
