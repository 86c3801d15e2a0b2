"""FAC and its variants; each fast path against a dense NumPy version."""

import json

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from activations import dense, make_activations, row_lists
from facsynth.coverage.fac import (
    active_features,
    active_only,
    describe_missing,
    feature_activation_coverage,
    firing_counts,
    missing_features,
)
from facsynth.coverage.interval import bootstrap_interval, spread_scale
from facsynth.coverage.measure import coverage_row, measure_coverage
from facsynth.coverage.variants import (
    coverage_sweep,
    k_fold_coverage,
    weighted_coverage,
)
from facsynth.errors import DataError, MismatchError

N = 6
THRESHOLDS = st.sampled_from([0.0, 0.1, 0.5, 1.0, 2.0])
FLAGS = st.lists(st.booleans(), min_size=N, max_size=N).map(np.array)
ALL = np.ones(N, dtype=bool)
ROW_KEYS = {
    *("fac", "n_relevant", "n_anchor", "n_covered", "n_missing", "n_seed_only", "threshold"),
    *("weighted", "k_fold", "sweep", "interval", "richness", "representativeness", "controls"),
    *("by_class", "hidden"),
    *("n_samples", "n_tokens"),
}


def table(rows):
    return make_activations(rows, n_features=N)


def over_tables(test):
    """Run a test on random anchors, seeds, relevant features and thresholds."""

    @settings(deadline=None, max_examples=60)
    @given(row_lists(), row_lists(), FLAGS, THRESHOLDS)
    def run(anchor, seed, relevant, threshold):
        test(table(anchor), table(seed), relevant, threshold)

    return run


def dense_active(activations, threshold):
    return (dense(activations) > np.float32(threshold)).any(axis=0)


def test_threshold_is_strict():
    activations = make_activations([{0: 1.0}, {1: 1.5}])
    assert active_features(activations, threshold=1.0).tolist() == [False, True, False, False]


def test_threshold_is_rounded_like_the_activations():
    activations = make_activations([{0: 0.1}])
    assert not active_features(activations, threshold=0.1).any()


@pytest.mark.parametrize("threshold", [-0.5, float("nan"), float("inf"), 1e39])
def test_impossible_threshold_is_an_error(threshold):
    with pytest.raises(DataError, match="is not a finite number of at least 0"):
        firing_counts(make_activations([{0: 1.0}]), threshold=threshold)


def test_firing_counts_count_samples():
    activations = make_activations([{0: 2.0, 1: 2.0}, {0: 3.0}, {0: 0.5}])
    assert firing_counts(activations, threshold=1.0).tolist() == [2, 1, 0, 0]


@over_tables
def test_active_only_keeps_exactly_the_activations_above(anchor, seed, relevant, threshold):
    array = dense(anchor)
    expected = np.where(array > np.float32(threshold), array, 0)
    kept = active_only(anchor, threshold=threshold)
    assert (dense(kept) == expected).all()
    assert kept.positions.size == kept.values.size == np.count_nonzero(expected)


@over_tables
def test_fac_equals_dense_reference(anchor, seed, relevant, threshold):
    goal = dense_active(anchor, threshold) & relevant
    assume(goal.any())
    expected = int((goal & dense_active(seed, threshold)).sum()) / int(goal.sum())
    flags = [active_features(t, threshold=threshold) for t in (anchor, seed)]
    assert feature_activation_coverage(*flags, relevant) == expected
    measured = measure_coverage(
        anchor, seed, relevant=relevant, threshold=threshold, n_resamples=5, n_draws=2
    )
    assert measured.fac == measured.n_covered / measured.n_anchor == expected
    assert measured.n_covered + measured.n_missing == measured.n_anchor


@over_tables
def test_weighted_coverage_equals_dense_reference(anchor, seed, relevant, threshold):
    array = np.where(dense(anchor) > np.float32(threshold), dense(anchor), 0)
    goal = array.any(axis=0) & relevant
    assume(goal.any())
    hit = goal & dense_active(seed, threshold)
    counts, sums = (array > 0).sum(axis=0), array.astype(float).sum(axis=0)
    found = measure_coverage(
        anchor, seed, relevant=relevant, threshold=threshold, n_resamples=2, n_draws=1
    )
    assert found.frequency_weighted == counts[hit].sum() / counts[goal].sum()
    assert found.magnitude_weighted == pytest.approx(sums[hit].sum() / sums[goal].sum())


@over_tables
def test_k_fold_equals_dense_reference(anchor, seed, relevant, threshold):
    goal = dense_active(anchor, threshold) & relevant
    assume(goal.any())
    counts = (dense(seed) > np.float32(threshold)).sum(axis=0)
    for fold in k_fold_coverage(anchor, seed, relevant, threshold=threshold):
        assert fold.fac == int((goal & (counts >= fold.k)).sum()) / int(goal.sum())


@over_tables
def test_sweep_equals_dense_reference(anchor, seed, relevant, threshold):
    for point in coverage_sweep(anchor, seed, relevant):
        goal = dense_active(anchor, point.threshold) & relevant
        covered = int((goal & dense_active(seed, point.threshold)).sum())
        assert (point.n_anchor, point.n_covered) == (goal.sum(), covered)
        assert point.fac == (covered / int(goal.sum()) if goal.any() else None)


def test_sweep_quantiles_are_those_of_stored_activations():
    anchor = make_activations([{0: 1.0, 1: 2.0}, {0: 3.0, 2: 4.0, 3: 5.0}])
    points = coverage_sweep(anchor, anchor, np.ones(4, dtype=bool), quantiles=(0.25, 0.5))
    assert [(p.threshold, p.quantile) for p in points[-2:]] == [(2.0, 0.25), (3.0, 0.5)]


@over_tables
def test_missing_features_equal_dense_reference(anchor, seed, relevant, threshold):
    array = np.where(dense(anchor) > np.float32(threshold), dense(anchor), 0).astype(float)
    gone = array.any(axis=0) & relevant & ~dense_active(seed, threshold)
    counts, sums = (array > 0).sum(axis=0), array.sum(axis=0)
    expected = sorted(np.flatnonzero(gone), key=lambda i: (-counts[i], -sums[i], i))
    assert missing_features(anchor, seed, relevant, threshold=threshold).tolist() == expected


def test_missing_features_break_ties_by_activation_then_by_id():
    anchor = make_activations([{0: 2.0, 1: 2.0, 2: 9.0, 3: 2.0}, {3: 2.0}])
    empty, relevant = make_activations([{}]), np.ones(4, dtype=bool)
    assert missing_features(anchor, empty, relevant, threshold=1.0).tolist() == [3, 2, 0, 1]


def test_missing_features_are_described_above_the_threshold():
    anchor = make_activations([{2: 2.0}, {2: 4.0}, {2: 0.5}])
    (found,) = describe_missing(anchor, np.array([2]), threshold=1.0)
    assert (found.feature_id, found.n_anchor_samples) == (2, 2)
    assert (found.max_activation, found.mean_activation) == (4.0, 3.0)
    with pytest.raises(DataError, match="feature 1 is not active in the anchor"):
        describe_missing(anchor, np.array([1]), threshold=1.0)


@settings(deadline=None, max_examples=60)
@given(row_lists(), row_lists(), row_lists(), THRESHOLDS)
def test_added_samples_never_lower_coverage(anchor_rows, seed_rows, added, threshold):
    anchor = table(anchor_rows)
    assume(dense_active(anchor, threshold).any())
    before, after = table(seed_rows), table(seed_rows + added)
    flags = [active_features(t, threshold=threshold) for t in (anchor, before, after)]
    weights = firing_counts(anchor, threshold=threshold).astype(float)
    low = weighted_coverage(weights, flags[1], ALL)
    assert 0.0 <= low <= weighted_coverage(weights, flags[2], ALL) <= 1.0
    low = feature_activation_coverage(flags[0], flags[1], ALL)
    assert 0.0 <= low <= feature_activation_coverage(flags[0], flags[2], ALL) <= 1.0


@settings(deadline=None, max_examples=40)
@given(st.data(), row_lists(), row_lists())
def test_order_of_samples_does_not_matter(data, anchor_rows, seed_rows):
    assume(any(anchor_rows))
    shuffled = data.draw(st.permutations(seed_rows))
    results = [
        measure_coverage(table(anchor_rows), table(rows), threshold=0.0, n_resamples=5, n_draws=2)
        for rows in (seed_rows, shuffled)
    ]
    assert results[0].fac == results[1].fac
    assert results[0].sweep == results[1].sweep
    assert results[0].k_fold == results[1].k_fold


def test_no_relevant_feature_is_an_error():
    none = np.zeros(4, dtype=bool)
    with pytest.raises(DataError, match="none of the 4 features is marked relevant"):
        feature_activation_coverage(none, none, none)


def test_no_active_relevant_feature_is_an_error():
    relevant = np.array([True, True, False, False])
    with pytest.raises(DataError, match="activates none of the 2 relevant features"):
        feature_activation_coverage(~relevant, relevant, relevant)


def test_tables_of_different_width_are_an_error():
    with pytest.raises(MismatchError, match="the anchor has 4 features and the seed 6"):
        measure_coverage(make_activations([{0: 2.0}]), table([{0: 2.0}]))


def test_judged_features_of_another_width_are_an_error():
    anchor = make_activations([{0: 2.0}])
    with pytest.raises(MismatchError, match="6 features are judged and the tables have 4"):
        measure_coverage(anchor, anchor, relevant=ALL)


def test_seed_without_samples_is_an_error():
    with pytest.raises(DataError, match="the seed has no samples"):
        measure_coverage(make_activations([{0: 2.0}]), make_activations([]))


def test_interval_is_centred_on_the_observed_value():
    anchor = make_activations([{0: 2.0, 1: 2.0, 2: 2.0, 3: 2.0}])
    seed = make_activations([{0: 2.0}, {0: 2.0}, {1: 2.0}, {2: 2.0}])
    found = bootstrap_interval(
        anchor, seed, np.ones(4, dtype=bool), threshold=1.0, rng=np.random.default_rng(0)
    )
    assert found.low <= 0.75 <= found.high
    assert found.resampled_mean < 0.75


def test_interval_holds_the_mean_coverage_of_such_seeds():
    """A short form of studies/interval/simulate.py; without the widening 35 of 40 hold it."""
    draw = np.random.default_rng(4)
    rates = np.exp(draw.uniform(np.log(0.0005), np.log(0.3), 300))

    def seed():
        rows = draw.random((100, 300)) < rates
        return make_activations([dict.fromkeys(np.flatnonzero(r).tolist(), 2.0) for r in rows], 300)

    anchor, relevant = make_activations([dict.fromkeys(range(300), 2.0)], 300), np.ones(300, bool)
    seeds = [seed() for _ in range(40)]
    target = np.mean([active_features(one, threshold=1.0).mean() for one in seeds])
    found = [
        bootstrap_interval(anchor, one, relevant, threshold=1.0, n_resamples=60, rng=draw)
        for one in seeds
    ]
    assert sum(one.low <= target <= one.high for one in found) >= 37


def test_spread_needs_no_widening_when_every_feature_is_seen_often():
    assert spread_scale(np.array([50, 60, 70]), 100) == 1.0
    assert spread_scale(np.array([0, 0]), 100) == 1.0


def test_features_that_exist_but_were_not_seen_widen_the_spread():
    counts = np.array([1] * 20 + [2] * 10 + [0] * 100)
    assert 1.2 < spread_scale(counts, 100) < 2.0
    assert spread_scale(counts[:31], 100) < spread_scale(counts, 100)


def test_resamples_lose_a_feature_of_one_sample_as_often_as_theory_says():
    anchor, n = make_activations([{0: 2.0}]), 20
    seed = make_activations([{0: 2.0}] + [{}] * (n - 1))
    found = bootstrap_interval(
        anchor,
        seed,
        np.ones(4, dtype=bool),
        threshold=1.0,
        n_resamples=2000,
        rng=np.random.default_rng(0),
    )
    assert found.resampled_mean == pytest.approx(1 - (1 - 1 / n) ** n, abs=0.03)


def test_seed_that_activates_nothing_has_coverage_zero():
    found = measure_coverage(make_activations([{0: 2.0}]), make_activations([{}]))
    assert found.fac == 0.0
    assert found.representativeness is None


def test_features_only_the_seed_activates_are_counted_apart():
    found = measure_coverage(make_activations([{0: 2.0}]), make_activations([{0: 2.0, 1: 2.0}]))
    assert (found.fac, found.n_seed_only) == (1.0, 1)


def test_same_call_gives_the_same_result():
    anchor = make_activations([{0: 2.0, 1: 2.0}, {2: 3.0}, {1: 4.0}], n_tokens=[3, 9, 5])
    seed = make_activations([{0: 2.0}, {1: 0.5}])
    assert measure_coverage(anchor, seed) == measure_coverage(anchor, seed)


def test_row_is_json_with_the_documented_keys():
    anchor = make_activations([{0: 2.0, 1: 2.0}, {2: 3.0}], n_tokens=[3, 9])
    row = coverage_row(measure_coverage(anchor, make_activations([{0: 2.0}])))
    assert set(row) == ROW_KEYS
    assert set(row["weighted"]) == {"frequency", "magnitude"}
    assert row["n_tokens"] == {"anchor": 12, "seed": 10}
    assert json.loads(json.dumps(row, allow_nan=False))["fac"] == row["n_covered"] / row["n_anchor"]
