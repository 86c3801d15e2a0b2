"""Rarefaction and estimates of unseen features, against brute force and published numbers."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from activations import dense, make_activations, row_lists
from facsynth.coverage.curves import richness_curve
from facsynth.coverage.richness import (
    compare_richness,
    expected_richness,
    measure_richness,
    richness_at_token_budget,
)
from facsynth.coverage.unseen import (
    chao2,
    extrapolated_richness,
    good_turing_coverage,
    samples_to_reach,
)
from facsynth.errors import DataError
from facsynth.table.active import active_rows

GIRDLED = np.array([46, 22, 17, 15, 15, 9, 8, 6, 6, 4, *[2] * 4, *[1] * 12])
"""Spiders in girdled hemlock plots (Sackett et al. 2011), the example data of iNEXT."""


def rows(table, relevant=None):
    return active_rows(table, threshold=0.0, relevant=relevant)


def rng():
    return np.random.default_rng(0)


@settings(deadline=None, max_examples=30)
@given(row_lists(max_samples=6), st.integers(0, 6))
def test_rarefaction_equals_the_mean_over_all_subsets(rows, size):
    size = min(size, len(rows))
    active = dense(make_activations(rows, n_features=6)) > 0
    subsets = [list(chosen) for chosen in combinations(range(len(rows)), size)]
    expected = np.mean([active[chosen].any(axis=0).sum() for chosen in subsets])
    found = expected_richness(active.sum(axis=0), len(rows), np.array([size]))
    assert found == pytest.approx(expected)


def test_rarefaction_of_large_sets_stays_finite_and_rises():
    counts = np.array([1, 10, 1_000, 4_999_999, 5_000_000])
    found = expected_richness(counts, 5_000_000, np.array([0, 1, 1_000, 4_999_999, 5_000_000]))
    assert found[0] == pytest.approx(0.0, abs=1e-6)
    assert found[-1] == 5.0
    assert (np.diff(found) > 0).all()


def test_rarefaction_to_more_samples_than_there_are_is_an_error():
    with pytest.raises(DataError, match="cannot rarefy 3 samples"):
        expected_richness(np.array([1]), 3, np.array([4]))


def test_chao2_equals_the_value_worked_out_by_hand():
    assert chao2(np.array([1, 1, 1, 2, 2, 5, 0]), 10) == pytest.approx(6 + 0.9 * 9 / 4)


def test_chao2_without_doubletons_uses_pairs_of_singletons():
    assert chao2(np.array([1, 1, 1, 4]), 5) == pytest.approx(4 + 0.8 * 3)


def test_extrapolation_starts_at_what_was_seen_and_ends_at_chao2():
    counts = np.array([1, 1, 1, 2, 2, 5, 0])
    assert extrapolated_richness(counts, 10, 0) == 6.0
    assert extrapolated_richness(counts, 10, 1e6) == pytest.approx(chao2(counts, 10))
    # U = 0.9 · 9 / 4 = 2.025; one more sample adds U · Q1 / (Q1 + m U)
    assert extrapolated_richness(counts, 10, 1) == pytest.approx(6 + 2.025 * 3 / 23.25)


def test_extrapolation_tells_what_more_samples_of_a_source_show():
    draw = np.random.default_rng(1)
    rates = np.exp(draw.uniform(np.log(0.002), np.log(0.3), 300))
    active = draw.random((200, 300)) < rates
    found = extrapolated_richness(active[:100].sum(axis=0), 100, 100)
    assert found == pytest.approx(active.any(axis=0).sum(), abs=12)


def test_samples_to_reach_a_share_invert_the_extrapolation():
    counts = np.array([1, 1, 1, 2, 2, 5, 0])
    more = samples_to_reach(counts, 10, share=0.95)
    goal = 0.95 * chao2(counts, 10)
    assert extrapolated_richness(counts, 10, more - 1) < goal
    assert extrapolated_richness(counts, 10, more) >= goal


def test_share_that_is_reached_needs_no_more_samples_and_a_hopeless_one_is_not_told():
    assert samples_to_reach(np.array([9, 9]), 10) == 0.0
    assert samples_to_reach(np.array([1, 1]), 10) is None
    assert samples_to_reach(np.array([0, 0]), 10) is None


def test_good_turing_coverage_is_one_minus_the_share_of_singletons():
    assert good_turing_coverage(GIRDLED) == pytest.approx(1 - 12 / 168)
    assert good_turing_coverage(np.array([0, 0])) == 0.0


def test_full_token_budget_sees_every_feature():
    table = make_activations([{0: 1.0}, {1: 1.0, 2: 1.0}], n_tokens=[5, 7])
    assert richness_at_token_budget(rows(table), n_tokens=12, rng=rng()) == 3.0


def test_token_budget_equals_the_mean_over_all_orders():
    # two samples of 5 tokens fit into 10; orders that begin with the long one see its feature
    table = make_activations([{0: 1.0}, {1: 1.0}, {2: 1.0}], n_tokens=[5, 5, 10])
    found = richness_at_token_budget(rows(table), n_tokens=10, n_draws=4000, rng=rng())
    orders = {(0, 1): 2, (1, 0): 2, (0, 2): 1, (1, 2): 1, (2, 0): 1, (2, 1): 1}
    assert found == pytest.approx(np.mean(list(orders.values())), abs=0.03)


def test_only_relevant_features_are_counted():
    table = make_activations([{0: 1.0, 1: 1.0}, {1: 1.0, 2: 1.0}])
    counts = rows(table, np.array([True, True, False, False])).counts
    found = measure_richness(counts, 2, 20)
    assert (found.n_seen, found.n_once, found.n_twice) == (2, 1, 1)


@settings(deadline=None, max_examples=40)
@given(row_lists())
def test_estimates_are_never_below_what_was_seen(drawn):
    table = rows(make_activations(drawn, n_features=6))
    found = measure_richness(table.counts, table.n_samples, 10)
    assert found.chao2 >= found.n_seen
    assert 0.0 <= found.sample_coverage <= 1.0
    assert found.curve[-1] == (len(drawn), pytest.approx(found.n_seen))


def test_curve_ends_at_what_was_seen_and_goes_on_to_twice_the_samples():
    table = make_activations([{0: 1.0, 1: 1.0}, {1: 1.0}, {2: 1.0}, {0: 1.0, 3: 1.0}])
    points = richness_curve(rows(table), n_points=4, rng=rng())
    assert [p.n_samples for p in points] == [1, 2, 3, 4, 5, 6, 7, 8]
    assert points[3].expected == pytest.approx(4.0)
    assert [p.is_extrapolated for p in points] == [False] * 4 + [True] * 4
    assert all(p.low <= p.expected <= p.high for p in points)


def test_band_holds_the_curve_of_the_source():
    draw = np.random.default_rng(2)
    rates, held = np.exp(draw.uniform(np.log(0.002), np.log(0.3), 200)), 0
    for _ in range(20):
        active = draw.random((60, 200)) < rates
        drawn = [dict.fromkeys(np.flatnonzero(r).tolist(), 1.0) for r in active]
        table = make_activations(drawn, n_features=200)
        point = richness_curve(rows(table), n_points=2, rng=draw)[1]
        held += point.low <= (1 - (1 - rates) ** point.n_samples).sum() <= point.high
    assert held >= 18


def test_curve_of_copies_is_flat():
    points = richness_curve(rows(make_activations([{0: 1.0}] * 5)), rng=rng())
    assert {(p.low, p.expected, p.high) for p in points} == {(1.0, 1.0, 1.0)}


def test_table_without_samples_has_no_curve():
    with pytest.raises(DataError, match="no richness curve"):
        richness_curve(rows(make_activations([])), rng=rng())


def test_sets_of_different_size_compare_at_the_smaller_size():
    anchor = make_activations([{0: 1.0}, {1: 1.0}, {2: 1.0}], n_tokens=[4, 4, 4])
    seed = make_activations([{0: 1.0, 3: 1.0}], n_tokens=[4])
    found = compare_richness(rows(anchor), rows(seed), rng=rng())
    assert (found.equal_samples, found.equal_tokens) == (1, 4)
    assert found.anchor_at_equal_samples == pytest.approx(1.0)
    assert found.anchor_at_equal_tokens == found.seed_at_equal_tokens - 1 == 1.0
