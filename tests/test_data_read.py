"""Files, folders, Hub data sets and rows in hand: what is found, and where it fails."""

import bz2
import gzip
import json
import lzma
import sys
from types import SimpleNamespace

import pandas as pd
import pyarrow as pa
import pyarrow.feather
import pyarrow.parquet as pq
import pytest
from datasets import Dataset, DatasetDict

from facsynth.data import formats
from facsynth.data.read import json_lines, open_samples, read_rows, read_samples
from facsynth.data.settings import ReadSettings
from facsynth.errors import DataError
from facsynth.records import Message, Sample

TURNS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
PACK = {
    "": bytes,
    ".gz": gzip.compress,
    ".bz2": bz2.compress,
    ".xz": lzma.compress,
    ".zst": lambda content: pa.Codec("zstd").compress(content, asbytes=True),
}


def jsonl(folder, *rows, name="a.jsonl"):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def texts(source, **settings):
    return [sample.text for sample in read_samples(source, ReadSettings(**settings))]


# Files


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.ndjson", '{"text": "é\\"1\\""}\n\n{"text": "2"}'),
        ("a.jsonl", '[{"text": "é\\"1\\""},\n {"text": "2"}]'),
        ("a.json", '[{"text": "é\\"1\\""}, {"text": "2"}]'),
        ("a.json", '{"text": "é\\"1\\""}\n{"text": "2"}\n'),
        ("a.json", '{"version": 1, "data": [{"text": "é\\"1\\""}, {"text": "2"}]}'),
        ("a.json", '{"columns": ["text"], "index": [0, 1], "data": [["é\\"1\\""], ["2"]]}'),
        ("a.json", '{"text": {"0": "é\\"1\\"", "1": "2"}, "n": {"0": 1, "1": 2}}'),
        ("a.json", '{"0": {"text": "é\\"1\\""}, "1": {"text": "2"}}'),
        ("a.json", '{"text": ["é\\"1\\"", "2"], "n": [1, 2]}'),
        ("a.csv", '\ufefftext,label\r\n"é""1""",\r\n2,\r\n'),
        ("a.tsv", 'text\né"1"\n2\n'),
        ("a.txt", 'é"1"\r\n2'),
    ],
)
@pytest.mark.parametrize("packed", PACK)
def test_every_format_gives_the_same_texts(tmp_path, name, content, packed):
    path = tmp_path / (name + packed)
    path.write_bytes(PACK[packed](content.encode()))
    samples = read_samples(path)
    assert [(sample.text, sample.label) for sample in samples] == [('é"1"', None), ("2", None)]
    assert samples[0].sample_id == "a-1"


@pytest.mark.parametrize(
    "content",
    ['{"messages": [{"role": "user", "content": "Hi"}]}', '{"prompt": "Hi", "note": null}'],
)
def test_one_object_in_a_json_file_is_one_row(tmp_path, content):
    (tmp_path / "a.json").write_text(content)
    (sample,) = read_samples(tmp_path / "a.json")
    assert sample.messages == (Message("user", "Hi"),)


@pytest.mark.parametrize("name", ["a.jsonl", "a.json", "a.csv", "a.txt"])
@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_byte_order_marks_are_no_text(tmp_path, name, encoding):
    content = {"a.jsonl": '{"text": "é"}\n', "a.json": '[{"text": "é"}]', "a.csv": "text\né\n"}
    (tmp_path / name).write_bytes(content.get(name, "é\n").encode(encoding))
    assert texts(tmp_path / name) == ["é"]


@pytest.mark.parametrize("mark", [",", ";", "\t", "|"])
def test_separator_of_a_csv_file_is_found(tmp_path, mark):
    rows = [("text", "label"), ("One, two", "0"), ('"Three; four"', "1"), ("Five | six", "0")]
    quoted = [mark.join(f'"{c}"' if mark in c and '"' not in c else c for c in r) for r in rows]
    (tmp_path / "a.csv").write_text("\n".join(quoted))
    assert texts(tmp_path / "a.csv") == ["One, two", "Three; four", "Five | six"]


def test_separator_may_be_named(tmp_path):
    (tmp_path / "a.csv").write_text("text~label\na,b~0\n")
    assert texts(tmp_path / "a.csv", separator="~") == ["a,b"]


def test_csv_file_of_one_column_is_not_cut(tmp_path):
    (tmp_path / "a.csv").write_text("text\nfirst; second\nthird\n")
    assert texts(tmp_path / "a.csv") == ["first; second", "third"]


def test_quotes_mean_nothing_in_a_tsv_file_unless_its_separator_is_named(tmp_path):
    (tmp_path / "a.tsv").write_text('text\tlabel\n"Yes, she said\t1\nHe said no"\t0\n')
    assert texts(tmp_path / "a.tsv") == ['"Yes, she said', 'He said no"']
    (tmp_path / "b.tsv").write_text('text\tlabel\n"a\n""b"""\t1\n')
    assert texts(tmp_path / "b.tsv", separator="\t") == ['a\n"b"']


def test_long_csv_cell_is_read(tmp_path):
    (tmp_path / "a.csv").write_text("text\n" + "x" * 200_000)
    assert len(texts(tmp_path / "a.csv")[0]) == 200_000


@pytest.mark.parametrize(
    "kind",
    [
        *(pa.string(), pa.large_string(), pa.string_view(), pa.binary(), pa.large_binary()),
        pa.dictionary(pa.int32(), pa.string()),
    ],
    ids=str,
)
def test_parquet_strings_of_every_type_are_read(tmp_path, kind):
    strings = pa.array(["é", None, "b"]).cast(kind) if kind != pa.string() else ["é", None, "b"]
    pq.write_table(pa.table({"text": strings, "prompt": [None, "c", None]}), tmp_path / "a.parquet")
    samples = read_samples(tmp_path / "a.parquet")
    assert [s.text or s.messages[0].content for s in samples] == ["é", "c", "b"]


def test_nested_parquet_columns_are_read_without_the_keys_of_other_rows(tmp_path):
    calls = [{"function": {"name": n, "arguments": {n: 1}}} for n in "fg"]
    turns = [{"role": "assistant", "content": None, "tool_calls": [call]} for call in calls]
    rows = [{"messages": [turn], "text": None} for turn in turns] + [
        {"messages": None, "text": "x"}
    ]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    first, second, third = read_samples(tmp_path / "a.parquet")
    arguments = [s.messages[0].tool_calls[0].arguments for s in (first, second)]
    assert (arguments, third.text) == (['{"f": 1}', '{"g": 1}'], "x")


def test_arrow_files_are_read_in_both_forms(tmp_path):
    table = pa.table({"text": ["x", "y"]})
    pyarrow.feather.write_feather(table, tmp_path / "a.feather")
    with pa.ipc.new_stream(tmp_path / "b.arrow", table.schema) as stream:
        stream.write_table(table)
    assert texts(tmp_path / "a.feather") == texts(tmp_path / "b.arrow") == ["x", "y"]


# Folders and several sources


def test_folder_is_read_in_the_order_of_names_and_says_what_it_reads(tmp_path):
    jsonl(tmp_path, {"text": "2"}, name="b.jsonl")
    for name in ("a.txt", "README.md", "LICENSE.txt", "requirements.txt", "dataset_info.json"):
        (tmp_path / name).write_text("1\n" if name == "a.txt" else "[]")
    stream = open_samples(str(tmp_path))
    assert [sample.text for sample in stream] == ["1", "2"]
    assert stream.report.files == (str(tmp_path / "a.txt"), str(tmp_path / "b.jsonl"))
    assert stream.report.files_left_out == ("LICENSE.txt", "dataset_info.json", "requirements.txt")


def test_folder_with_splits_in_its_names_is_read_by_split(tmp_path):
    for split in ("train-00000-of-00001", "test-00000-of-00001"):
        jsonl(tmp_path / "data", {"text": split[:5]}, name=f"{split}.jsonl")
    assert texts(tmp_path) == ["train"]
    assert texts(tmp_path, split="test") == ["test-"]
    with pytest.raises(DataError, match="no file of split 'validation'; its files say test, train"):
        texts(tmp_path, split="validation")


def test_data_dir_names_a_sub_folder(tmp_path):
    for name in ("en", "de"):
        jsonl(tmp_path / name, {"text": name})
    assert texts(tmp_path, data_dir="de") == ["de"]
    with pytest.raises(DataError, match="name one of its folders with --data-dir: de, en"):
        texts(tmp_path)
    with pytest.raises(DataError, match="no folder"):
        texts(tmp_path, data_dir="fr")


def test_folders_of_save_to_disk_are_read(tmp_path):
    rows = Dataset.from_dict({"text": ["x", "y"], "label": [0, 1]})
    rows.save_to_disk(tmp_path / "one")
    DatasetDict(train=rows, test=rows.select([1])).save_to_disk(tmp_path / "both")
    assert texts(tmp_path / "one") == texts(tmp_path / "both") == ["x", "y"]
    assert texts(tmp_path / "both", split="test") == ["y"]
    with pytest.raises(DataError, match="no split 'dev'; pass --split train or test"):
        texts(tmp_path / "both", split="dev")


def test_several_sources_are_read_one_after_the_other(tmp_path):
    sources = [jsonl(tmp_path / name, {"text": name, "id": 0}, {"text": "z"}) for name in "ab"]
    stream = open_samples(sources)
    assert [s.sample_id for s in stream] == ["0", "a-a-2", "b-a/0", "b-a-2"]
    assert stream.report.n_renamed == 1


@pytest.mark.parametrize(
    "rows",
    [
        ["Tea is hot.", "So is soup."],
        [{"text": "Tea is hot."}, {"text": "So is soup."}],
        [Sample("a", text="Tea is hot."), Sample("b", text="So is soup.")],
        Dataset.from_dict({"text": ["Tea is hot.", "So is soup."]}),
        pd.DataFrame({"text": ["Tea is hot.", "So is soup."]}),
        pa.table({"text": ["Tea is hot.", "So is soup."]}),
    ],
    ids=lambda rows: type(rows).__name__,
)
def test_rows_in_hand_are_read(rows):
    assert texts(rows) == ["Tea is hot.", "So is soup."]


@pytest.mark.parametrize("source", ["data/none.jsonl", "./owner/name", "nothing"])
def test_source_that_is_not_there_is_an_error(source):
    with pytest.raises(DataError, match="no file or folder"):
        read_samples(source)


def test_hub_address_without_an_owner_is_an_error():
    with pytest.raises(DataError, match="hf://name cannot be reached"):
        read_samples("hf://name")


def test_folder_without_data_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no samples in .*none of its files"):
        read_samples(tmp_path)


# Which rows


def test_ids_count_the_rows_of_a_file(tmp_path):
    path = jsonl(tmp_path, {"text": "x"}, {"text": "y"}, name="set.v1.jsonl")
    assert [sample.sample_id for sample in read_samples(path)] == ["set.v1-1", "set.v1-2"]


def test_double_id_names_both_rows(tmp_path):
    path = jsonl(tmp_path, {"text": "x", "id": 3}, {"text": "y", "id": "3"})
    with pytest.raises(DataError, match=r"'3' is used twice, at .*line 1 and at .*line 2"):
        read_samples(path)


def test_limit_stops_before_later_rows_are_looked_at(tmp_path):
    assert texts(jsonl(tmp_path, {"text": "1"}, "broken"), limit=1) == ["1"]


def test_random_sample_keeps_the_order_and_depends_on_its_seed(tmp_path):
    path = jsonl(tmp_path, *({"text": f"{n:03}"} for n in range(200)))
    found = [texts(path, sample=20, random_seed=seed) for seed in (0, 0, 1)]
    assert found[0] == found[1] == sorted(found[0])
    assert found[0] != found[2]
    stream = open_samples(path, ReadSettings(sample=20))
    assert (len(list(stream)), stream.report.n_not_sampled) == (20, 180)


def test_random_sample_takes_every_row_equally_often():
    rows, counts = [str(n) for n in range(10)], dict.fromkeys(map(str, range(10)), 0)
    for seed in range(100):
        for text in texts(rows, sample=3, random_seed=seed):
            counts[text] += 1
    assert min(counts.values()) > 14  # 30 expected, standard deviation 4.6


def test_bad_rows_are_skipped_counted_and_written(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "1"}\n{"text": \n{"x": 1}\n{"text": "\xff"}\n{"text": "2"}\n')
    stream = open_samples(path, ReadSettings(on_bad_row="skip"), rejected=tmp_path / "bad.jsonl")
    assert [sample.text for sample in stream] == ["1", "2"]
    bad = [json.loads(line) for line in (tmp_path / "bad.jsonl").read_text().splitlines()]
    assert [(row["file"], row["place"], row["row"]) for row in bad] == [
        (str(path), "line 2", None),
        (str(path), "line 3", {"x": 1}),
        (str(path), "line 4", None),
    ]
    assert all(row["reason"] for row in bad)
    assert (stream.report.n_read, stream.report.n_rejected) == (2, 3)
    assert "skipped 3 bad rows; the first: " in stream.report.sentences()[1]


def test_only_bad_rows_are_an_error(tmp_path):
    with pytest.raises(DataError, match="no samples in .*; the first: .*line 1: no known fields"):
        texts(jsonl(tmp_path, {"x": 1}), on_bad_row="skip")


def test_field_that_no_row_has_is_an_error(tmp_path):
    path = jsonl(tmp_path, {"q": "x", "a": "y"})
    with pytest.raises(
        DataError, match="no row of .*a.jsonl has the field `persona`, named for sys"
    ):
        texts(path, fields="user=q,assistant=a,system=persona")


# Files that cannot be read


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"text": "x"}\n{"text": \n', r"a.jsonl, line 2: not JSON .*column"),
        ("a.json", b'[{"text": "x"},\n{"text": ]', "line 2: not JSON .*column 10"),
        ("a.json", b'[{"text":\n "\xff"}]', "line 2: not UTF-8"),
        ("a.json", b"3", "holds a number where a list"),
        ("a.jsonl", b"[" * 100_000, "line 1: JSON that cannot be parsed"),
        ("a.jsonl", b"3\n", "line 1: a number where an object"),
        ("a.jsonl", b"{}\n\xff\n", "line 1: no known fields"),
        ("a.jsonl", b"\xff\n", r"line 1: not UTF-8 \(byte 0xff\)"),
        ("a.jsonl.gz", b"plain", "cannot be read"),
        ("a.jsonl.bz2", b"plain", "cannot be read"),
        ("a.jsonl.xz", b"plain", "cannot be read"),
        ("a.jsonl.zst", b"plain", "cannot be read"),
        ("a.parquet", b"plain", "cannot be read as Parquet"),
        ("a.arrow", b"plain", "cannot be read as Parquet or Arrow"),
        ("a.csv", b"text\nx,y\n", "line 2: 2 cells, and the header has 1"),
        ("a.csv", b"text,text\nx,y\n", "line 1: the header has `text` twice"),
        ("a.csv", b'text,n\n"a\nb",1\nx,y,z\n', "line 4: 3 cells"),
        ("a.csv", b'text\n"x\n', "line 2: unexpected end of data"),
        ("a.csv", b"id,text\n1,\n", r"line 2: no known fields, .*found `id`, `text` \(empty\)"),
        ("a.txt", b"x\n\ny\n", "line 2: empty"),
        ("a.jsonl", b"\n", "no samples in"),
        ("a.csv", b"text\n", "no samples in"),
        ("a.docx", b"x", "no known ending"),
        ("a.pkl", b"x", "is a pickle"),
    ],
)
def test_unreadable_file_is_named_with_the_place(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_samples(tmp_path / name)


@pytest.mark.parametrize(
    ("name", "message"), [("a.jsonl.gz", "line 1: longer"), ("a.json", "longer")]
)
def test_file_that_unpacks_to_too_much_is_refused(tmp_path, monkeypatch, name, message):
    for most in ("MOST_BYTES", "MOST_LINE"):
        monkeypatch.setattr(formats, most, 1000)
    content = b'{"text": "' + b"x" * 2000 + b'"}'
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    with pytest.raises(DataError, match=message):
        read_samples(tmp_path / name)


def test_rows_of_other_formats_are_read_by_the_same_reader(tmp_path):
    (tmp_path / "a.csv").write_text("feature;name\n7;tea\n")
    assert list(read_rows(tmp_path / "a.csv")) == [
        (f"{tmp_path / 'a.csv'}, line 2", {"feature": "7", "name": "tea"})
    ]
    (tmp_path / "ids").write_text("3\n\n[4]\n")
    assert [value for _, value in json_lines(tmp_path / "ids")] == [3, [4]]
    with pytest.raises(DataError, match="no file"):
        list(read_rows(tmp_path / "none.csv"))


# The Hub


@pytest.mark.parametrize(
    ("source", "config", "options"),
    [
        ("owner/name", None, {}),
        ("hf://owner/name", None, {}),
        ("hf://datasets/owner/name", None, {}),
        ("https://huggingface.co/datasets/owner/name", None, {}),
        ("hf://owner/name/main", "main", {}),
        ("hf://datasets/owner/name@v1/main", "main", {"revision": "v1"}),
        ("hf://datasets/owner/name/data/a.jsonl", None, {"data_files": "data/a.jsonl"}),
    ],
)
def test_hub_data_set_is_read_through_datasets(monkeypatch, source, config, options):
    def load_dataset(name, config, *, split, streaming, **others):
        calls.append((name, config, split, streaming, others))
        return [{"text": "x"}, {"text": "y"}]

    calls = []
    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    samples = read_samples(source, ReadSettings(split="test", limit=1, data_dir="d"))
    assert samples == [Sample("name-1", text="x")]
    assert calls == [("owner/name", config, "test", True, {"data_dir": "d", **options})]


def test_hub_without_datasets_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(DataError, match=r"pip install 'facsynth\[hub\]'"):
        read_samples("owner/name")


def test_hub_that_cannot_be_reached_is_one_line(monkeypatch):
    def load_dataset(*args, **options):
        raise ConnectionError("Couldn't reach 'owner/name'\nmore")

    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    with pytest.raises(DataError, match=r"^[^\n]*Couldn't reach[^\n]*network[^\n]*$"):
        read_samples("owner/name")


def test_a_pandas_series_is_plain_texts():
    series = pd.Series(["one cat", "two cats"])
    assert [sample.text for sample in read_samples(series)] == ["one cat", "two cats"]
