"""Tampered and broken feature tables: one clear error, never a wrong answer."""

import json
import os
from dataclasses import replace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from activations import make_activations
from facsynth.cli import main
from facsynth.errors import DataError
from facsynth.table.doctor import check_table
from facsynth.table.manifest import part_path
from facsynth.table.parts import store_facts
from facsynth.table.table import open_table
from facsynth.table.write import drop_broken_parts, finish_table, has_part, write_part
from test_table import SOURCE, make_samples, write_table

N = SOURCE.n_features


@pytest.fixture
def folder(tmp_path):
    write_table(tmp_path / "t", [[{0: 1.0, 3: 2.0}, {1: 1.0}], [{2: 1.0}, {5: 3.0}]])
    return tmp_path / "t"


def read_all(folder):
    table = open_table(folder)
    return table.activations(hidden=True), table.samples()


def forge(folder, change, *, inner=".", index=0):
    """Change a part as a stranger would who also repairs size and checksum in the manifest."""
    path, manifest = part_path(folder, index, inner), folder / "manifest.json"
    pq.write_table(change(pq.read_table(path)), path)
    row = json.loads(manifest.read_text())
    stored = store_facts(path)
    name = "features" if inner == "." else inner
    row["parts"][index][name] = {"n_bytes": stored.n_bytes, "sha256": stored.sha256}
    manifest.write_text(json.dumps(row))


def with_column(name, values):
    def change(table):
        place = table.column_names.index(name)
        return table.set_column(place, name, pa.array(values, table.schema.field(name).type))

    return change


CHANGES = {
    "an id beyond the width": ("feature_ids", [[0, 99], [1]], "feature ids above 5"),
    "an id twice": ("feature_ids", [[3, 3], [1]], "repeat or do not ascend"),
    "ids out of order": ("feature_ids", [[3, 0], [1]], "repeat or do not ascend"),
    "NaN": ("activations", [[1.0, float("nan")], [1.0]], "not finite numbers above 0"),
    "infinity": ("activations", [[1.0, float("inf")], [1.0]], "not finite numbers above 0"),
    "a negative value": ("activations", [[1.0, -2.0], [1.0]], "not finite numbers above 0"),
    "lists of other lengths": ("activations", [[1.0], [1.0, 2.0]], "lists differ in length"),
    "an empty cell": ("feature_ids", [None, [1]], "empty cells"),
    "an empty entry": ("activations", [[1.0, None], [1.0]], "empty cells"),
    "a negative count of tokens": ("n_tokens", [-1, 21], "negative token counts"),
    "another count of tokens": ("n_tokens", [10, 11], "other counts than the manifest"),
    "a position behind the end": ("positions", [[0, 5000], [0]], "token positions above 1,023"),
    "a sample twice": ("sample_id", ["s0", "s0"], "sample ids repeat"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_forged_rows_are_refused(folder, change):
    name, values, complaint = CHANGES[change]
    forge(folder, with_column(name, values))
    with pytest.raises(DataError, match=f"part-00000.parquet is broken: .*{complaint}"):
        open_table(folder).activations()


def test_swapped_parts_are_refused(folder):
    one, other = part_path(folder, 0), part_path(folder, 1)
    spare = folder / "spare"
    one.rename(spare), other.rename(one), spare.rename(other)
    with pytest.raises(DataError, match="part-00000.parquet is broken"):
        open_table(folder).activations()


def test_samples_in_another_order_than_the_rows_are_refused(folder):
    forge(folder, lambda table: table.take([1, 0]), inner="samples")
    with pytest.raises(DataError, match="its samples are not those of part-00000.parquet in their"):
        open_table(folder).samples()


def test_a_sample_that_two_parts_hold_is_refused(tmp_path):
    for index in range(2):
        write_part(tmp_path, index, make_activations([{0: 1.0}], n_features=N), make_samples(1))
    table = finish_table(tmp_path, SOURCE, "hash", n_parts=2)
    with pytest.raises(DataError, match="holds several samples of one id"):
        table.activations()


TURN = {"role": "user", "content": "hi", "tool_calls": []}
SAMPLES = {
    "an unknown role": ("messages", [[TURN | {"role": "root"}], []]),
    "no content": ("messages", [[TURN | {"content": None}], []]),
    "no list of messages": ("messages", [None, []]),
    "neither text nor messages": ("text", [None, "b"]),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_forged_samples_are_refused(folder, name):
    forge(folder, with_column(*SAMPLES[name]), inner="samples")
    with pytest.raises(DataError, match=r"samples.part-00000.parquet is broken: a row is not a s"):
        open_table(folder).samples()


def test_a_text_that_is_not_utf8_is_refused(folder):
    broken = pa.array([b"\xff", b"b"]).view(pa.string())
    forge(folder, lambda t: t.set_column(2, "text", broken), inner="samples")
    with pytest.raises(DataError, match="a text is not UTF-8"):
        open_table(folder).samples()


@pytest.mark.parametrize("inner", [".", "samples"])
def test_one_changed_byte_is_refused(folder, inner):
    path = part_path(folder, 1, inner)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(DataError, match="its checksum is not that of the file that was written"):
        read_all(folder)


def test_truncated_and_missing_parts_are_refused_at_once(folder):
    path = part_path(folder, 1)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataError, match="part-00001.parquet is broken: it has .* bytes, and"):
        open_table(folder)
    path.unlink()
    with pytest.raises(DataError, match="part-00001.parquet is broken: it is missing"):
        open_table(folder)


@pytest.mark.parametrize("target", ["/dev/zero", "/dev/null"])
def test_a_link_to_a_device_is_no_part(folder, target):
    path = part_path(folder, 0)
    path.unlink()
    path.symlink_to(target)
    with pytest.raises(DataError, match="part-00000.parquet is broken: it is missing"):
        open_table(folder)


def test_a_pipe_without_a_writer_is_no_manifest(folder):
    (folder / "manifest.json").unlink()
    os.mkfifo(folder / "manifest.json")
    with pytest.raises(DataError, match="is an unfinished feature table"):
        open_table(folder)


MANIFESTS = {
    "a huge width": ({"source": {"n_features": 10**12}}, "n_features is 1000000000000"),
    "no width": ({"source": {"n_features": 0}}, "n_features is 0"),
    "a width in words": ({"source": {"n_features": "6"}}, "`source.n_features` is .6.*integer"),
    "an unknown gate": ({"source": {"gate": "magic"}}, "`source.gate`"),
    "a negative layer": ({"source": {"layer": -1}}, "layer is -1"),
    "an unknown key": ({"source": {"code": "x"}}, "unknown key `source.code`"),
    "another sum": ({"n_samples": 5}, "says n_samples 5, and its parts have 4"),
    "no parts": ({"parts": None}, "`parts` is null"),
    "a huge version": ({"schema_version": "9" * 10**6}, "in version 9{20} of"),
}


@pytest.mark.parametrize("name", MANIFESTS)
def test_forged_manifests_are_refused_in_one_short_line(folder, name):
    changes, complaint = MANIFESTS[name]
    path = folder / "manifest.json"
    row = json.loads(path.read_text())
    for key, value in changes.items():
        row[key] = row[key] | value if isinstance(value, dict) else value
    path.write_text(json.dumps(row))
    with pytest.raises(DataError, match=complaint) as caught:
        open_table(folder)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("content", ["[" * 10**5, '{"schema_version": NaN}', "\x00", "9" * 10**5])
def test_a_manifest_that_no_parser_likes_is_refused(folder, content):
    (folder / "manifest.json").write_text(content)
    with pytest.raises(DataError, match="is not a feature table's manifest"):
        open_table(folder)


def test_more_activations_than_bytes_can_hold_are_refused_before_memory_is_taken(folder):
    path = folder / "manifest.json"
    row = json.loads(path.read_text())
    row["parts"][0]["n_entries"] += 10**12
    path.write_text(json.dumps(row | {"n_entries": row["n_entries"] + 10**12}))
    with pytest.raises(DataError, match="activations do not fit into its size"):
        open_table(folder).activations()


@pytest.mark.parametrize("state", [float("nan"), float("inf")])
def test_hidden_states_that_are_not_finite_are_refused(tmp_path, state):
    hidden = np.array([[1.0, state]], dtype=np.float32)
    rows = replace(make_activations([{0: 1.0}], n_features=N), hidden=hidden)
    write_part(tmp_path, 0, rows, make_samples(1))
    table = finish_table(tmp_path, replace(SOURCE, hidden=True), "hash", n_parts=1)
    with pytest.raises(DataError, match="its states are not all finite"):
        table.activations(hidden=True)


def test_a_junk_part_of_an_unfinished_table_is_forgotten(folder):
    (folder / "manifest.json").unlink()
    part_path(folder, 0).write_bytes(b"junk")
    ids = [("s0", "s1"), ("s2", "s3")]
    [complaint] = drop_broken_parts(folder, SOURCE, ids.__getitem__, n_parts=2)
    assert "part-00000.parquet is broken" in complaint
    assert [has_part(folder, index) for index in range(2)] == [False, True]


def test_a_part_of_other_samples_is_forgotten(folder):
    ids = [("s0", "s1"), ("s2", "s3")]
    assert drop_broken_parts(folder, SOURCE, ids.__getitem__, n_parts=2) == []
    ids[1] = ("s9", "s3")
    [complaint] = drop_broken_parts(folder, SOURCE, ids.__getitem__, n_parts=2)
    assert "holds other samples" in complaint


def test_the_doctor_finds_nothing_in_a_whole_table(folder):
    run = CliRunner().invoke(main, ["doctor", str(folder), "--json"])
    row = json.loads(run.stdout)
    assert (run.exit_code, row["whole"], row["n_whole"], row["n_samples_whole"]) == (0, True, 2, 4)


def test_the_doctor_goes_on_behind_a_fault_and_says_what_can_be_saved(folder):
    part_path(folder, 0).write_bytes(b"junk")
    run = CliRunner().invoke(main, ["doctor", str(folder), "--json"])
    row = json.loads(run.stdout)
    assert (run.exit_code, row["n_whole"], row["n_samples_whole"]) == (1, 1, 2)
    assert "the 1 whole parts are kept" in row["advice"]


def test_the_doctor_notices_other_samples_than_were_extracted(folder):
    forge(folder, with_column("text", ["other", "texts"]), inner="samples")
    assert check_table(folder).complaints == (
        "the samples are not those, or not in the order, that were extracted",
    )
