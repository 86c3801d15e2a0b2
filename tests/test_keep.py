"""Greedy choice of candidates, compared with trying everything."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from activations import make_activations, row_lists
from facsynth.synthesize.keep import Kept, choose_candidates, choose_matching
from facsynth.synthesize.plan import Shortage
from facsynth.table.active import active_rows

N = 6
FLAGS = st.lists(st.booleans(), min_size=N, max_size=N)
EVERYTHING = [True] * N


def choose(rows, missing=EVERYTHING, *, admissible=None, max_kept=99, is_new=None, n_tokens=None):
    pool = make_activations(rows, n_features=N, n_tokens=n_tokens)
    return choose_candidates(
        active_rows(pool, threshold=1.0),
        np.array(missing, dtype=bool),
        admissible=[True] * len(rows) if admissible is None else admissible,
        max_kept=max_kept,
        is_new=is_new or (lambda row: True),
    )


def reached(rows, chosen, missing):
    """Missing features that some of the chosen rows activate."""
    wanted = np.flatnonzero(missing)
    return {f for row in chosen for f, value in rows[row].items() if value > 1.0 and f in wanted}


@settings(deadline=None)
@given(row_lists(N, max_samples=6), FLAGS, st.integers(0, 4))
def test_greedy_reaches_at_least_its_guaranteed_share_of_the_best(rows, missing, max_kept):
    kept = choose(rows, missing, max_kept=max_kept)
    n_best = max(
        len(reached(rows, chosen, missing))
        for chosen in combinations(range(len(rows)), min(max_kept, len(rows)))
    )
    assert len(kept) <= max_kept
    n_reached = len(reached(rows, [k.row for k in kept], missing))
    assert n_reached == sum(len(k.new_features) for k in kept) >= (1 - 1 / np.e) * n_best


@settings(deadline=None)
@given(row_lists(N), FLAGS, st.data())
def test_without_a_limit_all_that_can_be_reached_is_reached(rows, missing, data):
    admissible = data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows)))
    kept = choose(rows, missing, admissible=admissible)
    allowed = np.flatnonzero(admissible)
    assert reached(rows, [k.row for k in kept], missing) == reached(rows, allowed, missing)
    assert {k.row for k in kept} <= set(allowed)


@settings(deadline=None)
@given(row_lists(N), FLAGS)
def test_each_kept_row_is_credited_once_with_what_it_was_first_to_reach(rows, missing):
    done = set()
    for kept in choose(rows, missing):
        new = reached(rows, [kept.row], missing) - done
        assert set(kept.new_features) == new != set()
        assert list(kept.new_features) == sorted(new)
        done |= new


@settings(deadline=None)
@given(row_lists(N), st.data())
def test_novelty_is_asked_once_per_row_and_a_refusal_is_final(rows, data):
    new = data.draw(st.lists(st.booleans(), min_size=len(rows), max_size=len(rows)))
    asked = []
    kept = choose(rows, is_new=lambda row: asked.append(row) or new[row])
    assert len(asked) == len(set(asked))
    assert [k.row for k in kept] == [row for row in asked if new[row]]


def test_sample_counts_for_all_features_that_it_activates():
    rows = [{0: 2.0}, {1: 2.0}, {0: 2.0, 1: 2.0, 2: 2.0}]
    assert choose(rows) == [Kept(2, (0, 1, 2))]


@pytest.mark.parametrize(("n_tokens", "first"), [([10, 10], 0), ([10, 4], 1)])
def test_ties_go_to_the_shorter_then_to_the_earlier(n_tokens, first):
    kept = choose([{0: 2.0, 1: 2.0}, {0: 9.0, 1: 9.0}], n_tokens=n_tokens)
    assert [k.row for k in kept] == [first]


def test_activation_at_the_threshold_is_not_active():
    assert choose([{0: 1.0}]) == []


def test_feature_that_is_not_missing_earns_nothing():
    assert choose([{0: 2.0}], [False] * N) == []


def test_no_candidates_and_no_room_keep_nothing():
    assert choose([]) == []
    assert choose([{0: 2.0}], max_kept=0) == []


# Matching


def matching(rows, lacking, expected, *, bins=None, room=9):
    """Rows that are kept when `rows` are the active features of each candidate."""
    pool = make_activations([dict.fromkeys(row, 2.0) for row in rows], n_features=N)
    kept = choose_matching(
        active_rows(pool, threshold=1.0),
        Shortage(np.array(expected, dtype=float), np.array(lacking, dtype=float)),
        np.array(EVERYTHING),
        bins=np.array(bins or [0] * len(rows)),
        room=[room] * 10,
        admissible=[True] * len(rows),
        is_new=lambda row: True,
    )
    return [k.row for k in kept]


def test_candidate_with_the_most_lacking_feature_comes_first():
    # gains: (2 * 1 - 1) / 10, then (2 * 3 - 1) / 10
    assert matching([[0], [1]], [1, 3, 0, 0, 0, 0], [10] * N) == [1, 0]


def test_matching_stops_when_enough_fires():
    assert matching([[0]] * 5, [2, 0, 0, 0, 0, 0], [10] * N) == [0, 1]


def test_feature_that_fires_too_often_counts_against_a_candidate():
    assert matching([[0, 1]], [2, -3, 0, 0, 0, 0], [10] * N) == []


def test_feature_that_the_anchor_never_fires_counts_neither_way():
    assert matching([[0, 1]], [2, -9, 0, 0, 0, 0], [10, 0, 10, 10, 10, 10]) == [0]


def test_matching_keeps_no_more_of_a_length_than_there_is_room_for():
    rows, bins = [[0], [0], [0]], [4, 4, 7]
    assert matching(rows, [9, 0, 0, 0, 0, 0], [10] * N, bins=bins, room=1) == [0, 2]
