"""Shared features, parts of matched size, redundancy, and the ranking of models."""

import numpy as np
import pytest
from hypothesis import given, settings

from activations import dense, make_activations, row_lists
from facsynth.coverage.overlap import (
    matched_overlap,
    measure_redundancy,
    overlap_matrix,
    rank_agreement,
)
from facsynth.data.scores import read_scores
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


def test_ranking_by_all_samples_is_the_same_ranking():
    scores = {"a": np.array([1.0, 1, 1, 0]), "b": np.array([1.0, 1, 0, 0]), "c": np.zeros(4)}
    (point,) = rank_agreement(np.arange(4), scores, rng=rng())
    assert (point.n_samples, point.greedy, point.random) == (4, 1.0, 1.0)


def test_ranking_by_misleading_samples_is_turned_around():
    scores = {"a": np.array([0.0] * 4 + [1.0] * 96), "b": np.array([1.0] * 4 + [0.0] * 96)}
    point = rank_agreement(np.arange(100), scores, rng=rng())[0]
    assert (point.n_samples, point.greedy) == (4, -1.0)
    assert point.random > 0.9


def test_models_that_tie_have_no_ranking():
    (point,) = rank_agreement(np.arange(3), {"a": np.ones(3), "b": np.ones(3)}, rng=rng())
    assert (point.greedy, point.random) == (None, None)


def test_one_model_cannot_be_ranked():
    with pytest.raises(DataError, match="1 models are scored"):
        rank_agreement(np.arange(3), {"a": np.ones(3)}, rng=rng())


def test_set_without_active_features_is_an_error():
    with pytest.raises(DataError, match="data set 2 activates none"):
        overlap_matrix([make_activations([{0: 1.0}]), make_activations([{}])], ALL)


def test_single_sample_has_no_parts():
    with pytest.raises(DataError, match="single sample"):
        matched_overlap([make_activations([{0: 1.0}])], ALL, rng=rng())


# Scores


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("s.csv", "sample_id,m1,m2\nb,0,1\na,1,0.5\nother,9,9\n"),
        ("s.tsv", "m1\tid\tm2\n0\tb\t1\n1\ta\t0.5\n"),
        ("s.jsonl", '{"id": "b", "m1": false, "m2": 1}\n{"id": "a", "m1": 1, "m2": 0.5}\n'),
    ],
)
def test_scores_come_in_the_order_of_the_samples(tmp_path, name, text):
    (tmp_path / name).write_text(text)
    found = read_scores(tmp_path / name, ["a", "b"])
    assert {model: scores.tolist() for model, scores in found.items()} == {
        "m1": [1.0, 0.0],
        "m2": [0.5, 1.0],
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sample_id,m\na,1\n", "no score of 'm' for sample 'b'"),
        ("sample_id,m\na,1\na,1\n", "line 3: sample 'a' has two rows"),
        ("sample_id,m\na,good\n", "line 2, `m`: a number was expected, found 'good'"),
        ("sample_id,m\na,nan\n", "nan is not a finite number"),
        ("name,m\na,1\n", "line 2: no `sample_id` or `id`"),
        ("sample_id,m\nz,1\n", "no score for any sample"),
    ],
)
def test_scores_that_cannot_be_used(tmp_path, text, message):
    (tmp_path / "s.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        read_scores(tmp_path / "s.csv", ["a", "b"])
