"""Metrics of tasks against scikit-learn and against numbers worked by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score, roc_auc_score

from facsynth.errors import DataError
from facsynth.tasks.metrics import (
    auprc,
    auroc,
    bootstrap_ranking,
    bootstrap_share,
    check_classes,
)
from facsynth.tasks.reward.evaluate import section_averages
from facsynth.tasks.steering.rates import accuracies, control_rate

LABELLED = st.lists(
    st.tuples(st.booleans(), st.integers(-3, 3), st.integers(0, 3)), min_size=4, max_size=40
).filter(lambda rows: len({row[0] for row in rows if row[2]}) == 2)


@given(LABELLED)
def test_areas_are_those_of_scikit_learn_with_ties_and_weights(rows):
    positive, scores, weights = (np.array(column) for column in zip(*rows, strict=True))
    scores, weights = scores.astype(float), weights.astype(float)
    kept = weights > 0
    expected = average_precision_score(positive[kept], scores[kept], sample_weight=weights[kept])
    assert auprc(positive, scores, weights) == pytest.approx(expected)
    expected = roc_auc_score(positive[kept], scores[kept], sample_weight=weights[kept])
    assert auroc(positive, scores, weights) == pytest.approx(expected)


@given(LABELLED)
def test_rows_of_weights_give_the_area_of_each(rows):
    positive, scores, weights = (np.array(column, float) for column in zip(*rows, strict=True))
    many = np.stack([weights, np.ones(len(rows)), weights])
    for area in (auprc, auroc):
        expected = [area(positive > 0, scores, one) for one in many]
        assert area(positive > 0, scores, many).tolist() == pytest.approx(expected)


def test_average_precision_by_hand():
    positive = np.array([True, False, True, False])
    assert auprc(positive, np.array([4.0, 3.0, 2.0, 1.0])) == pytest.approx((1 + 2 / 3) / 2)


def test_the_interval_holds_the_value_and_shrinks_with_samples():
    rng = np.random.default_rng(0)

    def width(n):
        positive = np.arange(n) % 2 == 0
        found = bootstrap_ranking(
            auprc, positive, positive + rng.normal(size=n), rng=rng, n_resamples=200
        )
        assert found.low <= found.value <= found.high
        return found.high - found.low

    assert width(2000) < width(60) / 2


@pytest.mark.parametrize("area", [auprc, auroc])
def test_resamples_equal_a_loop_also_in_parts(area, monkeypatch):
    positive = np.arange(30) % 3 == 0
    scores = np.random.default_rng(0).integers(0, 9, 30).astype(float)
    rng, found = np.random.default_rng(1), []
    for _ in range(20):
        weights = np.zeros(30)
        for rows in (np.flatnonzero(positive), np.flatnonzero(~positive)):
            np.add.at(weights, rows[rng.integers(0, rows.size, rows.size)], 1)
        found.append(area(positive, scores, weights))
    monkeypatch.setattr("facsynth.tasks.metrics._MOST_NUMBERS", 100)
    made = bootstrap_ranking(area, positive, scores, rng=np.random.default_rng(1), n_resamples=20)
    assert [made.low, made.high] == pytest.approx(np.quantile(found, [0.025, 0.975]).tolist())


def test_the_interval_of_a_share_has_the_spread_of_the_binomial():
    flags = np.repeat([0.0, 1.0], 200)
    found = bootstrap_share(flags, rng=np.random.default_rng(0))
    assert found.value == 0.5
    assert found.high - found.low == pytest.approx(2 * 1.96 * 0.5 / 20, rel=0.15)


@pytest.mark.parametrize("flag", [True, False])
def test_one_class_only_is_an_error(flag):
    with pytest.raises(DataError, match="both classes are needed"):
        check_classes(np.full(3, flag), "the training data")


def test_the_control_rate_by_hand():
    """Three items: +1 gets all right in both orders but the last, -1 only the second."""
    right, wrong = (-1.0, -2.0), (-2.0, -1.0)
    up = np.array([right, right, right, right, right, wrong])
    down = np.array([wrong, right, wrong, right, right, wrong])
    found = control_rate(up, down)
    assert found.tolist() == [1.0, 0.0, 0.0]  # (2/3) - (1/3): the last is right in one order only


def test_always_the_first_letter_has_no_control_rate():
    first = np.array([(-1.0, -2.0), (-2.0, -1.0)])  # A matches as given, B when exchanged
    assert control_rate(first, first[::-1].copy()).tolist() == [0.0]


def test_accuracies_by_hand():
    """Item 0 is right in both orders; 1 gets one letter, the matching one by more; 2 is wrong."""
    given = [(-1.0, -2.0), (-1.0, -3.0), (-2.0, -1.0)]
    exchanged = [(-1.0, -2.0), (-2.0, -1.0), (-2.0, -1.0)]
    found = accuracies(np.array([*given, *exchanged]))
    assert found["plain"] == found["balanced"] == pytest.approx(2 / 3)
    assert found["robust"] == pytest.approx(1 / 3)
    assert found["consistent"] == pytest.approx(2 / 3)


def test_sections_weigh_subsets_by_pairs_and_math_like_code():
    accuracy = {"hep-cpp": 1.0, "hep-go": 0.5, "math-prm": 0.0, "donotanswer": 0.25}
    counts = {"hep-cpp": 3, "hep-go": 1, "math-prm": 99, "donotanswer": 8}
    found = section_averages(accuracy, counts)
    assert found == {"Safety": 0.25, "Reasoning": 3.5 / 8, "Average": (0.25 + 3.5 / 8) / 2}


def test_other_subsets_have_no_sections():
    assert section_averages({"mine": 1.0}, {"mine": 1}) is None
