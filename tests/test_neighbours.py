"""Features that are alike, against dense NumPy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from activations import dense, make_activations, row_lists
from facsynth.errors import MismatchError
from facsynth.table.active import active_rows
from facsynth.understand.neighbours import (
    cluster_features,
    coactive_neighbours,
    decoder_neighbours,
    find_neighbours,
)


def active(table):
    return active_rows(table, threshold=1.0)


def by_decoder(decoder, of, n):
    return decoder_neighbours(decoder, of, n, among=np.ones(len(decoder), dtype=bool))


@pytest.mark.parametrize("tile", [1, 7, 64])
def test_decoder_neighbours_are_those_of_the_dense_matrix_at_any_tile(monkeypatch, tile):
    monkeypatch.setattr("facsynth.understand.neighbours._TILE", tile)
    decoder = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)
    unit = decoder / np.linalg.norm(decoder, axis=1, keepdims=True)
    cosine = unit @ unit.T
    np.fill_diagonal(cosine, -np.inf)
    found = by_decoder(decoder, range(39, -1, -1), 5)
    assert found == np.argsort(-cosine, axis=1)[::-1, :5].tolist()


def test_feature_without_a_direction_has_no_neighbours_and_is_none():
    decoder = np.array([[1, 0], [0, 0], [1, 1]], dtype=np.float32)
    assert by_decoder(decoder, [0, 1, 2], 2) == [[2], [], [0]]


@given(row_lists(), st.sampled_from([0.0, 0.25, 1.0]))
def test_coactive_neighbours_are_sorted_by_jaccard_similarity(rows, threshold):
    table = make_activations(rows, n_features=6)
    active = dense(table) > threshold
    common = active & (active.sum(axis=0) > 1)
    found = coactive_neighbours(active_rows(table, threshold=threshold), range(6), 5)
    for feature, others in enumerate(found):
        both = (common[:, [feature]] & common).sum(axis=0)
        shares = both / np.maximum((active[:, [feature]] | active).sum(axis=0), 1)
        wanted = [int(o) for o in np.argsort(-shares, kind="stable") if shares[o] and o != feature]
        assert others == wanted


def test_rare_features_have_no_coactive_neighbours():
    table = make_activations([{0: 2.0, 1: 2.0, 2: 2.0}, {0: 2.0, 1: 2.0}])
    assert coactive_neighbours(active(table), [2, 0], 3) == [[], [1]]


DECODER = np.array([[1, 0], [3, 4], [0, 2], [1, 0.1], [-1, 0]], dtype=np.float32)
TABLE = active(
    make_activations(
        [{0: 2.0, 2: 2.0}, {0: 2.0, 1: 2.0, 2: 2.0}, {0: 2.0, 1: 0.5}, {4: 2.0}], n_features=5
    )
)


def test_neighbours_by_samples_come_before_those_by_direction():
    # feature 0 is in 3 samples, 1 in one of them, 2 in two; 3 is never active and left out
    found = find_neighbours(TABLE, DECODER, [0], n_each=1)[0]
    assert [near.feature_id for near in found] == [2, 1]
    assert [near.cosine for near in found] == pytest.approx([0.0, 0.6])
    assert [near.shared for near in found] == pytest.approx([2 / 3, 1 / 3])


def test_neighbours_of_nothing_are_none_and_a_foreign_decoder_is_an_error():
    assert find_neighbours(TABLE, DECODER, []) == {}
    with pytest.raises(MismatchError, match="has 5 features and the SAE 4"):
        find_neighbours(TABLE, DECODER[:4], [0])


def test_groups_join_while_the_mean_similarity_is_high_enough():
    # of 0 and 1: (1/3 + 0.6) / 2 = 0.47; of 0 and 2: (2/3 + 0) / 2 = 0.33; of 1 and 2:
    # (1/2 + 0.8) / 2 = 0.65. So 1 and 2 join, and 0 joins them at (0.47 + 0.33) / 2 = 0.4.
    def groups(least):
        return cluster_features(TABLE, DECODER, [0, 4, 1, 2], min_similarity=least)

    assert groups(0.66) == [(0,), (4,), (1,), (2,)]
    assert groups(0.5) == [(0,), (4,), (1, 2)]
    assert groups(0.39) == [(0, 1, 2), (4,)]


def test_one_feature_is_a_group():
    assert cluster_features(TABLE, DECODER, [3]) == [(3,)]
