"""Data and tables in S3 and Google Cloud Storage: s3fs and gcsfs against servers on this machine.

Needs `pip install s3fs 'moto[server]'` and `pip install gcsfs gcp-storage-emulator`.
"""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from click.testing import CliRunner

from facsynth.cli.group import main
from facsynth.data.read import read_samples
from facsynth.errors import DataError
from facsynth.table.table import open_table
from tiny_pair import save_pair

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]


@contextmanager
def amazon(monkeypatch) -> Iterator[Any]:
    """S3 as moto plays it."""
    s3fs, moto = pytest.importorskip("s3fs"), pytest.importorskip("moto.server")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://{host}:{port}")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "testing")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    s3fs.S3FileSystem.clear_instance_cache()
    yield s3fs.S3FileSystem()
    s3fs.S3FileSystem.clear_instance_cache()
    server.stop()


@contextmanager
def google(monkeypatch) -> Iterator[Any]:
    """Cloud Storage as its emulator plays it."""
    gcsfs = pytest.importorskip("gcsfs")
    emulator = pytest.importorskip("gcp_storage_emulator.server")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    server = emulator.create_server("127.0.0.1", port, in_memory=True)
    server.start()
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", f"http://127.0.0.1:{port}")
    gcsfs.GCSFileSystem.clear_instance_cache()
    yield gcsfs.GCSFileSystem()
    gcsfs.GCSFileSystem.clear_instance_cache()
    server.stop()


@pytest.fixture(params=[amazon, google], ids=["s3", "gs"])
def bucket(request, monkeypatch):
    """A file system with an empty bucket, and the bucket's address."""
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with request.param(monkeypatch) as system:
        system.mkdir("bucket")
        yield system, "s3://bucket" if request.param is amazon else "gs://bucket"
        system.rm("bucket", recursive=True)  # servers of one process share what they hold


def run(*words):
    done = CliRunner().invoke(main, [*map(str, words)], catch_exceptions=False)
    assert done.exit_code == 0, done.output


def test_data_in_a_bucket_becomes_a_table_in_it(bucket, tmp_path):
    system, address = bucket
    model, sae = save_pair(tmp_path)
    rows = "".join(json.dumps({"text": f"the cat saw {i} red tree"}) + "\n" for i in range(5))
    (tmp_path / "data.jsonl").write_text(rows)
    system.pipe("bucket/in/data.jsonl", rows.encode())
    own = ("--model", model, "--sae", sae)
    run("extract", tmp_path / "data.jsonl", "-o", tmp_path / "table", *own)
    run("extract", f"{address}/in/data.jsonl", "-o", f"{address}/table", *own)
    part = (tmp_path / "table" / "part-00000.parquet").read_bytes()
    assert system.cat("bucket/table/part-00000.parquet") == part
    assert open_table(f"{address}/table").manifest.n_samples == 5
    run("coverage", "--anchor", f"{address}/table", "--seed", tmp_path / "table")


def test_an_object_that_changes_is_read_again(bucket):
    system, address = bucket
    for text in ("one", "two"):
        system.pipe("bucket/data.jsonl", json.dumps({"text": text}).encode())
        found = read_samples(f"{address}/data.jsonl")
        assert [sample.text for sample in found] == [text]


@pytest.mark.parametrize("name", ["bucket/none.jsonl", "no-such-bucket/data.jsonl"])
def test_nothing_in_a_bucket_is_said(bucket, name):
    address = f"{bucket[1].partition(':')[0]}://{name}"
    with pytest.raises(DataError, match=address):
        read_samples(address)
