"""How files get onto the disk: whole, or not at all, and never over what is no file."""

import errno
import os
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from facsynth.data.write import write_json, write_text
from facsynth.errors import DataError, SpaceError
from facsynth.folders import LOCK_FILE, _clean, atomic_path, hold_folder


def test_folder_is_moved_as_a_whole(tmp_path):
    with atomic_path(tmp_path / "model") as temporary:
        temporary.mkdir()
        (temporary / "config.json").write_text("{}")
    assert [file.name for file in tmp_path.rglob("*")] == ["model", "config.json"]


def test_failed_folder_is_removed(tmp_path):
    def fail():
        with atomic_path(tmp_path / "model") as temporary:
            temporary.mkdir()
            (temporary / "part").write_text("x")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS, errno.EACCES])
def test_disk_that_refuses_is_a_space_error(tmp_path, monkeypatch, code):
    def refuse(handle):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(SpaceError, match=f"a.json cannot be written: {os.strerror(code)}"):
        write_json({}, tmp_path / "a.json")
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def pipe(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    return tmp_path / "pipe"


def test_a_pipe_is_written_and_stays_a_pipe(pipe):
    with subprocess.Popen(["cat", pipe], stdout=subprocess.PIPE, text=True) as reader:
        write_text("hello", pipe)
        assert reader.communicate()[0] == "hello"
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert [file.name for file in pipe.parent.iterdir()] == ["pipe"]


def test_a_link_to_a_device_is_written_through_and_stays(tmp_path):
    (tmp_path / "nowhere").symlink_to("/dev/null")
    write_text("hello", tmp_path / "nowhere")
    assert os.readlink(tmp_path / "nowhere") == "/dev/null"
    assert stat.S_ISCHR((tmp_path / "nowhere").stat().st_mode)


@pytest.mark.skipif(not os.path.isdir("/dev/shm"), reason="no folder in memory")
def test_file_in_memory_is_replaced_like_any_other():
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        path = Path(folder) / "a.txt"
        path.write_text("old")
        with atomic_path(path) as temporary:
            temporary.write_text("new")
            assert path.read_text() == "old"
        assert path.read_text() == "new"


def test_standard_output_is_written_and_not_replaced(tmp_path):
    code = "from facsynth.data.write import write_text; write_text('hello', '/dev/stdout')"
    with (tmp_path / "out").open("w") as out:
        subprocess.run([sys.executable, "-c", code], stdout=out, check=True)
    assert (tmp_path / "out").read_text() == "hello"


def test_a_link_within_its_folder_is_followed(tmp_path):
    (tmp_path / "link").symlink_to("file")
    write_text("old", tmp_path / "file")
    write_text("new", tmp_path / "link")
    assert (tmp_path / "file").read_text() == "new"
    assert (tmp_path / "link").is_symlink()


@pytest.mark.parametrize("exists", [True, False])
def test_a_link_out_of_its_folder_is_refused(tmp_path, exists):
    target = tmp_path / "elsewhere" / "file"
    if exists:
        write_text("old", target)
    (tmp_path / "link").symlink_to(target)
    with pytest.raises(DataError, match=f"link is a link to {target}; name that place itself"):
        write_text("new", tmp_path / "link")
    assert not exists or target.read_text() == "old"


def test_a_folder_is_not_replaced_by_a_file(tmp_path):
    (tmp_path / "a" / "b").mkdir(parents=True)
    with pytest.raises(DataError, match="a is a folder with files in it; choose another name"):
        write_text("x", tmp_path / "a")
    with pytest.raises(DataError, match="b is a folder; name a file"):
        write_text("x", tmp_path / "a" / "b")
    assert (tmp_path / "a" / "b").is_dir()


@pytest.mark.parametrize("inner", ["file/a.txt", "file/deeper/a.txt", "n" * 300])
def test_a_place_that_cannot_be_is_one_line(tmp_path, inner):
    write_text("x", tmp_path / "file")
    with pytest.raises(SpaceError, match="cannot be written"):
        write_text("x", tmp_path / inner)


def test_a_long_name_has_room_for_its_temporary(tmp_path):
    write_text("x", tmp_path / ("n" * 250))
    assert len(next(tmp_path.iterdir()).name) == 250


def test_a_folder_that_is_deleted_under_a_run_is_one_line(tmp_path):
    def write():
        with atomic_path(tmp_path / "a" / "file") as temporary:
            temporary.write_text("x")
            temporary.unlink()
            temporary.parent.rmdir()

    with pytest.raises(SpaceError, match="a/file cannot be written: No such file"):
        write()


def test_errors_of_other_files_stay_as_they_are(tmp_path):
    def write():
        with atomic_path(tmp_path / "a" / "file"):
            (tmp_path / "b").read_text()

    with pytest.raises(FileNotFoundError):
        write()


def test_what_killed_runs_left_is_deleted_and_what_living_ones_write_is_not(tmp_path):
    dead = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"],
        capture_output=True,
        text=True,
        check=True,
    )
    with atomic_path(tmp_path / "living") as living:
        living.write_text("x")
        left = living.with_name(living.name.replace(str(os.getpid()), dead.stdout.strip()))
        other = tmp_path / ".tmp-elsewhere-1-abcd-x"
        left.mkdir()
        other.touch()
        _clean.__wrapped__(tmp_path)
        assert not left.exists()
        assert living.exists()
        assert other.exists()


def test_a_folder_is_held_by_one_run_at_a_time(tmp_path):
    again = hold_folder(tmp_path / "t")
    with (
        hold_folder(tmp_path / "t"),
        hold_folder(tmp_path / "other"),
        pytest.raises(DataError, match="another run is writing into .*t; wait until it has"),
    ):
        again.__enter__()
    with hold_folder(tmp_path / "t"):
        pass
    assert list((tmp_path / "t").iterdir()) == []


def test_a_killed_run_holds_nothing(tmp_path):
    code = (
        "import os, sys, pathlib; from facsynth.folders import hold_folder\n"
        "with hold_folder(pathlib.Path(sys.argv[1])): os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code, tmp_path]).returncode == -9
    with hold_folder(tmp_path):
        assert (tmp_path / LOCK_FILE).exists()
