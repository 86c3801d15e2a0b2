"""Distances between the firing shares of seed and anchor."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from facsynth.coverage.representative import (
    firing_correlation,
    hellinger_distance,
    log_odds,
    measure_representativeness,
)

COUNTS = st.lists(st.integers(0, 30), min_size=5, max_size=5).map(np.array).filter(np.any)


def test_distance_equals_the_value_worked_out_by_hand():
    seed, anchor = np.array([4, 0]), np.array([5, 5])
    assert hellinger_distance(seed, anchor) == pytest.approx(np.sqrt(1 - np.sqrt(0.5)))


def test_sets_without_a_common_feature_are_at_distance_one():
    assert hellinger_distance(np.array([3, 0]), np.array([0, 9])) == pytest.approx(1.0)


@settings(deadline=None, max_examples=40)
@given(COUNTS, COUNTS)
def test_distances_are_symmetric_and_within_range(seed, anchor):
    assert 0.0 <= hellinger_distance(seed, anchor) <= 1.0
    assert hellinger_distance(seed, anchor) == pytest.approx(hellinger_distance(anchor, seed))


def test_firing_everything_more_often_is_no_distance():
    counts = np.array([1, 5, 0, 7])
    assert hellinger_distance(3 * counts, counts) == pytest.approx(0.0, abs=1e-7)


def test_correlation_equals_numpy_on_features_that_fire():
    seed, anchor = np.array([1, 4, 0, 2, 0]), np.array([2, 9, 1, 1, 0])
    expected = np.corrcoef(seed[:4], anchor[:4])[0, 1]
    assert firing_correlation(seed, anchor) == pytest.approx(expected)


def test_correlation_of_a_constant_vector_is_undefined():
    assert firing_correlation(np.array([2, 2, 2]), np.array([1, 2, 3])) is None


def test_log_odds_equal_the_values_worked_out_by_hand():
    delta, z = log_odds(np.array([3, 1]), np.array([1, 1]))
    expected = np.log(3.5 / 1.5) - np.log(1.5 / 1.5)
    assert delta[0] == pytest.approx(expected)
    assert z[0] == pytest.approx(expected / np.sqrt(1 / 3.5 + 1 / 1.5))


def test_most_shifted_features_are_listed_with_their_counts():
    seed, anchor = np.array([20, 5, 5, 0]), np.array([5, 5, 20, 0])
    found = measure_representativeness(seed, anchor)
    assert [s.feature_id for s in found.over_fired] == [0]
    assert [s.feature_id for s in found.under_fired] == [2]
    assert (found.over_fired[0].n_seed_samples, found.over_fired[0].n_anchor_samples) == (20, 5)
    assert found.n_compared == 3


def test_list_of_shifts_has_a_limit():
    seed, anchor = np.array([9, 40, 60, 80, 0]), np.array([9, 10, 10, 10, 150])
    found = measure_representativeness(seed, anchor, n_shifts=2)
    assert [s.feature_id for s in found.over_fired] == [3, 2]


def test_seed_that_fires_nothing_has_no_shares():
    assert measure_representativeness(np.array([0, 0]), np.array([1, 2])) is None
