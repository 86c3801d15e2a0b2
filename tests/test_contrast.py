"""Judges without an LLM: features that go with a label, or with the failures of a model."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import fisher_exact

from activations import make_activations, write_table
from facsynth.errors import DataError
from facsynth.records import Sample
from facsynth.table.active import active_rows
from facsynth.table.table import open_table
from facsynth.understand.contrast import (
    failure_difference,
    find_failures,
    judge_by_difference,
    judge_table,
    label_difference,
)
from facsynth.understand.settings import RelevanceSettings

ROWS = [{0: 2.0, 1: 2.0}] * 8 + [{1: 2.0}] * 2 + [{0: 2.0, 2: 2.0}] + [{2: 2.0}] * 9
LABELS = ["x"] * 10 + ["y"] * 10


def active(rows, **kinds):
    return active_rows(make_activations(rows, **kinds), threshold=1.0)


def by_labels(rows, labels, label="x", **how):
    return judge_by_difference(label_difference(rows, labels, label, **how), judge="labels")


def failed(values, **how):
    found = find_failures("score", np.array(values, dtype=float), **how)
    return np.flatnonzero(found.failed).tolist()


# Labels


def test_features_are_graded_by_q_and_only_for_the_label():
    judged = by_labels(active(ROWS), LABELS)
    grades = [(one.feature_id, one.grade) for one in judged]
    assert grades == [(1, "yes"), (2, "no"), (0, "probably")]
    exact = fisher_exact([[8, 2], [1, 9]]).pvalue
    assert judged[2].q_value == pytest.approx(exact)  # the largest p of three


def test_samples_without_a_label_are_left_out():
    judged = by_labels(active(ROWS), ["x"] * 10 + [None] * 5 + ["y"] * 5)
    assert "active in 10 of 10 (x) and 0 of 5 (other labels)" in judged[0].reason


@pytest.mark.parametrize(
    ("labels", "message"),
    [(["y"] * 20, "no sample has the label 'x'; there are y"), (["x"] * 20, "all samples have")],
)
def test_labels_that_do_not_vary_are_an_error(labels, message):
    with pytest.raises(DataError, match=message):
        by_labels(active(ROWS), labels)


def test_label_that_only_goes_with_length_makes_no_feature_relevant():
    """Feature 0 fires in long texts, which mostly have the label."""
    lengths = [90] * 30 + [9] * 10 + [90] * 10 + [9] * 30
    rows = active([{0: 2.0} if n == 90 else {} for n in lengths], n_tokens=lengths)
    labels = ["x"] * 40 + ["y"] * 40
    assert by_labels(rows, labels, length="none")[0].is_relevant()
    assert not by_labels(rows, labels)[0].is_relevant()


# Scores


def test_of_two_scores_the_worse_one_is_a_failure():
    assert failed([1, 0, 1, np.nan, 0]) == [1, 4]
    assert failed([1, 0, 1, np.nan, 0], lower_is_better=True) == [0, 2]


def test_of_many_scores_the_worst_share_fails_with_its_ties():
    assert failed([5, 1, 2, 8, 3, 4, 6, 7]) == [1, 2]
    assert failed([5, 1, 2, 8, 2, 4, 6, 7]) == [1, 2, 4]
    assert failed([5, 1, 2, 8, 3, 4, 6, 7], share=0.5, lower_is_better=True) == [0, 3, 6, 7]


@pytest.mark.parametrize(
    ("values", "message"),
    [([1, 1, np.nan], "all 2 values of `score` are 1"), ([0, 0.5, 1, 1, 1, 1], "smaller --low")],
)
def test_scores_that_tell_no_failures_from_successes_are_an_error(values, message):
    with pytest.raises(DataError, match=message):
        failed(values, share=0.9)


def drawn_rows(rng, n_samples=200, n_features=150):
    """Samples of very different length whose features fire more in longer ones."""
    lengths = rng.integers(5, 100, n_samples)
    shares = np.clip(rng.beta(0.3, 3.0, n_features) * lengths[:, None] / 50, 0, 0.9)
    fires = rng.random((n_samples, n_features)) < shares
    rows = [dict.fromkeys(np.flatnonzero(row).tolist(), 2.0) for row in fires]
    return active(rows, n_features=n_features, n_tokens=lengths.tolist()), lengths


def relevant(rows, values):
    found = failure_difference(rows, find_failures("score", values))
    judged = judge_by_difference(found, judge="scores")
    return {one.feature_id for one in judged if one.is_relevant()}


def test_planted_failures_are_found_and_nothing_else():
    rng = np.random.default_rng(0)
    rows, _ = drawn_rows(rng)
    planted = [int(f) for f in np.argsort(abs(rows.counts - 40))[:3]]
    fires = rows.fires.toarray()[:, planted].any(axis=1)
    scores = np.where(fires, rng.random(200) < 0.1, rng.random(200) < 0.9).astype(float)
    found = relevant(rows, scores)
    assert set(planted) <= found
    assert len(found) <= len(planted) + 1


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_scores_that_depend_on_length_alone_find_few_features(random_seed):
    """Shuffled among samples of about one length, scores say nothing about features."""
    rng = np.random.default_rng(random_seed)
    rows, lengths = drawn_rows(rng)
    assert len(relevant(rows, (rng.random(200) * 100 > lengths).astype(float))) <= 2


def test_shuffled_scores_find_nothing_in_most_shuffles():
    rng = np.random.default_rng(0)
    rows, _ = drawn_rows(rng)
    scores = (rng.random(200) < 0.8).astype(float)
    finds = [bool(relevant(rows, rng.permutation(scores))) for _ in range(30)]
    assert sum(finds) <= 3  # 5 % of the shuffles at a false discovery rate of 5 %


def test_file_of_scores_makes_a_relevance_file_of_a_table(tmp_path):
    samples = [Sample(f"a-{i}", text="words") for i in range(20)]
    write_table(tmp_path / "t", make_activations(ROWS), samples)
    (tmp_path / "s.txt").write_text("0\n" * 10 + "1\n" * 10)
    asked = RelevanceSettings(scores=str(tmp_path / "s.txt"))
    judged = judge_table(open_table(tmp_path / "t"), asked, names={1: "one"})
    first = judged.found[0].row()
    assert (first["feature_id"], first["relevant"], first["name"]) == (1, True, "one")
    assert first["log_odds"] > 0 > -first["q_value"]
    assert judged.notes[0] == "10 of 20 samples count as failures: score is at most 0"


def test_two_judges_at_once_are_an_error():
    with pytest.raises(DataError, match="give one of them"):
        RelevanceSettings(label="x", scores="s.txt")
