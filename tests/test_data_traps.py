"""Files that are traps: a clear line or a bounded read each."""

import bz2
import gzip
import os

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from facsynth.data import formats
from facsynth.data.read import read_samples
from facsynth.errors import DataError
from facsynth.tasks.toxicity.data import positive_labels


def parquet(folder, **columns):
    pq.write_table(pa.table({"text": ["a"], **columns}), folder / "a.parquet")
    return folder / "a.parquet"


MOMENTS = {
    "far beyond the years of Python": pa.array([10**12], pa.timestamp("s")),
    "a nanosecond": pa.array([10**18 + 1], pa.timestamp("ns")),
    "in a zone that nobody knows": pa.array([1], pa.timestamp("us", "Nowhere/Zone")),
    "a date in a million years": pa.array([10**8], pa.date32()),
    "a duration": pa.array([10**18], pa.duration("us")),
}


@pytest.mark.parametrize("name", MOMENTS)
def test_times_of_any_kind_do_not_disturb_the_text(tmp_path, name):
    [sample] = read_samples(parquet(tmp_path, when=MOMENTS[name]))
    assert sample.text == "a"


def test_a_parquet_text_that_is_not_utf8_is_named_by_its_row(tmp_path):
    texts = pa.array([b"good", b"\xff"]).view(pa.string())
    pq.write_table(pa.table({"text": texts}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match=r"a.parquet, row 2: not UTF-8 \(byte 0xff\)"):
        read_samples(tmp_path / "a.parquet")


def test_columns_of_one_name_are_refused(tmp_path):
    table = pa.Table.from_arrays([pa.array(["a"]), pa.array(["b"])], names=["text", "text"])
    pq.write_table(table, tmp_path / "a.parquet")
    (tmp_path / "a.csv").write_text("Text,text\na,b\n")
    for name in ("a.parquet", "a.csv"):
        with pytest.raises(DataError, match="has `text` twice; rename one of them"):
            read_samples(tmp_path / name)


def test_an_object_with_a_key_twice_is_refused(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "a", "meta": {"x": 1, "x": 2}}\n')
    with pytest.raises(DataError, match=r"line 1: .*an object has the key `x` twice"):
        read_samples(tmp_path / "a.jsonl")


def test_a_pipe_without_a_writer_and_an_endless_device_are_refused_at_once(tmp_path):
    os.mkfifo(tmp_path / "pipe.jsonl")
    (tmp_path / "zero.jsonl").symlink_to("/dev/zero")
    for name in ("pipe.jsonl", "zero.jsonl"):
        with pytest.raises(DataError, match="no file but a pipe, a device or a folder"):
            read_samples(tmp_path / name)


@pytest.mark.parametrize(("opener", "ending"), [(gzip.open, ".gz"), (bz2.open, ".bz2")])
def test_a_file_that_unpacks_without_end_is_refused(tmp_path, monkeypatch, opener, ending):
    monkeypatch.setattr(formats, "MOST_LINE", 2**16)
    with opener(tmp_path / f"a.jsonl{ending}", "wb") as stream:
        stream.write((b" " * 1000 + b"\n") * 2**13)
    with pytest.raises(DataError, match="unpacks to more than 300 times its size"):
        read_samples(tmp_path / f"a.jsonl{ending}")


def test_a_document_that_unpacks_without_end_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "MOST_LINE", 2**16)
    with bz2.open(tmp_path / "a.json.bz2", "wb") as stream:
        stream.write(b"[" + b" " * 2**23 + b"]")
    with pytest.raises(DataError, match="unpacks to more than 300 times its size"):
        read_samples(tmp_path / "a.json.bz2")


def test_a_line_without_end_is_named_and_the_next_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(formats, "MOST_LINE", 1000)
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "%s"}\n{"text": "b"}\n' % ("a" * 10**4))
    with pytest.raises(DataError, match="line 1: longer than 1,000 bytes; cut or split it"):
        read_samples(path)
    assert [row.number for row in formats.json_lines(path)] == [1, 2]


@pytest.mark.parametrize("missing", ["NaN", '"nan"', "null", '" None "', '""'])
def test_a_missing_label_is_not_a_negative_one(tmp_path, missing):
    path = tmp_path / "a.jsonl"
    path.write_text(f'{{"text": "a", "label": {missing}}}\n{{"text": "b", "label": 1}}\n')
    with pytest.raises(DataError, match="sample 'a-1' of a.jsonl has no label"):
        positive_labels(read_samples(path), "a.jsonl")
