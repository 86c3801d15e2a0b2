"""The strongest samples of each feature, with and without the index beside a table."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from activations import dense, make_activations, row_lists, write_table
from facsynth.records import Sample
from facsynth.table import strongest
from facsynth.table.strongest import INDEX_FILE, strongest_entries
from facsynth.table.table import open_table


def brute(rows, feature, n):
    column = dense(rows)[:, feature]
    order = np.argsort(-column, kind="stable")[:n]
    return [(int(row), float(column[row])) for row in order if column[row] > 0]


def found(rows, feature, n):
    return [(one.row, one.activation) for one in strongest_entries(rows, [feature], n)[feature]]


@given(row_lists(), st.integers(0, 5), st.integers(1, 9))
def test_entries_of_rows_in_memory_are_those_of_the_dense_table(rows, feature, n):
    made = make_activations(rows, n_features=6)
    assert found(made, feature, n) == brute(made, feature, n)


@pytest.fixture
def rows(monkeypatch):
    """Two hundred rows that count as large and are compacted all the time."""
    monkeypatch.setattr(strongest, "_SMALL", 0)
    monkeypatch.setattr(strongest, "_WAITING", 10)
    monkeypatch.setattr(strongest, "_LEAST_KEPT", 3)
    rng = np.random.default_rng(0)
    picked = [{int(f): float(rng.integers(1, 9)) for f in rng.choice(6, 3)} for _ in range(200)]
    return make_activations(picked, n_features=6)


def written(folder, rows):
    ids = range(len(rows.sample_ids))
    write_table(folder, rows, [Sample(f"s{i}", text=f"text {i}") for i in ids])
    return open_table(folder)


@pytest.mark.parametrize("n", [1, 3, 40])
def test_entries_from_the_index_are_those_of_the_dense_table(tmp_path, rows, n):
    table = written(tmp_path / "t", rows)
    assert [found(table, f, n) for f in range(6)] == [brute(rows, f, n) for f in range(6)]


def test_a_second_question_reads_the_index_only(tmp_path, rows, monkeypatch):
    table = written(tmp_path / "t", rows)
    first = found(table, 2, 3)
    monkeypatch.setattr(strongest, "read_blocks", lambda table: 1 / 0)
    assert found(table, 2, 3) == first


def test_the_index_of_another_table_is_made_again(tmp_path, rows):
    old = written(tmp_path / "old", rows)
    found(old, 1, 3)
    fewer = make_activations([{1: 2.0}, {}, {1: 5.0}], n_features=6)
    new = written(tmp_path / "new", fewer)
    (old.folder / INDEX_FILE).rename(new.folder / INDEX_FILE)
    assert found(new, 1, 3) == [(2, 5.0), (0, 2.0)]


def test_a_broken_index_is_made_again(tmp_path, rows):
    table = written(tmp_path / "t", rows)
    right, path = found(table, 3, 3), table.folder / INDEX_FILE
    path.write_bytes(path.read_bytes()[:200] + b"junk")
    assert found(table, 3, 3) == right
