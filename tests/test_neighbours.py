"""Features that are alike, against dense NumPy."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from activations import dense, make_activations, row_lists
from facsynth.errors import DataError, MismatchError
from facsynth.table.active import active_rows
from facsynth.understand.neighbours import (
    cluster_features,
    coactive_neighbours,
    decoder_neighbours,
    find_neighbours,
)


def active(table):
    return active_rows(table, threshold=1.0)


@pytest.mark.parametrize("tile", [1, 7, 64])
def test_decoder_neighbours_are_those_of_the_dense_matrix_at_any_tile(tile):
    decoder = np.random.default_rng(0).normal(size=(40, 8)).astype(np.float32)
    unit = decoder / np.linalg.norm(decoder, axis=1, keepdims=True)
    cosine = unit @ unit.T
    np.fill_diagonal(cosine, -np.inf)
    found = decoder_neighbours(decoder, 5, tile=tile)
    assert found.ids.tolist() == np.argsort(-cosine, axis=1)[:, :5].tolist()
    np.testing.assert_allclose(found.similarity, -np.sort(-cosine, axis=1)[:, :5], atol=1e-6)


def test_feature_without_a_direction_has_no_neighbours_and_is_none():
    decoder = np.array([[1, 0], [0, 0], [1, 1]], dtype=np.float32)
    found = decoder_neighbours(decoder, 2)
    assert found.ids.tolist() == [[2, -1], [-1, -1], [0, -1]]
    assert found.similarity[1].tolist() == [0.0, 0.0]


@given(row_lists(), st.sampled_from([0.0, 0.25, 1.0]), st.integers(1, 4))
def test_coactive_neighbours_have_the_jaccard_similarity(rows, threshold, tile):
    table = make_activations(rows, n_features=6)
    active = dense(table) > threshold
    found = coactive_neighbours(
        active_rows(table, threshold=threshold), 5, min_samples=1, tile=tile
    )
    for feature, (ids, shares) in enumerate(zip(found.ids, found.similarity, strict=True)):
        for other, share in zip(ids, shares, strict=True):
            if other >= 0:
                one, two = active[:, feature], active[:, other]
                assert share == pytest.approx((one & two).sum() / (one | two).sum())
        others = [(active[:, feature] & active[:, o]).any() for o in range(6) if o != feature]
        assert (ids >= 0).sum() == sum(others)


def test_rare_features_have_no_coactive_neighbours():
    table = make_activations([{0: 2.0, 1: 2.0, 2: 2.0}, {0: 2.0, 1: 2.0}])
    assert coactive_neighbours(active(table), 3).ids[2].tolist() == [-1, -1, -1]


def test_neighbours_of_some_are_those_of_all():
    decoder = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    table = make_activations([{0: 2.0, 7: 2.0}, {0: 2.0, 3: 2.0}, {3: 2.0, 7: 2.0}], n_features=20)
    for of_all, of_some in (
        (decoder_neighbours(decoder, 3), decoder_neighbours(decoder, 3, of=[7, 2])),
        (
            coactive_neighbours(active(table), 3),
            coactive_neighbours(active(table), 3, of=[7, 2], tile=1),
        ),
    ):
        assert of_some.ids.tolist() == of_all.ids[[7, 2]].tolist()
        assert of_some.similarity.tolist() == of_all.similarity[[7, 2]].tolist()


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


def test_no_neighbours_asked_for_is_an_error():
    with pytest.raises(DataError, match="must be at least 1"):
        decoder_neighbours(np.eye(3, dtype=np.float32), 0)
