"""Data and tables in S3, by s3fs itself against moto's server; both are installed by hand."""

import json

import pytest
from click.testing import CliRunner

from facsynth.cli.group import main
from facsynth.data.read import read_samples
from facsynth.errors import DataError
from facsynth.table.table import open_table
from tiny_pair import save_pair

s3fs = pytest.importorskip("s3fs", reason="pip install s3fs 'moto[server]'")
moto = pytest.importorskip("moto.server", reason="pip install s3fs 'moto[server]'")

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@pytest.fixture
def bucket(monkeypatch):
    """A bucket at a server of its own."""
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    s3fs.S3FileSystem.clear_instance_cache()
    system = s3fs.S3FileSystem()
    system.mkdir("bucket")
    yield system
    system.rm("bucket", recursive=True)  # servers of one process share what they hold
    s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


def run(*words):
    done = CliRunner().invoke(main, [*map(str, words)], catch_exceptions=False)
    assert done.exit_code == 0, done.output


def test_data_in_a_bucket_becomes_a_table_in_it(bucket, tmp_path):
    model, sae = save_pair(tmp_path)
    rows = "".join(json.dumps({"text": f"the cat saw {i} red tree"}) + "\n" for i in range(5))
    (tmp_path / "data.jsonl").write_text(rows)
    bucket.pipe("bucket/in/data.jsonl", rows.encode())
    own = ("--model", model, "--sae", sae)
    run("extract", tmp_path / "data.jsonl", "-o", tmp_path / "table", *own)
    run("extract", "s3://bucket/in/data.jsonl", "-o", "s3://bucket/table", *own)
    part = (tmp_path / "table" / "part-00000.parquet").read_bytes()
    assert bucket.cat("bucket/table/part-00000.parquet") == part
    assert open_table("s3://bucket/table").manifest.n_samples == 5
    run("coverage", "--anchor", "s3://bucket/table", "--seed", tmp_path / "table")


def test_an_object_that_changes_is_read_again(bucket):
    for text in ("one", "two"):
        bucket.pipe("bucket/data.jsonl", json.dumps({"text": text}).encode())
        assert [sample.text for sample in read_samples("s3://bucket/data.jsonl")] == [text]


@pytest.mark.parametrize("address", ["s3://bucket/none.jsonl", "s3://no-such-bucket/data.jsonl"])
def test_nothing_in_a_bucket_is_said(bucket, address):
    with pytest.raises(DataError, match=f"{address}"):
        read_samples(address)
