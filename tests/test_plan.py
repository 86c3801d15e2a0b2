"""Plans of what is aimed at, on matrices small enough to follow by hand."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from activations import make_activations
from facsynth.synthesize.plan import (
    Aim,
    Wanted,
    anchor_strengths,
    length_classes,
    length_distance,
    length_quotas,
    plan_aims,
)
from facsynth.table.active import active_rows

LENGTHS = st.lists(st.integers(1, 40), min_size=1, max_size=60).map(np.array)


def anchor_of(rows, tokens=None):
    """An anchor whose samples have these activations, by feature; 0 stands for none."""
    lists = [{f: float(v) for f, v in enumerate(row) if v} for row in rows]
    n_tokens = tokens or [9] * len(rows)
    table = make_activations(lists, n_features=len(rows[0]), n_tokens=n_tokens)
    return active_rows(table, threshold=0.5)


def wanted_by(anchor, counts=None, openness=None, **options):
    counts = np.zeros(anchor.n_features, dtype=np.int64) if counts is None else np.array(counts)
    openness = np.ones(anchor.n_features) if openness is None else np.array(openness)
    settings = {"per_feature": 1, "n_final": anchor.n_samples, **options}
    return Wanted.measure(anchor, counts, openness=openness, **settings)


def plan(rows, *, n=1, tokens=None, room=None, uses=None, **options):
    anchor = anchor_of(rows, tokens)
    n_tokens = anchor.activations.n_tokens
    return plan_aims(
        anchor_strengths(anchor),
        wanted_by(anchor, **options),
        length_classes(n_tokens, n_tokens),
        length_quotas(n_tokens, len(rows)) if room is None else np.array(room),
        n=n,
        uses=np.zeros(len(rows), dtype=np.int64) if uses is None else np.array(uses),
        is_shown=np.ones(len(rows), dtype=bool),
    )


def test_text_that_fires_the_most_wanted_features_is_imitated_first():
    assert plan([[1, 0, 0], [0, 1, 1]], n=2) == [Aim((1, 2), 1, True), Aim((0,), 0, True)]


def test_text_that_fires_a_feature_most_is_imitated():
    assert plan([[1], [4], [2]]) == [Aim((0,), 1, True)]


def test_frequent_features_weigh_by_the_root_of_their_counts():
    anchor = anchor_of([[1, 0], [1, 0], [1, 0], [1, 1]])
    assert wanted_by(anchor).missing.tolist() == [2.0, 1.0]


def test_text_that_was_used_gives_way_to_another():
    assert plan([[3], [2]], uses=[1, 0]) == [Aim((0,), 1, True)]


def test_covered_features_count_only_when_nothing_is_missing():
    rows = [[1, 0], [0, 1]]
    assert plan(rows, counts=[1, 0]) == [Aim((1,), 1, True)]
    assert plan(rows, counts=[1, 2], per_feature=2) == [Aim((0,), 0)]


def test_rates_name_no_feature():
    # Expected are 2 and 1 of 3 samples; the second feature fires too seldom by its whole share.
    assert plan([[1, 0], [1, 0], [0, 1]], counts=[2, 0], openness=[0.0, 0.0]) == [Aim((), 2)]


def test_without_room_only_missing_features_are_aimed_at():
    rows = [[1, 0], [0, 1]]
    assert plan(rows, n=5, room=[0] * 11, counts=[0, 1]) == [Aim((0,), 0, True)]
    assert plan(rows, n=5, room=[0] * 11, counts=[1, 1]) == []


def test_length_classes_take_turns_by_their_room():
    rows, tokens = [[1], [1], [1], [1]], [2, 2, 8, 8]
    short, long = length_classes(np.array([2, 8]), np.array(tokens))
    room = [2 * (c == short) + (c == long) for c in range(11)]
    aims = plan(rows, n=3, tokens=tokens, room=room, counts=[9])
    assert sorted(tokens[aim.row] for aim in aims) == [2, 2, 8]


@given(LENGTHS, st.integers(0, 50))
def test_quotas_sum_to_the_size_and_differ_from_the_shares_by_less_than_one(lengths, n):
    quotas = length_quotas(lengths, n)
    shares = np.bincount(length_classes(lengths, lengths), minlength=11) / lengths.size
    assert quotas.sum() == n
    assert (np.abs(quotas - n * shares) < 1).all()


@given(LENGTHS)
def test_classes_are_ordered_and_what_is_longer_than_the_anchor_is_in_none(lengths):
    assert length_classes(np.array([lengths.max() + 1]), lengths).tolist() == [10]
    assert (np.diff(length_classes(np.sort(lengths), lengths)) >= 0).all()


@given(LENGTHS, LENGTHS)
def test_length_distance_is_the_largest_difference_of_shares(one, other):
    gaps = [abs(np.mean(one <= x) - np.mean(other <= x)) for x in range(41)]
    assert abs(length_distance(one, other) - max(gaps)) < 1e-12
