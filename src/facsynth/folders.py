"""Where downloads are kept, and how anything gets onto the disk: whole, or not at all."""

import errno
import fcntl
import os
import re
import secrets
import shutil
import socket
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import cache
from pathlib import Path

from facsynth.errors import DataError, SpaceError

__all__ = ["atomic_path", "LOCK_FILE", "cache_folder", "hold_folder", "hold_folders"]

_NO_SPACE = {
    *(errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO, errno.EFBIG),
    errno.EPIPE,
}
_NO_PLACE = {
    *(errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EEXIST, errno.ENOTEMPTY),
    *(errno.ENAMETOOLONG, errno.ELOOP),
}
_TEMPORARY = re.compile(r"\.tmp-(?P<host>[^-]*)-(?P<process>\d+)-")
_HOST = re.sub(r"\W", "", socket.gethostname())[:20]

LOCK_FILE = ".lock"
"""Held by the run that writes into a folder."""

_OLD_S = 24 * 3600
"""Age after which a temporary of another machine is taken for one of a killed run."""


def cache_folder() -> Path:
    """`FACSYNTH_CACHE`, or `~/.cache/facsynth`."""
    return Path(os.environ.get("FACSYNTH_CACHE") or Path.home() / ".cache" / "facsynth")


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside `path` that becomes `path` when the block succeeds.

    The temporary name is hidden and ends like `path`. Missing parent folders are made. What
    the block wrote there, one file or a folder, reaches the disk before it is renamed, so
    that a reader, or a run started again after a kill, sees the old content or the new one.
    When the block fails, the temporary is deleted and `path` stays as it was. What killed runs
    left in the folder is deleted, too.

    A device or a pipe, such as `/dev/stdout`, cannot be replaced: it is yielded itself.

    Args:
        path: The final file, which is replaced where it exists; or the final folder, which
            must then be absent or empty.

    Raises:
        DataError: The path is a folder with files in it, or a link to another place.
        SpaceError: The disk is full or read-only, or the folder is closed to this user.
    """
    path = Path(path)
    with _said(path):
        if _is_stream(path):
            yield path
            return
        path = _checked(path)
        path.parent.mkdir(parents=True, exist_ok=True)
        _clean(path.parent)
        mark = f".tmp-{_HOST}-{os.getpid()}-{secrets.token_hex(4)}-"
        temporary = path.with_name(mark + path.name[-60:])
        try:
            yield temporary
            if path.is_dir() and not temporary.is_dir():
                raise DataError(f"{path} is a folder; name a file")
            for written in (*temporary.rglob("*"), temporary):
                _flush(written)
            os.replace(temporary, path)
            _flush(path.parent)
        finally:
            _delete(temporary)


@contextmanager
def hold_folder(folder: Path) -> Iterator[None]:
    """Let no other run write into a folder while the block runs.

    The lock ends with the process, however that ends. A file system without locks gets none.

    Raises:
        DataError: Another run writes there.
        SpaceError: The folder cannot be made or written.
    """
    if folder.exists() and not folder.is_dir():
        yield  # what is written there says what is wrong
        return
    path = folder / LOCK_FILE
    with _said(path):
        folder.mkdir(parents=True, exist_ok=True)
        stream = path.open("a+")
    with stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataError(
                f"another run is writing into {folder}; wait until it has ended, or choose "
                "another folder"
            ) from error
        except OSError:
            pass
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


@contextmanager
def hold_folders(folders: Iterable[Path]) -> Iterator[None]:
    """The same for several folders."""
    with ExitStack() as held:
        for folder in folders:
            held.enter_context(hold_folder(folder))
        yield


@contextmanager
def _said(path: Path) -> Iterator[None]:
    """What the disk refuses, in words."""
    try:
        yield
    except OSError as error:
        is_here = str(error.filename or "").startswith(str(path.parent))
        if error.errno not in _NO_SPACE and not (error.errno in _NO_PLACE and is_here):
            raise
        raise SpaceError(
            f"{path} cannot be written: {error.strerror}; free space or choose another place"
        ) from error


def _is_stream(path: Path) -> bool:
    """Whether a path is a device, a pipe, or another name of an open file."""
    if not path.exists():
        return False
    is_other = not path.is_file() and not path.is_dir()
    is_system = path.parts[:2] in (("/", "dev"), ("/", "proc"))
    # Files in /dev/shm are files like others, in memory.
    return is_other or (is_system and path.parts[2:3] != ("shm",) and path.is_file())


def _checked(path: Path) -> Path:
    """The file or folder that a path means; links may not lead out of their folder."""
    if path.is_symlink():
        real = path.resolve()
        if real.parent != path.parent.resolve():
            raise DataError(f"{path} is a link to {real}; name that place itself, or another one")
        path = real
    if path.is_dir() and any(path.iterdir()):
        raise DataError(f"{path} is a folder with files in it; choose another name")
    return path


@cache
def _clean(folder: Path) -> None:
    """Delete temporaries of processes that are gone; once a folder, because it takes a listing."""
    with suppress(OSError):
        for left in folder.glob(".tmp-*"):
            found = _TEMPORARY.match(left.name)
            if found and _is_gone(found["host"], int(found["process"]), left):
                _delete(left)


def _is_gone(host: str, process: int, left: Path) -> bool:
    if host != _HOST:
        return time.time() - left.stat().st_mtime > _OLD_S
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False
    return False


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _delete(path: Path) -> None:
    """Remove what a failed block left behind; the error of the block matters more."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        with suppress(OSError):
            path.unlink()
