"""Random subsets and random features that FAC is read against."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from activations import make_activations
from facsynth.coverage import controls
from facsynth.coverage.controls import (
    frequency_matched_features,
    length_auc,
    length_matched_subset,
)
from facsynth.errors import DataError
from facsynth.table.active import active_rows

ALL = np.ones(4, dtype=bool)
LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=30).map(np.array)


def rng(seed=0):
    return np.random.default_rng(seed)


def measure_controls(anchor, seed, relevant, **options):
    rows = [active_rows(table, threshold=0.0) for table in (anchor, seed)]
    return controls.measure_controls(*rows, relevant, **options)


def lengths(low, high, size):
    return rng(size).integers(low, high, size)


@settings(deadline=None, max_examples=80)
@given(LENGTHS, LENGTHS, st.integers(0, 5))
def test_matched_subset_takes_no_sample_twice(anchor, target, draw):
    chosen = length_matched_subset(anchor, target, rng=rng(draw))
    assert chosen.size == np.unique(chosen).size == min(anchor.size, target.size)
    assert chosen.min() >= 0
    assert chosen.max() < anchor.size


def test_matched_subset_has_the_lengths_of_the_target():
    anchor, target = lengths(1, 200, 4000), lengths(80, 120, 100)
    chosen = anchor[length_matched_subset(anchor, target, rng=rng())]
    quantiles = [0.1, 0.5, 0.9]
    assert np.quantile(chosen, quantiles) == pytest.approx(np.quantile(target, quantiles), abs=6)


def test_matched_subset_is_not_biased_where_the_anchor_is_thin():
    anchor, target = np.arange(0, 200), np.full(21, 100)
    means = [anchor[length_matched_subset(anchor, target, rng=rng(i))].mean() for i in range(50)]
    assert np.mean(means) == pytest.approx(100, abs=1.5)


def test_draws_of_a_matched_subset_differ():
    anchor, target = lengths(1, 200, 500), lengths(80, 120, 20)
    draws = {tuple(length_matched_subset(anchor, target, rng=rng(i))) for i in range(5)}
    assert len(draws) == 5


def test_anchor_smaller_than_the_seed_is_returned_whole():
    chosen = length_matched_subset(np.array([5, 9]), np.array([1, 2, 3]), rng=rng())
    assert chosen.tolist() == [0, 1]


def test_matched_features_are_active_others_of_the_same_frequency():
    counts = np.concatenate([np.full(10, 50), np.full(100, 50), np.full(100, 2), np.zeros(9, int)])
    relevant = np.arange(counts.size) < 10
    drawn = frequency_matched_features(counts, relevant, rng=rng())
    assert drawn.sum() == 10
    assert not (drawn & relevant).any()
    assert (counts[drawn] == 50).all()


@settings(deadline=None, max_examples=40)
@given(LENGTHS, LENGTHS)
def test_length_auc_equals_the_share_of_pairs(seed, anchor):
    longer = (seed[:, None] > anchor) + 0.5 * (seed[:, None] == anchor)
    assert length_auc(seed, anchor) == pytest.approx(longer.mean())


def test_random_subset_covers_what_theory_says():
    anchor = make_activations([{i % 4: 1.0} for i in range(8)])
    seed = make_activations([{0: 1.0}] * 2)
    found = measure_controls(anchor, seed, ALL, n_draws=2000, rng=rng())
    # four features in two samples each: 1 - C(6, 2) / C(8, 2)
    assert found.random_subset.mean == pytest.approx(1 - 15 / 28, abs=0.02)
    assert found.random_subset.size == 2


def test_random_features_are_none_when_every_feature_is_relevant():
    anchor = make_activations([{0: 1.0, 1: 1.0}])
    assert measure_controls(anchor, anchor, ALL, rng=rng()).frequency_matched is None


def test_coverage_of_matched_features_is_that_of_the_seed():
    anchor = make_activations([{0: 1.0, 1: 1.0, 2: 1.0, 3: 1.0}] * 3)
    relevant = np.array([True, True, False, False])
    found = measure_controls(anchor, make_activations([{0: 1.0, 2: 1.0}]), relevant, rng=rng())
    assert found.frequency_matched.mean == 0.5
    assert any("says little about the task" in warning for warning in found.warnings)


def test_too_few_other_features_give_a_warning():
    anchor = make_activations([{0: 1.0, 1: 1.0, 2: 1.0, 3: 1.0}])
    relevant = np.array([True, True, True, False])
    found = measure_controls(anchor, make_activations([{0: 1.0}]), relevant, rng=rng())
    assert any("only 1 features outside the 3 relevant" in w for w in found.warnings)


def test_features_that_cannot_be_matched_in_frequency_give_a_warning():
    anchor = make_activations([{0: 1.0, 1: 1.0, 2: 1.0, 3: 1.0}] + [{0: 1.0}] * 9)
    relevant = np.array([True, False, False, False])
    found = measure_controls(anchor, make_activations([{0: 1.0}]), relevant, rng=rng())
    assert found.frequency_ratio == pytest.approx(0.1)
    assert any("fire 0.10 times as often" in warning for warning in found.warnings)


def test_saturation_gives_a_flag_and_a_warning():
    anchor = make_activations([{0: 1.0, 1: 1.0}] * 20)
    found = measure_controls(anchor, make_activations([{0: 1.0}] * 5), ALL, rng=rng())
    assert found.is_saturated
    assert any("already cover 100.0%" in warning for warning in found.warnings)


def test_longer_seed_gives_a_flag_and_a_warning():
    anchor = make_activations([{i % 4: 1.0} for i in range(40)], n_tokens=[10] * 30 + [50] * 10)
    seed = make_activations([{0: 1.0}] * 2, n_tokens=[50, 50])
    found = measure_controls(anchor, seed, ALL, rng=rng())
    assert found.is_length_mismatched
    assert found.length_matched_tokens == pytest.approx(50.0)
    assert [w for w in found.warnings if "seed samples are longer" in w]


def test_lengths_the_anchor_does_not_have_give_a_warning():
    anchor = make_activations([{i % 4: 1.0} for i in range(40)])
    seed = make_activations([{0: 1.0}] * 2, n_tokens=[50, 50])
    found = measure_controls(anchor, seed, ALL, rng=rng())
    assert any("too few samples of the seed's lengths" in w for w in found.warnings)


def test_equal_lengths_and_enough_samples_give_no_warning():
    anchor = make_activations([{i % 4: 1.0} for i in range(40)])
    found = measure_controls(anchor, make_activations([{0: 1.0}] * 2), ALL, rng=rng())
    assert found.warnings == ()
    assert (found.is_saturated, found.is_length_mismatched, found.length_auc) == (False, False, 0.5)


def test_anchor_smaller_than_the_seed_gives_a_warning():
    anchor, seed = make_activations([{0: 1.0}]), make_activations([{0: 1.0}] * 3)
    found = measure_controls(anchor, seed, ALL, rng=rng())
    assert any("anchor has 1 samples and the seed 3" in w for w in found.warnings)


def test_random_distance_shrinks_with_the_size_of_the_seed():
    anchor = make_activations([{i % 4: 1.0} for i in range(80)])
    small, large = (make_activations([{0: 1.0}] * n) for n in (4, 60))
    near, far = (measure_controls(anchor, s, ALL, rng=rng()) for s in (large, small))
    assert near.random_hellinger < far.random_hellinger


def test_seed_without_samples_is_an_error():
    with pytest.raises(DataError, match="the seed 0"):
        measure_controls(make_activations([{0: 1.0}]), make_activations([]), ALL, rng=rng())


def test_anchor_without_a_relevant_feature_is_an_error():
    with pytest.raises(DataError, match="activates none of the 4 relevant"):
        measure_controls(make_activations([{}]), make_activations([{}]), ALL, rng=rng())
