"""Plans of what is aimed at, on matrices small enough to follow by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from activations import make_activations
from facsynth.errors import DataError
from facsynth.synthesize.plan import Aim, length_bins, length_room, measure_shortage, plan_aims
from facsynth.synthesize.settings import PlanSettings
from facsynth.table.active import active_rows


def anchor_of(rows, tokens):
    """An anchor of which each sample activates the features with a 1 in its row."""
    lists = [{f: 2.0 for f, is_active in enumerate(row) if is_active} for row in rows]
    table = make_activations(lists, n_features=len(rows[0]), n_tokens=tokens)
    return active_rows(table, threshold=1.0)


def plan(rows, weights, tokens=None, counts=None, **options):
    anchor = anchor_of(rows, tokens or [9] * len(rows))
    weights = np.array(weights, dtype=float)
    counts = weights if counts is None else np.array(counts, dtype=float)
    settings = {"group_size": 2, "max_features": 9, **options}
    return plan_aims(anchor, weights, counts, **settings)


def test_features_that_fire_together_are_aimed_at_together():
    aims = plan([[1, 0, 0, 0], [0, 1, 0, 1], [1, 0, 1, 0]], [1, 1, 1, 1])
    assert aims == [Aim((1, 3), 1), Aim((0, 2), 2)]


def test_shorter_of_two_equal_samples_is_taken():
    assert plan([[1, 1], [1, 1]], [1, 1], tokens=[40, 10]) == [Aim((0, 1), 1)]


def test_long_sample_gains_no_more_than_a_group():
    aims = plan([[1, 1, 1, 1], [1, 1, 0, 0]], [1, 1, 1, 1], tokens=[90, 10])
    assert aims == [Aim((0, 1), 1), Aim((2, 3), 0)]


def test_feature_that_lacks_more_samples_is_aimed_at_more_often():
    rows = [[1, 0]] * 5 + [[0, 1]] * 5
    aims = plan(rows, [0.9, 0.5], counts=[3, 1], group_size=1)
    assert [aim.feature_ids for aim in aims] == [(0,), (0,), (0,), (1,)]


def test_length_deciles_take_turns():
    aims = plan([[1]] * 20, [1], tokens=list(range(1, 21)), counts=[9], by_length=True)
    tokens = np.array([aim.row + 1 for aim in aims])
    assert len(set(length_bins(tokens, np.arange(1, 21)))) == len(aims) == 9


def test_no_more_features_are_aimed_at_than_allowed():
    aims = plan([[1, 1, 1]], [1, 1, 1], group_size=3, max_features=2)
    assert aims == [Aim((0, 1), 0)]


@given(
    st.lists(st.lists(st.booleans(), min_size=4, max_size=4), min_size=1, max_size=8),
    st.lists(st.integers(0, 1), min_size=4, max_size=4),
)
def test_cover_aims_at_every_needed_feature_of_the_anchor_exactly_once(rows, weights):
    n_rows = len(rows)
    aims = plan(rows, weights, group_size=4, tokens=list(range(1, n_rows + 1)))
    aimed = [feature for aim in aims for feature in aim.feature_ids]
    assert len(aimed) == len(set(aimed))
    assert all(rows[aim.row][f] for aim in aims for f in aim.feature_ids)
    needed = {f for f in range(4) if weights[f] and any(row[f] for row in rows)}
    assert set(aimed) == needed


def test_shortage_is_what_the_rate_of_the_anchor_expects():
    rows = [[1, 1, 0]] * 10 + [[1, 0, 0]] * 40 + [[0, 0, 0]] * 50
    short = measure_shortage(anchor_of(rows, [9] * 100), np.array([30, 1, 2]), n_final=40)
    assert short.expected.tolist() == [20, 4, 0]
    assert short.lacking.tolist() == [-10, 3, -2]
    assert short.need.tolist() == [0, 0.75, 0]


def test_lengths_fall_into_the_deciles_of_the_anchor():
    anchor = np.arange(1, 101)
    assert length_bins(np.array([1, 10, 11, 50, 100, 999]), anchor).tolist() == [0, 0, 1, 4, 9, 9]


def test_room_is_the_share_of_each_length_in_the_anchor():
    even = np.arange(1, 101)
    assert length_room([0, 1, 7] + [0] * 7, even, 25)[:4] == [3, 2, 0, 3]
    two_lengths = np.array([8] * 6 + [12] * 4)
    assert sorted(length_room([0] * 10, two_lengths, 10))[-3:] == [0, 4, 6]


def test_empty_group_is_an_error():
    with pytest.raises(DataError, match="group_size is 0"):
        PlanSettings(group_size=0)
