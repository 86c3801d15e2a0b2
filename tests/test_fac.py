"""FAC and its variants; each fast path against a dense NumPy version."""

import json

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from activations import dense, make_activations, row_lists
from facsynth.coverage.fac import (
    describe_missing,
    feature_activation_coverage,
    missing_features,
)
from facsynth.coverage.interval import bootstrap_interval, spread_scale
from facsynth.coverage.measure import measure_coverage
from facsynth.coverage.settings import CoverageSettings
from facsynth.coverage.variants import (
    coverage_sweep,
    weighted_coverage,
)
from facsynth.errors import DataError, MismatchError
from facsynth.table.active import active_rows

N = 6
THRESHOLDS = st.sampled_from([0.0, 0.1, 0.5, 1.0, 2.0])
FLAGS = st.lists(st.booleans(), min_size=N, max_size=N).map(np.array)
ALL = np.ones(N, dtype=bool)
ROW_KEYS = {
    *("fac", "n_relevant", "n_anchor", "n_covered", "n_missing", "n_seed_only"),
    *("threshold", "threshold_rule"),
    *("weighted", "sweep", "interval", "richness", "representativeness", "controls"),
    *("by_class", "hidden", "curves", "reference", "topics"),
    *("n_samples", "n_tokens"),
}


def table(rows):
    return make_activations(rows, n_features=N)


def over_tables(test):
    """Run a test on random anchors, seeds, relevant features and thresholds."""

    @given(row_lists(), row_lists(), FLAGS, THRESHOLDS)
    def run(anchor, seed, relevant, threshold):
        test(table(anchor), table(seed), relevant, threshold)

    return run


def quick(threshold):
    return CoverageSettings(threshold=threshold, resamples=5, draws=2)


def dense_active(activations, threshold):
    return (dense(activations) > np.float32(threshold)).any(axis=0)


@over_tables
def test_fac_equals_dense_reference(anchor, seed, relevant, threshold):
    goal = dense_active(anchor, threshold) & relevant
    assume(goal.any())
    expected = int((goal & dense_active(seed, threshold)).sum()) / int(goal.sum())
    flags = [active_rows(t, threshold=threshold).features for t in (anchor, seed)]
    assert feature_activation_coverage(*flags, relevant) == expected
    measured = measure_coverage(anchor, seed, relevant=relevant, settings=quick(threshold))
    assert measured.fac == measured.n_covered / measured.n_anchor == expected
    assert measured.n_covered + measured.n_missing == measured.n_anchor


@over_tables
def test_weighted_coverage_equals_dense_reference(anchor, seed, relevant, threshold):
    array = np.where(dense(anchor) > np.float32(threshold), dense(anchor), 0)
    goal = array.any(axis=0) & relevant
    assume(goal.any())
    hit = goal & dense_active(seed, threshold)
    counts, sums = (array > 0).sum(axis=0), array.astype(float).sum(axis=0)
    found = measure_coverage(anchor, seed, relevant=relevant, settings=quick(threshold))
    assert found.frequency_weighted == counts[hit].sum() / counts[goal].sum()
    assert found.magnitude_weighted == pytest.approx(sums[hit].sum() / sums[goal].sum())


@over_tables
def test_sweep_equals_dense_reference(anchor, seed, relevant, threshold):
    rows = [active_rows(t, threshold=threshold) for t in (anchor, seed)]
    for point in coverage_sweep(*rows, relevant):
        goal = dense_active(anchor, point.threshold) & relevant
        covered = int((goal & dense_active(seed, point.threshold)).sum())
        assert (point.n_anchor, point.n_covered) == (goal.sum(), covered)
        assert point.fac == (covered / int(goal.sum()) if goal.any() else None)


def test_sweep_quantiles_are_those_of_stored_activations():
    anchor = make_activations([{0: 1.0, 1: 2.0}, {0: 3.0, 2: 4.0, 3: 5.0}])
    rows = active_rows(anchor, threshold=2.5)
    points = coverage_sweep(rows, rows, np.ones(4, dtype=bool), quantiles=(0.25, 0.5))
    assert [(p.threshold, p.quantile) for p in points[-2:]] == [(2.0, 0.25), (3.0, 0.5)]


@over_tables
def test_missing_features_equal_dense_reference(anchor, seed, relevant, threshold):
    array = np.where(dense(anchor) > np.float32(threshold), dense(anchor), 0).astype(float)
    gone = array.any(axis=0) & relevant & ~dense_active(seed, threshold)
    counts, sums = (array > 0).sum(axis=0), array.sum(axis=0)
    expected = sorted(np.flatnonzero(gone), key=lambda i: (-counts[i], -sums[i], i))
    rows = [active_rows(t, threshold=threshold, relevant=relevant) for t in (anchor, seed)]
    assert missing_features(*rows).tolist() == expected


def test_missing_features_break_ties_by_activation_then_by_id():
    anchor = make_activations([{0: 2.0, 1: 2.0, 2: 9.0, 3: 2.0}, {3: 2.0}])
    rows = [active_rows(t, threshold=1.0) for t in (anchor, make_activations([{}]))]
    assert missing_features(*rows).tolist() == [3, 2, 0, 1]


def test_missing_features_are_described_above_the_threshold():
    anchor = active_rows(make_activations([{2: 2.0}, {2: 4.0}, {2: 0.5}]), threshold=1.0)
    (found,) = describe_missing(anchor, np.array([2]))
    assert (found.feature_id, found.n_anchor_samples) == (2, 2)
    assert (found.max_activation, found.mean_activation) == (4.0, 3.0)


def test_missing_features_of_a_measurement_are_ranked_and_described():
    anchor = make_activations([{0: 2.0, 1: 2.0}, {1: 4.0}])
    found = measure_coverage(anchor, make_activations([{2: 2.0}]), settings=quick(1.0))
    assert [(m.feature_id, m.mean_activation) for m in found.missing] == [(1, 3.0), (0, 2.0)]


@settings(deadline=None, max_examples=60)
@given(row_lists(), row_lists(), row_lists(), THRESHOLDS)
def test_added_samples_never_lower_coverage(anchor_rows, seed_rows, added, threshold):
    anchor = table(anchor_rows)
    assume(dense_active(anchor, threshold).any())
    before, after = table(seed_rows), table(seed_rows + added)
    rows = [active_rows(t, threshold=threshold) for t in (anchor, before, after)]
    flags, weights = [one.features for one in rows], rows[0].counts.astype(float)
    low = weighted_coverage(weights, flags[1])
    assert 0.0 <= low <= weighted_coverage(weights, flags[2]) <= 1.0
    low = feature_activation_coverage(flags[0], flags[1], ALL)
    assert 0.0 <= low <= feature_activation_coverage(flags[0], flags[2], ALL) <= 1.0


@given(st.data(), row_lists(), row_lists())
def test_order_of_samples_does_not_matter(data, anchor_rows, seed_rows):
    assume(any(anchor_rows))
    shuffled = data.draw(st.permutations(seed_rows))
    results = [
        measure_coverage(table(anchor_rows), table(rows), settings=quick(0.0))
        for rows in (seed_rows, shuffled)
    ]
    assert results[0].fac == results[1].fac
    assert results[0].sweep == results[1].sweep


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
    with pytest.raises(MismatchError, match="6 features are judged and the table has 4"):
        measure_coverage(anchor, anchor, relevant=ALL)


def test_seed_without_samples_is_an_error():
    with pytest.raises(DataError, match="the seed has no samples"):
        measure_coverage(make_activations([{0: 2.0}]), make_activations([]))


def test_interval_is_centred_on_the_observed_value():
    seed = active_rows(make_activations([{0: 2.0}, {0: 2.0}, {1: 2.0}, {2: 2.0}]), threshold=1.0)
    found = bootstrap_interval(np.ones(4, dtype=bool), seed, rng=np.random.default_rng(0))
    assert found.low <= 0.75 <= found.high
    assert found.resampled_mean < 0.75


def test_interval_holds_the_mean_coverage_of_such_seeds():
    """A short form of studies/interval/simulate.py; without the widening 35 of 40 hold it."""
    draw = np.random.default_rng(4)
    rates = np.exp(draw.uniform(np.log(0.0005), np.log(0.3), 300))

    def seed():
        rows = draw.random((100, 300)) < rates
        table = [dict.fromkeys(np.flatnonzero(r).tolist(), 2.0) for r in rows]
        return active_rows(make_activations(table, 300), threshold=1.0)

    seeds = [seed() for _ in range(40)]
    target = np.mean([one.features.mean() for one in seeds])
    goal = np.ones(300, dtype=bool)
    found = [bootstrap_interval(goal, one, n_resamples=60, rng=draw) for one in seeds]
    assert sum(one.low <= target <= one.high for one in found) >= 37


def test_spread_needs_no_widening_when_every_feature_is_seen_often():
    assert spread_scale(np.array([50, 60, 70]), 100) == 1.0
    assert spread_scale(np.array([0, 0]), 100) == 1.0


def test_features_that_exist_but_were_not_seen_widen_the_spread():
    counts = np.array([1] * 20 + [2] * 10 + [0] * 100)
    assert 1.2 < spread_scale(counts, 100) < 2.0
    assert spread_scale(counts[:31], 100) < spread_scale(counts, 100)


def test_resamples_lose_a_feature_of_one_sample_as_often_as_theory_says():
    n = 20
    seed = active_rows(make_activations([{0: 2.0}] + [{}] * (n - 1)), threshold=1.0)
    goal = np.array([True, False, False, False])
    found = bootstrap_interval(goal, seed, n_resamples=2000, rng=np.random.default_rng(0))
    assert found.resampled_mean == pytest.approx(1 - (1 - 1 / n) ** n, abs=0.03)


def test_seed_that_activates_nothing_has_coverage_zero():
    found = measure_coverage(make_activations([{0: 2.0}]), make_activations([{}]))
    assert found.fac == 0.0
    assert found.representativeness is None


def test_features_only_the_seed_activates_are_counted_apart():
    found = measure_coverage(make_activations([{0: 2.0}]), make_activations([{0: 2.0, 1: 2.0}]))
    assert (found.fac, found.n_seed_only) == (1.0, 1)


def test_features_that_are_not_relevant_do_not_count():
    anchor, relevant = make_activations([{0: 2.0, 1: 3.0}]), np.array([True, True, False, False])
    seed = make_activations([{0: 2.0, 1: 3.0, 2: 9.0}] + [{2: 9.0}] * 5)
    found = measure_coverage(anchor, seed, relevant=relevant, settings=quick(1.0))
    assert (found.fac, found.n_seed_only, found.richness.seed.n_seen) == (1.0, 0, 2)
    assert found.representativeness.hellinger == pytest.approx(0.0, abs=1e-7)


def test_same_call_gives_the_same_result():
    anchor = make_activations([{0: 2.0, 1: 2.0}, {2: 3.0}, {1: 4.0}], n_tokens=[3, 9, 5])
    seed = make_activations([{0: 2.0}, {1: 0.5}])
    assert measure_coverage(anchor, seed) == measure_coverage(anchor, seed)


def test_row_is_json_with_the_documented_keys():
    anchor = make_activations([{0: 2.0, 1: 2.0}, {2: 3.0}], n_tokens=[3, 9])
    row = measure_coverage(anchor, make_activations([{0: 2.0}])).row()
    assert set(row) == ROW_KEYS
    assert set(row["weighted"]) == {"frequency", "magnitude"}
    assert row["n_tokens"] == {"anchor": 12, "seed": 10}
    assert json.loads(json.dumps(row, allow_nan=False))["fac"] == row["n_covered"] / row["n_anchor"]
