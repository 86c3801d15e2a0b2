import errno
import json
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings

from drawn_samples import ANY, named, samples_of
from facsynth.data.read import read_samples
from facsynth.data.write import atomic_path, sample_row, write_json, write_jsonl, write_text
from facsynth.errors import DataError, SpaceError
from facsynth.records import Message, Sample


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
@settings(max_examples=40, deadline=None)
@given(drawn=named(ANY))
def test_written_samples_are_read_back_unchanged(name, drawn):
    samples = samples_of(drawn)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        assert write_jsonl(map(sample_row, samples), path) == len(samples)
        assert read_samples(path) == samples


def test_row_uses_the_field_names_of_trl():
    pair = Sample("p", messages=(Message("user", "a"),), rejected=(Message("user", "b"),))
    assert list(sample_row(pair)) == ["sample_id", "chosen", "rejected"]


def test_sample_without_content_has_no_row():
    with pytest.raises(DataError, match="'x' has neither text nor messages"):
        sample_row(Sample("x"))


def test_failed_block_leaves_the_old_file_alone(tmp_path):
    def rows():
        yield {"x": 1}
        raise KeyError

    write_text("old", tmp_path / "a.jsonl")
    with pytest.raises(KeyError):
        write_jsonl(rows(), tmp_path / "a.jsonl")
    assert [file.read_text() for file in tmp_path.iterdir()] == ["old"]


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


def test_other_errors_of_the_system_stay_as_they_are(tmp_path):
    (tmp_path / "a.txt").mkdir()
    with pytest.raises(IsADirectoryError):
        write_text("x", tmp_path / "a.txt")


@pytest.mark.parametrize("value", [float("nan"), "\ud83d"])
def test_row_that_is_not_json_is_named(tmp_path, value):
    with pytest.raises(DataError, match=r"row 2 for .*a.jsonl cannot be written"):
        write_jsonl([{"x": 1}, {"x": value}], tmp_path / "a.jsonl")
    assert list(tmp_path.iterdir()) == []


def test_gzip_bytes_depend_on_the_rows_alone(tmp_path):
    write_jsonl([{"x": 1}], tmp_path / "a.jsonl.gz")
    write_jsonl([{"x": 1}], tmp_path / "b.jsonl.gz")
    assert (tmp_path / "a.jsonl.gz").read_bytes() == (tmp_path / "b.jsonl.gz").read_bytes()


def test_json_is_readable_utf8_in_a_new_folder(tmp_path):
    write_json({"name": "é"}, tmp_path / "new" / "a.json")
    text = (tmp_path / "new" / "a.json").read_text(encoding="utf-8")
    assert json.loads(text) == {"name": "é"}
    assert text == '{\n  "name": "é"\n}\n'
