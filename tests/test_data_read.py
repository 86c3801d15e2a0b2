import gzip
import json
import sys
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from facsynth.data.read import read_samples
from facsynth.errors import DataError
from facsynth.records import Message, Sample

USER, ASSISTANT = Message("user", "Hi"), Message("assistant", "Hello")
TURNS = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]
SHAREGPT = [{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "Hello"}]


def jsonl(tmp_path, *rows, name="a.jsonl"):
    path = tmp_path / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def read_row(tmp_path, row, **options):
    (sample,) = read_samples(jsonl(tmp_path, row), **options)
    return sample


@pytest.mark.parametrize(
    "row",
    [
        {"messages": TURNS},
        {"messages": TURNS, "text": "not this"},
        {"messages": [{"role": "user", "content": [{"type": "text", "text": "Hi"}]}, TURNS[1]]},
        {"conversations": SHAREGPT},
        {"conversations": TURNS},
        {"messages": None, "prompt": "Hi", "completion": "Hello"},
        {"prompt": TURNS[:1], "completion": TURNS[1:]},
        {"prompt": "Hi", "response": "Hello"},
        {"instruction": "Hi", "input": "", "output": "Hello"},
        {"instruction": "Hi", "response": "Hello"},
        {"question": "Hi", "answer": "Hello"},
    ],
)
def test_row_with_an_answer_becomes_two_messages(tmp_path, row):
    assert read_row(tmp_path, row).messages == (USER, ASSISTANT)


@pytest.mark.parametrize(
    "row", [{"prompt": "Hi"}, {"instruction": "Hi"}, {"instruction": "Hi", "output": ""}]
)
def test_row_without_answer_becomes_one_user_message(tmp_path, row):
    assert read_row(tmp_path, row).messages == (USER,)


def test_alpaca_input_stands_below_the_instruction(tmp_path):
    row = {"instruction": "Sum up.", "input": " A text\n", "output": "Short."}
    assert read_row(tmp_path, row).messages[0].content == "Sum up.\n\n A text\n"


@pytest.mark.parametrize(
    ("prompt", "chosen", "rejected"),
    [
        (None, TURNS, [TURNS[0], {"role": "assistant", "content": "No"}]),
        ("Hi", TURNS, [TURNS[0], {"role": "assistant", "content": "No"}]),
        ("Hi", "Hello", "No"),
        (TURNS[:1], TURNS[1:], [{"role": "assistant", "content": "No"}]),
        (None, "\n\nHuman: Hi\n\nAssistant: Hello", "\n\nHuman: Hi\n\nAssistant: No"),
        ("\n\nHuman: Hi\n\nAssistant:", " Hello", " No"),
    ],
)
def test_preference_row_gives_both_conversations(tmp_path, prompt, chosen, rejected):
    sample = read_row(tmp_path, {"prompt": prompt, "chosen": chosen, "rejected": rejected})
    assert sample.messages == (USER, ASSISTANT)
    assert sample.rejected == (USER, Message("assistant", "No"))


def test_text_is_left_as_it_is(tmp_path):
    assert read_row(tmp_path, {"text": "  a\r\n\u2028b "}).text == "  a\r\n\u2028b "


def test_text_field_wins_over_every_shape(tmp_path):
    sample = read_row(tmp_path, {"messages": TURNS, "body": "x"}, text_field="body")
    assert sample == Sample("a-1", text="x")


def test_label_and_id_become_strings(tmp_path):
    sample = read_row(tmp_path, {"text": "x", "id": 7, "label": 0})
    assert (sample.sample_id, sample.label) == ("7", "0")


def test_label_field_chooses_the_label(tmp_path):
    row = {"text": "x", "label": "a", "score": 0.5}
    assert read_row(tmp_path, row, label_field="score").label == "0.5"


def test_ids_count_the_rows_of_a_file(tmp_path):
    path = jsonl(tmp_path, {"text": "x"}, {"text": "y"}, name="set.v1.jsonl")
    assert [sample.sample_id for sample in read_samples(path)] == ["set.v1-1", "set.v1-2"]


def test_double_id_names_both_rows(tmp_path):
    path = jsonl(tmp_path, {"text": "x", "id": 3}, {"text": "y", "id": "3"})
    with pytest.raises(DataError, match=r"'3' stands twice, at .*line 1 and at .*line 2"):
        read_samples(path)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.ndjson", '{"text": "é\\"1\\""}\n\n{"text": "2"}'),
        ("a.json", '[{"text": "é\\"1\\""}, {"text": "2"}]'),
        ("a.json", '{"version": 1, "data": [{"text": "é\\"1\\""}, {"text": "2"}]}'),
        ("a.csv", '\ufefftext,label\r\n"é""1""",\r\n2,\r\n'),
        ("a.tsv", 'text\n"é""1"""\n2\n'),
        ("a.txt", 'é"1"\r\n2'),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_every_format_gives_the_same_texts(tmp_path, name, content, packed):
    path = tmp_path / (name + ".gz" * packed)
    path.write_bytes(gzip.compress(content.encode()) if packed else content.encode())
    samples = read_samples(path)
    assert [(sample.text, sample.label) for sample in samples] == [('é"1"', None), ("2", None)]
    assert samples[0].sample_id == "a-1"


def test_parquet_lists_may_be_null(tmp_path):
    rows = [{"messages": TURNS, "text": None}, {"messages": None, "text": "x"}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    first, second = read_samples(tmp_path / "a.parquet")
    assert first.messages == (USER, ASSISTANT)
    assert second.text == "x"


def test_folder_is_read_in_the_order_of_names(tmp_path):
    jsonl(tmp_path, {"text": "2"}, name="b.jsonl")
    (tmp_path / "a.txt").write_text("1\n")
    (tmp_path / "README.md").write_text("not data")
    assert [sample.text for sample in read_samples(str(tmp_path))] == ["1", "2"]


def test_limit_stops_before_later_rows_are_looked_at(tmp_path):
    path = jsonl(tmp_path, {"text": "1"}, "broken")
    assert len(read_samples(path, limit=1)) == 1


def test_long_csv_cell_is_read(tmp_path):
    (tmp_path / "a.csv").write_text("text\n" + "x" * 200_000)
    assert len(read_samples(tmp_path / "a.csv")[0].text) == 200_000


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"text": "x"}\n{"text": \n', r"a.jsonl, line 2, column \d+: not JSON"),
        ("a.json", b'{"text": "x"}\n{"text": "y"}', "line 2, .*name it .jsonl"),
        ("a.json", b'{"text": "x"}', "an object with 0 lists"),
        ("a.json", b"3", "holds a number where a list"),
        ("a.jsonl", b"[" * 100_000, "line 1: JSON beyond reading"),
        ("a.jsonl", b'"x"\n', "line 1: a string where an object"),
        ("a.jsonl", b"\xff\n", r"not UTF-8 \(byte 0xff\)"),
        ("a.jsonl.gz", b"plain", "cannot be read"),
        ("a.parquet", b"plain", "cannot be read as Parquet"),
        ("a.csv", b"text\nx,y\n", "row 1: more cells"),
        ("a.csv", b'text\n"x\n', "line 2: unexpected end of data"),
        ("a.csv", b"id,text\n1,\n", r"no known fields; .*found `id`, `text` \(empty\)"),
        ("a.txt", b"x\n\ny\n", "line 2 is empty"),
        ("a.jsonl", b"\n", "no samples in"),
        ("a.csv", b"text\n", "no samples in"),
        ("a.docx", b"x", "no known ending"),
    ],
)
def test_unreadable_file_is_named_with_the_place(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=message):
        read_samples(tmp_path / name)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"body": "x"}, "looked for `messages`, .*`prompt` \\+ `completion`.*found `body`"),
        ({}, "no field at all"),
        ({"messages": []}, "`messages` is an empty conversation"),
        ({"messages": "Hi"}, "`messages` is a string where a list"),
        ({"messages": ["Hi"]}, "message 1 of `messages` is a str"),
        ({"messages": [{"role": "user"}]}, "message 1 of `messages` lacks .*found `role`"),
        ({"messages": [{"role": "user", "content": None}]}, "`content` of message 1 .* is null"),
        ({"messages": [{"role": "user", "content": [{"type": "image"}]}]}, "is not text"),
        ({"instruction": "x", "output": 3}, "`output` is a number where a string"),
        ({"text": "\ud83d"}, "`text` holds half of a character"),
    ],
)
def test_unreadable_row_is_an_error_at_its_line(tmp_path, row, message):
    with pytest.raises(DataError, match=f"a.jsonl, line 1: .*{message}"):
        read_row(tmp_path, row)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"text_field": "body"}, "no field `body`; found `text`"),
        ({"label_field": "class"}, "no label field `class`; found `text`"),
        ({"limit": 0}, "limit is 0"),
    ],
)
def test_option_that_does_not_fit_is_an_error(tmp_path, options, message):
    with pytest.raises(DataError, match=message):
        read_row(tmp_path, {"text": "x"}, **options)


@pytest.mark.parametrize("source", ["data/none.jsonl", "./owner/name", "nothing", "hf://name"])
def test_source_that_is_not_there_is_an_error(source):
    with pytest.raises(DataError, match="no file or folder"):
        read_samples(source)


def test_folder_without_data_is_an_error(tmp_path):
    with pytest.raises(DataError, match="no samples in .*none of its files"):
        read_samples(tmp_path)


@pytest.mark.parametrize(
    ("source", "config"),
    [("owner/name", None), ("hf://owner/name", None), ("hf://owner/name/main", "main")],
)
def test_hub_data_set_is_read_through_datasets(monkeypatch, source, config):
    def load_dataset(name, config, *, split, streaming):
        calls.append((name, config, split, streaming))
        return [{"text": "x"}, {"text": "y"}]

    calls = []
    monkeypatch.setitem(sys.modules, "datasets", SimpleNamespace(load_dataset=load_dataset))
    assert read_samples(source, split="test", limit=1) == [Sample("name-1", text="x")]
    assert calls == [("owner/name", config, "test", True)]


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
