"""Shared features, parts of matched size, and redundancy."""

import numpy as np
import pytest
from hypothesis import given, settings

from activations import dense, make_activations, row_lists
from facsynth.compare.overlap import matched_overlap, measure_redundancy, overlap_matrix
from facsynth.errors import DataError

ALL = np.ones(4, dtype=bool)


def rng(seed=0):
    return np.random.default_rng(seed)


def random_set(n, features, seed, n_features=60, n_tokens=10):
    draw = rng(seed)
    rows = [{int(f): 1.0 for f in features if draw.random() < 0.2} for _ in range(n)]
    return make_activations(rows, n_features=n_features, n_tokens=[n_tokens] * n)


def test_overlap_is_a_share_of_the_rows_features():
    small, large = (
        make_activations([{0: 1.0}]),
        make_activations([{0: 1.0, 1: 1.0}, {2: 1.0, 3: 1.0}]),
    )
    assert overlap_matrix([small, large], ALL).tolist() == [[1.0, 1.0], [0.25, 1.0]]


def test_only_relevant_features_count():
    one, other = make_activations([{0: 1.0, 1: 1.0}]), make_activations([{1: 1.0}])
    relevant = np.array([True, True, False, False])
    assert overlap_matrix([one, other], relevant)[0, 1] == 0.5
    assert overlap_matrix([one, other], np.array([False, True, True, True]))[0, 1] == 1.0


def test_matched_share_of_two_samples_of_one_source_is_that_of_its_halves():
    features = np.arange(60)
    one, other = random_set(40, features, 1), random_set(400, features, 2)
    assert overlap_matrix([one, other], np.ones(60, dtype=bool))[0, 1] == 1.0
    found = matched_overlap([one, other], np.ones(60, dtype=bool), n_draws=200, rng=rng())
    assert found.n_samples == 20
    assert np.ptp(found.shares) < 0.03


def test_matched_share_of_different_sources_stays_below_the_diagonal():
    one, other = random_set(60, np.arange(0, 40), 1), random_set(60, np.arange(20, 60), 2)
    found = matched_overlap([one, other], np.ones(60, dtype=bool), n_draws=20, rng=rng())
    assert found.shares[0, 1] < 0.6 < found.shares[0, 0]


def test_two_parts_of_one_set_share_no_sample():
    table = make_activations([{0: 1.0}, {1: 1.0}, {2: 1.0}, {3: 1.0}])
    found = matched_overlap([table], ALL, n_draws=20, rng=rng())
    assert found.shares.tolist() == [[0.0]]


def test_length_that_cannot_be_matched_is_shown():
    one, other = random_set(20, [0, 1], 1), random_set(20, [0, 1], 2, n_tokens=50)
    found = matched_overlap([one, other], np.ones(60, dtype=bool), rng=rng())
    assert found.length_ratios == pytest.approx(np.array([[1.0, 5.0], [0.2, 1.0]]))


@settings(max_examples=30)
@given(row_lists())
def test_greedy_order_keeps_all_features_with_the_fewest_doublings(rows):
    table = make_activations(rows, n_features=6)
    active = dense(table) > 0
    if not active.any():
        return
    found = measure_redundancy(table, np.ones(6, dtype=bool))
    seen = [active[found.order[: k + 1]].any(axis=0).sum() for k in range(found.order.size)]
    assert found.n_kept.tolist() == seen
    assert seen[-1] == found.n_features == active.any(axis=0).sum()
    assert (np.diff([0, *seen]) > 0).all()


def test_copies_need_one_sample():
    found = measure_redundancy(make_activations([{0: 1.0, 1: 1.0}] * 9), ALL)
    assert found.order.size == 1
    assert {greedy for _, greedy, _ in found.needed} == {1}


def test_random_samples_that_keep_as_much_are_counted():
    table = make_activations([{0: 1.0}, {1: 1.0}, {2: 1.0}, {3: 1.0}])
    assert measure_redundancy(table, ALL).needed[0] == (0.5, 2, 2)
    assert measure_redundancy(table, ALL).needed[-1] == (1.0, 4, 4)


def test_set_without_active_features_is_an_error():
    with pytest.raises(DataError, match="data set 2 activates none"):
        overlap_matrix([make_activations([{0: 1.0}]), make_activations([{}])], ALL)


def test_single_sample_has_no_parts():
    with pytest.raises(DataError, match="single sample"):
        matched_overlap([make_activations([{0: 1.0}])], ALL, rng=rng())
