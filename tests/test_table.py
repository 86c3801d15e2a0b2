"""Feature tables on disk, and rows taken and stacked."""

import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from activations import dense, make_activations, row_lists
from facsynth.coverage.fac import feature_activation_coverage
from facsynth.errors import DataError, MismatchError
from facsynth.records import Message, Sample, ToolCall
from facsynth.table.active import active_rows
from facsynth.table.alike import check_same_features
from facsynth.table.manifest import TableSource
from facsynth.table.rows import stack_rows, take_rows
from facsynth.table.table import open_table
from facsynth.table.write import finish_table, has_part, samples_hash, start_table, write_part

N = 6
SOURCE = TableSource(
    model_hash="m" * 64,
    sae_hash="s" * 64,
    n_features=N,
    layer=1,
    gate="sae",
    pooling="max",
    score="all",
    max_length=1024,
    chat_format_hash="c" * 64,
    model_name="model",
    sae_name="sae",
)
TURNS = st.lists(st.tuples(st.sampled_from(["system", "user"]), st.text()), max_size=2)


def make_samples(n, start=0):
    return [Sample(f"s{i}", text=f"text {i}") for i in range(start, start + n)]


def write_table(folder, parts, *, source=SOURCE, samples=None):
    """A finished table of one part for each list of rows."""
    starts = np.cumsum([0, *map(len, parts)]).tolist()
    samples = samples or [make_samples(len(p), at) for p, at in zip(parts, starts, strict=False)]
    flat = [sample for part in samples for sample in part]
    start_table(folder, source, samples_hash(flat), part_samples=1024)
    for index, (rows, part) in enumerate(zip(parts, samples, strict=True)):
        ids = [sample.sample_id for sample in part]
        write_part(folder, index, make_activations(rows, n_features=N, sample_ids=ids), part)
    return finish_table(folder, source, samples_hash(flat), n_parts=len(parts))


def assert_equal(one, other):
    for name in ("n_tokens", "row_starts", "feature_ids", "values", "positions"):
        a, b = getattr(one, name), getattr(other, name)
        assert a.dtype == b.dtype
        assert np.array_equal(a, b), name
    assert (one.sample_ids, one.n_features) == (other.sample_ids, other.n_features)


@settings(max_examples=25, deadline=None)
@given(st.lists(row_lists(N, 4), max_size=3))
def test_a_table_is_read_back_as_it_was_written(parts):
    with tempfile.TemporaryDirectory() as folder:
        written = write_table(Path(folder), parts)
        assert open_table(folder).manifest == written.manifest
        read = open_table(folder).activations()
        assert_equal(read, make_activations(sum(parts, []), n_features=N))


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(TURNS, TURNS, st.none() | st.text()), min_size=1, max_size=3))
def test_samples_are_read_back_as_they_were_written(contents):
    samples = []
    for i, (turns, rejected, label) in enumerate(contents):
        messages, others = (tuple(Message(*t) for t in part) for part in (turns, rejected))
        text = None if messages else "plain"
        samples.append(Sample(f"s{i}", messages, text, others if messages else (), label))
    with tempfile.TemporaryDirectory() as folder:
        table = write_table(Path(folder), [[{} for _ in samples]], samples=[samples])
        assert table.samples() == samples


def test_tools_calls_and_reasoning_are_read_back(tmp_path):
    call = Message("assistant", "", reasoning="look it up", tool_calls=(ToolCall("f", "{}", "1"),))
    answer = Message("tool", "4", tool_call_id="1", name="f")
    turns = (Message("user", "2 + 2?"), call, answer)
    sample = Sample("s0", turns, tools=('{"type": "function"}',))
    assert write_table(tmp_path, [[{}]], samples=[[sample]]).samples() == [sample]


def test_values_positions_and_tokens_keep_every_bit(tmp_path):
    rng = np.random.default_rng(0)
    rows = make_activations([{0: 1.0, 5: 1.0}, {}, {3: 1.0}], n_features=N, n_tokens=[7, 0, 2**20])
    rows = replace(
        rows,
        values=rng.random(3, dtype=np.float32),
        positions=np.array([0, 65_534, 40_000], dtype=np.uint16),
    )
    source = replace(SOURCE, max_length=65_535)
    write_part(tmp_path, 0, rows, make_samples(3))
    assert_equal(finish_table(tmp_path, source, "hash", n_parts=1).activations(), rows)


def test_fac_of_the_files_is_the_same_in_pandas(tmp_path):
    rng = np.random.default_rng(0)
    sets = {
        name: [[{f: v for f in range(N) if (v := rng.gamma(1)) > 1.2} for _ in range(2)]] * 2
        for name in ("anchor", "seed")
    }
    active, frames = {}, {}
    for name, parts in sets.items():
        table = write_table(tmp_path / name, parts)
        active[name] = active_rows(table.activations(), threshold=1.5).features
        frame = pd.concat(pd.read_parquet(p) for p in sorted((tmp_path / name).glob("part-*")))
        entries = frame.explode(["feature_ids", "activations"])
        frames[name] = set(entries[entries.activations > 1.5].feature_ids)
    expected = len(frames["seed"] & frames["anchor"]) / len(frames["anchor"])
    everything = np.ones(N, dtype=bool)
    actual = feature_activation_coverage(active["anchor"], active["seed"], everything)
    assert actual == pytest.approx(expected)
    assert 0 < expected < 1


def test_a_folder_that_is_no_table_is_refused(tmp_path):
    with pytest.raises(DataError, match=f"{tmp_path} is not a feature table .manifest.json is mi"):
        open_table(tmp_path)


def test_a_data_file_in_place_of_a_table_says_to_extract_it_first(tmp_path):
    (tmp_path / "data.jsonl").touch()
    with pytest.raises(DataError, match="is a file, not a feature table; run `fac extract .*first"):
        open_table(tmp_path / "data.jsonl")


def test_a_table_is_parsed_once(tmp_path, monkeypatch):
    write_table(tmp_path, [[{0: 1.0}]])
    table = open_table(tmp_path)
    assert (table.activations().n_features, len(table.samples())) == (N, 1)
    monkeypatch.setattr("pyarrow.parquet.read_table", lambda *a, **o: pytest.fail("parsed again"))
    table.activations(hidden=True)
    table.samples()


def test_an_unfinished_table_is_refused(tmp_path):
    start_table(tmp_path, SOURCE, "hash", part_samples=5)
    with pytest.raises(DataError, match="is an unfinished feature table; run the same `fac extrac"):
        open_table(tmp_path)


def test_a_table_of_another_schema_version_is_refused(tmp_path):
    table = write_table(tmp_path, [[{0: 1.0}]])
    row = {**table.manifest.stored(), "schema_version": 2}
    (tmp_path / "manifest.json").write_text(json.dumps(row))
    with pytest.raises(DataError, match="version 2 .* this facsynth reads version 4; extract it"):
        open_table(tmp_path)


def with_hidden(n, start=0):
    states = np.arange(3 * start, 3 * (start + n), dtype=np.float32).reshape(n, 3)
    ids = [sample.sample_id for sample in make_samples(n, start)]
    return replace(make_activations([{0: 1.0}] * n, n_features=N, sample_ids=ids), hidden=states)


def test_hidden_states_are_read_back_bit_by_bit_and_only_when_asked_for(tmp_path):
    for index in range(2):
        write_part(tmp_path, index, with_hidden(2, 2 * index), make_samples(2, 2 * index))
    table = finish_table(tmp_path, replace(SOURCE, hidden=True), "hash", n_parts=2)
    assert table.activations().hidden is None
    read = table.activations(hidden=True).hidden
    assert read.dtype == np.float32
    assert read.tolist() == np.arange(12).reshape(4, 3).tolist()


def test_hidden_states_go_with_their_rows():
    both = stack_rows([with_hidden(2), with_hidden(1, 2)])
    assert take_rows(both, [2, 0]).hidden.tolist() == [[6, 7, 8], [0, 1, 2]]
    assert stack_rows([both, make_activations([{}], n_features=N)]).hidden is None


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"schema_version": 4}', "7"])
def test_a_broken_manifest_is_a_clear_error(tmp_path, content):
    (tmp_path / "manifest.json").write_text(content)
    with pytest.raises(DataError, match="manifest.json is not a feature table's manifest: "):
        open_table(tmp_path)


def test_a_table_is_not_started_over_other_files(tmp_path):
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(DataError, match="exists and is not a feature table; choose another output"):
        start_table(tmp_path, SOURCE, "hash", part_samples=5)
    with pytest.raises(DataError, match="thesis.tex exists and is not a feature table"):
        start_table(tmp_path / "thesis.tex", SOURCE, "hash", part_samples=5)


def test_a_table_is_resumed_in_the_precision_it_was_started_with(tmp_path):
    start_table(tmp_path, replace(SOURCE, dtype="mixed"), "hash", part_samples=5)
    with pytest.raises(DataError, match="dtype 'mixed' there, 'float32' here"):
        start_table(tmp_path, replace(SOURCE, dtype="float32"), "hash", part_samples=5)


def test_a_table_is_not_started_over_another_one(tmp_path):
    start_table(tmp_path, SOURCE, "hash", part_samples=5)
    with pytest.raises(DataError, match="holds a feature table of other samples, model, SAE or"):
        start_table(tmp_path, SOURCE, "other", part_samples=5)
    with pytest.raises(DataError, match="holds a feature table of other samples, model, SAE or"):
        start_table(tmp_path, replace(SOURCE, layer=2), "hash", part_samples=5)


def test_a_table_is_resumed_in_the_parts_it_was_started_with(tmp_path):
    assert start_table(tmp_path, SOURCE, "hash", part_samples=5) == 5
    assert start_table(tmp_path, SOURCE, "hash", part_samples=9) == 5


def test_what_a_kill_left_behind_does_not_make_a_folder_foreign(tmp_path):
    (tmp_path / ".tmp-123-abcd-plan.json").touch()
    assert start_table(tmp_path, SOURCE, "hash", part_samples=5) == 5


def test_a_part_counts_once_its_features_are_written(tmp_path):
    assert not has_part(tmp_path, 0)
    write_part(tmp_path, 0, make_activations([{0: 1.0}]), make_samples(1))
    assert has_part(tmp_path, 0)
    assert not has_part(tmp_path, 1)


@pytest.mark.parametrize(
    ("name", "value", "shown"),
    [
        ("model_hash", "n" * 64, "mmmmmmmmmmmm… in the first and nnnnnnnnnnnn… in the second"),
        ("sae_hash", "t" * 64, "ssssssssssss… in the first and tttttttttttt… in the second"),
        ("layer", 2, "1 in the first and 2 in the second"),
        ("score", "user", "all in the first and user in the second"),
    ],
)
def test_tables_of_other_features_do_not_compare(tmp_path, name, value, shown):
    one = write_table(tmp_path / "one", [])
    other = write_table(tmp_path / "other", [], source=replace(SOURCE, **{name: value}))
    with pytest.raises(MismatchError, match=f"one and .*other do not compare: {name} is {shown}"):
        check_same_features(one, other)


def test_tables_with_other_names_for_the_same_thing_compare(tmp_path):
    one = write_table(tmp_path / "one", [])
    renamed = replace(SOURCE, model_name="copy", sae_name="copy")
    check_same_features(one, write_table(tmp_path / "other", [], source=renamed))


@settings(deadline=None)
@given(row_lists(N), st.data())
def test_taken_rows_are_those_of_the_dense_table(rows, data):
    table = make_activations(rows, n_features=N, n_tokens=list(range(len(rows))))
    index = data.draw(st.lists(st.integers(0, len(rows) - 1)))
    taken = take_rows(table, index)
    assert np.array_equal(dense(taken), dense(table)[index])
    assert taken.n_tokens.tolist() == index
    assert taken.sample_ids == tuple(f"s{i}" for i in index)


@settings(deadline=None)
@given(st.lists(row_lists(N, 3), min_size=1, max_size=4))
def test_stacked_rows_are_those_of_the_dense_tables(parts):
    tables = [make_activations(rows, n_features=N) for rows in parts]
    stacked = stack_rows(tables)
    assert np.array_equal(dense(stacked), np.concatenate([dense(table) for table in tables]))
    assert stacked.sample_ids == sum((table.sample_ids for table in tables), ())


def test_tables_of_different_widths_are_not_stacked():
    with pytest.raises(MismatchError, match=r"different widths cannot be stacked: \[4, 6\]"):
        stack_rows([make_activations([], n_features=n) for n in (6, 4)])


def test_the_hash_of_samples_depends_on_content_and_order():
    samples = make_samples(3)
    others = [samples[::-1], samples[:2], [*samples[:2], replace(samples[2], label="x")]]
    assert len({samples_hash(s) for s in [samples, *others]}) == 4
    assert samples_hash(samples) == samples_hash(make_samples(3))
