import json
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings

from drawn_samples import ANY, named, samples_of
from facsynth.data.read import read_samples
from facsynth.data.write import sample_row, write_json, write_jsonl, write_text
from facsynth.errors import DataError
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
