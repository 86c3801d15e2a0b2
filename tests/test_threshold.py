"""The threshold that is chosen where none is set."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from activations import make_activations
from facsynth.coverage.measure import measure_coverage
from facsynth.coverage.settings import CoverageSettings
from facsynth.coverage.threshold import (
    ROOM,
    ChosenThreshold,
    choose_level,
    choose_threshold,
    own_threshold,
)

RARE = make_activations([{i: 1.0 + i / 100} for i in range(40)], n_features=40)
"""Every sample has its own feature, so half of the samples cover half of the features."""


def test_where_there_is_room_the_threshold_is_the_median():
    chosen = choose_threshold(RARE, 20)
    assert chosen.threshold == pytest.approx(np.median(RARE.values), rel=0.01)
    assert "50% quantile" in chosen.rule
    assert "the anchor's activations, at which 20 random samples of 40 cover 50%" in chosen.rule


def test_a_saturated_anchor_gets_a_higher_threshold():
    rows = [{0: 1.0, 1: 1.0, 2 + i % 9: 3.0 + i} for i in range(90)]
    anchor = make_activations(rows, n_features=11)
    assert choose_threshold(anchor, 45).threshold > np.median(anchor.values)


def test_activations_that_are_all_alike_give_zero():
    assert choose_threshold(make_activations([{0: 2.0}, {1: 2.0}]), 1).threshold == 0.0


def test_an_anchor_without_relevant_activations_gives_zero():
    nothing = np.zeros(40, dtype=bool)
    assert choose_threshold(RARE, 20, nothing).threshold == 0.0


def test_where_only_weak_features_count_everything_above_zero_does():
    anchor = make_activations([{0: 1.0, 1: 3.0}, {0: 1.0, 1: 4.0}, {0: 1.0, 1: 5.0}])
    assert choose_threshold(anchor, 1, np.array([True, False, False, False])).threshold == 0.0


def test_a_seed_larger_than_the_anchor_counts_as_half_of_it():
    assert "20 random samples of 40" in choose_threshold(RARE, 10_000).rule


def test_levels_end_where_nothing_is_active():
    full, nothing = np.full(4, 10), np.zeros(4, dtype=np.int64)
    assert choose_level([full, nothing], 10, 5) == (0, 1.0)


@given(st.lists(st.integers(1, 20), min_size=1, max_size=9), st.integers(1, 20))
def test_the_share_of_the_chosen_level_leaves_room_unless_it_is_the_last(counts, size):
    levels = [np.array(counts), np.minimum(counts, 2), np.minimum(counts, 1)]
    at, share = choose_level(levels, 20, size)
    assert share <= ROOM or at == 2


def test_a_table_without_an_anchor_stands_for_itself():
    chosen = own_threshold(RARE)
    assert chosen.threshold == choose_threshold(RARE, 20).threshold
    assert "of the table's activations" in chosen.rule
    assert own_threshold(RARE, given=0.7) == ChosenThreshold(0.7)


def test_of_several_tables_the_smallest_says_how_many_samples_are_drawn():
    few = make_activations([{0: 5.0}, {1: 5.0}], n_features=40)
    assert (
        "the tables' activations, at which 2 random samples of 42"
        in own_threshold([RARE, few]).rule
    )


def test_a_given_threshold_stays_and_has_no_rule():
    found = measure_coverage(RARE, RARE, settings=CoverageSettings(threshold=1.2))
    assert (found.threshold, found.threshold_rule) == (1.2, None)


def test_a_chosen_threshold_is_told_with_its_rule():
    found = measure_coverage(RARE, RARE)
    assert found.row()["threshold_rule"] == found.threshold_rule == choose_threshold(RARE, 40).rule
