import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from activations import firing, make_activations, row_lists, write_table
from facsynth.records import Message, Sample, sample_text
from facsynth.table import firing as module
from facsynth.table.active import active_rows
from facsynth.table.blocks import exact_quantiles
from facsynth.table.columns import has_pairs, read_labels, read_samples, read_texts
from facsynth.table.table import open_table

TABLES = st.integers(0, 2**32 - 1).map(
    lambda seed: np.random.default_rng(seed).random((9, 5)) < np.linspace(0.0, 0.9, 5)
)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    monkeypatch.setattr(module, "BLOCK_ENTRIES", 4)
    monkeypatch.setattr(module, "_SUM_ENTRIES", 4)


@given(TABLES)
def test_products_in_blocks_equal_dense_products(fires):
    rows, rng = firing(fires), np.random.default_rng(0)
    samples, features = rng.random((3, 9)), rng.random(5)
    np.testing.assert_allclose(rows.sum_samples(list(samples)), samples @ fires)
    np.testing.assert_allclose(rows.sum_features(features), fires @ features)
    assert (rows.counts() == fires.sum(axis=0)).all()


@given(TABLES, st.integers(1, 40))
def test_flags_choose_samples_exactly(fires, n_choices):
    chosen = np.random.default_rng(1).random((n_choices, 9)) < 0.4
    rows = firing(fires)
    assert (rows.sum_samples(list(chosen)) == chosen.astype(int) @ fires).all()
    assert (rows.seen_in(list(chosen)) == (chosen.astype(int) @ fires > 0)).all()


@given(TABLES)
def test_parts_and_columns_equal_those_of_the_dense_table(fires):
    rows = firing(fires)
    assert (rows.take([8, 0, 0, 3]).csr().toarray() == fires[[8, 0, 0, 3]]).all()
    flags = np.array([True, False, True, True, False])
    assert (rows.only(flags).csr().toarray() == fires * flags).all()
    starts, owners = rows.by_feature()
    for feature in range(5):
        column = owners[starts[feature] : starts[feature + 1]]
        assert column.tolist() == np.flatnonzero(fires[:, feature]).tolist()


@given(
    st.lists(st.lists(st.floats(2**-20, 2**20, width=32)), min_size=1),
    st.lists(st.sampled_from([0.0, 0.25, 0.5, 0.9, 1.0]), min_size=1),
)
def test_quantiles_in_pieces_equal_those_of_all_values(pieces, shares):
    arrays = [np.array(piece, dtype=np.float32) for piece in pieces]
    found, every = exact_quantiles(lambda: iter(arrays), shares), np.concatenate(arrays)
    if every.size:
        np.testing.assert_allclose(found, np.quantile(every, shares), rtol=1e-6)
    else:
        assert np.isnan(found).all()


@given(rows=row_lists())
def test_a_table_on_disk_and_one_in_memory_give_the_same_rows(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("t") / "table"
    table = make_activations(rows, n_features=6)
    write_table(folder, table, [Sample(f"s{i}", text="x") for i in range(len(rows))])
    relevant = np.array([True, False, True, True, True, False])
    one, other = (active_rows(data, threshold=0.25, relevant=relevant) for data in (table, folder))
    for name in ("sample_ids", "n_tokens", "counts", "sums", "peaks", "highest"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))
    assert (one.matrix != other.matrix).nnz == 0
    np.testing.assert_array_equal(one.quantiles([0.5]), other.quantiles([0.5]))


def test_several_tables_count_together():
    tables = [make_activations([{0: 2.0}, {1: 2.0}]), make_activations([{0: 3.0}])]
    rows = active_rows(tables, threshold=1.0)
    assert (rows.n_samples, rows.counts.tolist()) == (3, [2, 1, 0, 0])
    assert rows.activations.values.tolist() == [2.0, 2.0, 3.0]


def test_columns_of_samples_are_those_of_the_samples(tmp_path):
    turns = (Message("user", "a"), Message("assistant", "b"))
    samples = [
        Sample("1", messages=turns, label="x"),
        Sample("2", text="t"),
        Sample("3", messages=turns, rejected=turns[:1]),
    ]
    write_table(tmp_path / "t", make_activations([{0: 1.0}] * 3), samples)
    table = open_table(tmp_path / "t")
    assert read_labels(table) == ["x", None, None]
    assert list(read_texts(table)) == list(map(sample_text, samples))
    assert has_pairs(table)
    assert read_samples(table, [2, 0]) == [samples[2], samples[0]]
