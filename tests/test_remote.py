"""Data and tables at addresses of fsspec; the bucket is one in memory."""

import fsspec
import pytest
from click.testing import CliRunner

from activations import make_activations, write_table
from facsynth.cli.group import main
from facsynth.data.read import read_samples
from facsynth.errors import DataError
from facsynth.records import Sample
from facsynth.remote import local_copy, remote_address, remote_output
from facsynth.table.table import open_table


@pytest.fixture
def bucket():
    """An empty bucket in memory."""
    system = fsspec.filesystem("memory")
    system.store.clear()
    system.pseudo_dirs[:] = [""]
    yield system
    system.store.clear()


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("s3://b/a.jsonl", "s3://b/a.jsonl"),
        ("s3:/b/a.jsonl", "s3://b/a.jsonl"),
        ("/tmp/a.jsonl", None),
        ("a/b.jsonl", None),
        ("C:/a.jsonl", None),
    ],
)
def test_addresses_are_told_from_paths(name, address):
    assert remote_address(name) == address


def test_a_remote_file_is_read_as_a_local_one(bucket):
    bucket.pipe("/b/data.jsonl", b'{"text": "one"}\n{"text": "two"}\n')
    assert [one.text for one in read_samples("memory://b/data.jsonl")] == ["one", "two"]


def test_the_files_of_a_remote_folder_are_read(bucket):
    bucket.pipe("/b/in/x.jsonl", b'{"text": "one"}\n')
    bucket.pipe("/b/in/y.jsonl", b'{"text": "two"}\n')
    assert [one.text for one in read_samples("memory://b/in")] == ["one", "two"]


def test_a_copy_is_renewed_when_its_file_changes(bucket):
    for text in ("old", "new"):
        bucket.pipe("/b/data.txt", text.encode())
        assert local_copy("memory://b/data.txt").read_text() == text


def test_a_copy_of_a_file_that_is_unchanged_is_kept(bucket, monkeypatch):
    bucket.pipe("/b/data.txt", b"same")
    first = local_copy("memory://b/data.txt")
    monkeypatch.setattr(type(bucket), "get_file", None)
    assert local_copy("memory://b/data.txt") == first


def test_files_that_are_gone_are_gone_from_the_copy(bucket):
    bucket.pipe({"/b/in/x.txt": b"x", "/b/in/y.txt": b"y"})
    local_copy("memory://b/in")
    bucket.rm("/b/in/y.txt")
    assert [path.name for path in local_copy("memory://b/in").iterdir()] == ["x.txt"]


def test_a_table_goes_to_an_address_and_is_opened_there(bucket, tmp_path):
    rows = make_activations([{0: 1.0}, {2: 3.0}])
    with remote_output("memory://b/table") as folder:
        folder.parent.mkdir(parents=True, exist_ok=True)
        write_table(folder, rows, [Sample("a", text="a"), Sample("b", text="b")])
    opened = open_table("memory://b/table")
    assert opened.activations().values.tolist() == [1.0, 3.0]


def test_what_is_deleted_at_an_address_is_not_in_the_way(bucket):
    for name in ("old", "new"):
        with remote_output("memory://b/table") as folder:
            assert not (folder / "manifest.json").exists()
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "manifest.json").write_text(name)
        assert bucket.cat("/b/table/manifest.json").decode() == name
        bucket.rm("/b/table", recursive=True)


def test_what_another_machine_wrote_is_seen_before_it_is_overwritten(bucket):
    bucket.pipe("/b/theirs/manifest.json", b"theirs")
    with remote_output("memory://b/theirs") as folder:
        assert (folder / "manifest.json").read_text() == "theirs"


def test_table_commands_take_addresses(bucket, tmp_path):
    rows = make_activations([{0: 1.0}, {2: 3.0}])
    for name in ("a", "b"):
        with remote_output(f"memory://b/{name}") as folder:
            folder.parent.mkdir(parents=True, exist_ok=True)
            write_table(folder, rows, [Sample("a", text="a"), Sample("b", text="b")])
    done = CliRunner().invoke(main, ["overlap", "memory://b/a", "memory://b/b", "--threshold", "0"])
    assert done.exit_code == 0, done.output


def test_nothing_at_an_address_is_said(bucket):
    with pytest.raises(DataError, match="nothing is at memory://b/none"):
        local_copy("memory://b/none")


def test_an_error_about_a_remote_table_names_its_address(bucket):
    bucket.pipe("/b/table/plan.json", b"{}")
    with pytest.raises(DataError, match=r"^memory://b/table is an unfinished feature table"):
        open_table("memory://b/table")


def test_an_error_while_writing_names_the_address(bucket):
    with (
        pytest.raises(DataError, match=r"^memory://b/table holds another table$"),
        remote_output("memory://b/table") as folder,
    ):
        raise DataError(f"{folder} holds another table")


def test_an_unknown_protocol_is_said():
    with pytest.raises(DataError, match="nowhere://b/x cannot be reached: Protocol not known"):
        local_copy("nowhere://b/x")


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(fsspec.core, "url_to_fs", lambda address: __import__("no_such_package"))
    with pytest.raises(DataError, match="pip install s3fs"):
        local_copy("s3://bucket/data.jsonl")
