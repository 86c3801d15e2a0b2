"""Shared features, parts of matched size, and redundancy."""

import numpy as np
import pytest
from hypothesis import given, settings

from activations import dense, make_activations, row_lists
from facsynth.compare.overlap import Needed, matched_overlap, measure_redundancy, overlap_matrix
from facsynth.errors import DataError
from facsynth.table.active import active_rows


def rng(seed=0):
    return np.random.default_rng(seed)


def active(rows, n_features=4, n_tokens=None, relevant=None):
    table = make_activations(rows, n_features, n_tokens)
    return active_rows(table, threshold=0.0, relevant=relevant)


def random_set(n, features, seed, n_features=60, n_tokens=10):
    draw = rng(seed)
    rows = [{int(f): 1.0 for f in features if draw.random() < 0.2} for _ in range(n)]
    return active(rows, n_features, [n_tokens] * n)


def test_overlap_is_a_share_of_the_rows_features():
    small, large = (
        active([{0: 1.0}]),
        active([{0: 1.0, 1: 1.0}, {2: 1.0, 3: 1.0}]),
    )
    assert overlap_matrix([small, large]).tolist() == [[1.0, 1.0], [0.25, 1.0]]


def test_only_relevant_features_count():
    for relevant, share in (([1, 1, 0, 0], 0.5), ([0, 1, 1, 1], 1.0)):
        flags = np.array(relevant, dtype=bool)
        sets = [active(rows, relevant=flags) for rows in ([{0: 1.0, 1: 1.0}], [{1: 1.0}])]
        assert overlap_matrix(sets)[0, 1] == share


def test_matched_share_of_two_samples_of_one_source_is_that_of_its_halves():
    features = np.arange(60)
    one, other = random_set(40, features, 1), random_set(400, features, 2)
    assert overlap_matrix([one, other])[0, 1] == 1.0
    found = matched_overlap([one, other], n_draws=200, rng=rng())
    assert found.n_samples == 20
    assert np.ptp(found.shares) < 0.03


def test_matched_share_of_different_sources_stays_below_the_diagonal():
    one, other = random_set(60, np.arange(0, 40), 1), random_set(60, np.arange(20, 60), 2)
    found = matched_overlap([one, other], n_draws=20, rng=rng())
    assert found.shares[0, 1] < 0.6 < found.shares[0, 0]


def test_two_parts_of_one_set_share_no_sample():
    table = active([{0: 1.0}, {1: 1.0}, {2: 1.0}, {3: 1.0}])
    found = matched_overlap([table], n_draws=20, rng=rng())
    assert found.shares.tolist() == [[0.0]]


def test_length_that_cannot_be_matched_is_shown():
    one, other = random_set(20, [0, 1], 1), random_set(20, [0, 1], 2, n_tokens=50)
    found = matched_overlap([one, other], n_draws=20, rng=rng())
    assert found.length_ratios == pytest.approx(np.array([[1.0, 5.0], [0.2, 1.0]]))


@settings(max_examples=30)
@given(row_lists())
def test_greedy_order_keeps_all_features_with_the_fewest_doublings(rows):
    table = active(rows, n_features=6)
    flags = dense(table.activations) > 0
    if not flags.any():
        return
    found = measure_redundancy(table, "set")
    order = [int(name[1:]) for name in found.greedy_order]
    seen = [flags[order[: k + 1]].any(axis=0).sum() for k in range(len(order))]
    assert list(found.n_kept) == seen
    assert seen[-1] == found.n_features == flags.any(axis=0).sum()
    assert (np.diff([0, *seen]) > 0).all()


def test_copies_need_one_sample():
    found = measure_redundancy(active([{0: 1.0, 1: 1.0}] * 9), "set")
    assert found.greedy_order == ("s0",)
    assert {need.greedy for need in found.needed} == {1}


def test_random_samples_that_keep_as_much_are_counted():
    table = active([{0: 1.0}, {1: 1.0}, {2: 1.0}, {3: 1.0}])
    needed = measure_redundancy(table, "set").needed
    assert needed[0] == Needed(0.5, 2, 2)
    assert needed[-1] == Needed(1.0, 4, 4)


def test_set_without_active_features_is_an_error():
    with pytest.raises(DataError, match="data set 2 activates none"):
        overlap_matrix([active([{0: 1.0}]), active([{}])])


def test_single_sample_has_no_parts():
    with pytest.raises(DataError, match="single sample"):
        matched_overlap([active([{0: 1.0}])], n_draws=20, rng=rng())
