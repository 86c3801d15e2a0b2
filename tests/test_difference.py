"""Tests of features between two data sets, against published and independent numbers."""

from collections import Counter
from itertools import combinations, product
from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chi2, chi2_contingency, fisher_exact

from activations import make_activations
from facsynth.compare.difference import compare_features, shared_texts
from facsynth.compare.settings import DiffSettings
from facsynth.compare.stratified import (
    Strata,
    common_odds,
    exact_test,
    length_strata,
    mantel_haenszel,
)
from facsynth.errors import DataError
from facsynth.table.active import active_rows

ANY_LENGTH = DiffSettings(length="none")


def compare(a, b, settings=None):
    return compare_features(*(active_rows(one, threshold=0.0) for one in (a, b)), settings)


def cells(tables):
    """Counts and sizes of 2 x 2 tables [[a, b], [c, d]], one per stratum, for one feature."""
    tables = np.array(tables)
    x, y = tables[:, 0, :1], tables[:, 1, :1]
    return Strata(x, tables[:, 0].sum(axis=1), y, tables[:, 1].sum(axis=1))


ADMISSIONS = [  # admitted and rejected men and women in six departments of Berkeley, 1973
    [[512, 313], [89, 19]],
    [[353, 207], [17, 8]],
    [[120, 205], [202, 391]],
    [[138, 279], [131, 244]],
    [[53, 138], [94, 299]],
    [[22, 351], [24, 317]],
]
SMALL = [[[13, 16], [1, 16]], [[9, 10], [12, 6]], [[19, 2], [6, 8]], [[11, 8], [3, 1]]]


@pytest.mark.parametrize(
    ("tables", "p", "odds", "error"),
    [
        # R's mantelhaen.test(UCBAdmissions): X² = 1.4269, p = 0.2323, ratio 0.9047
        (ADMISSIONS, 0.23226346281704802, 0.9046968282586231, 0.08098890965622091),
        # statsmodels 0.15.0, StratifiedTable
        (SMALL, 0.047796891645682904, 2.1702708901060355, 0.3742959668391045),
    ],
)
def test_stratified_test_equals_reference_software(tables, p, odds, error):
    assert mantel_haenszel(cells(tables))[0] == pytest.approx(p)
    log_odds, found = common_odds(cells(tables), smoothing=0.0)
    assert (np.exp(log_odds[0]), found[0]) == pytest.approx((odds, error))


def test_one_stratum_without_correction_for_rarity_is_the_test_of_yates():
    yates = chi2_contingency([[30, 10], [15, 25]])  # whose variance has n for n - 1
    p = mantel_haenszel(cells([[[30, 10], [15, 25]]]))[0]
    assert chi2.isf(p, 1) == pytest.approx(yates.statistic * 79 / 80)


@given(st.lists(st.tuples(*[st.integers(0, 4)] * 4), min_size=1, max_size=2))
def test_exact_test_sums_the_chances_of_all_draws_that_are_as_rare(counts):
    """By enumeration: every way to draw the first set in each stratum is as likely."""
    tables = [((a, b), (c, d)) for a, b, c, d in counts]
    ways = [
        Counter(sum(draw) for draw in combinations([1] * (a + c) + [0] * (b + d), a + b))
        for (a, b), (c, d) in tables
    ]
    sums = Counter()
    for picks in product(*(way.items() for way in ways)):
        sums[sum(k for k, _ in picks)] += prod(n for _, n in picks)
    seen = sums[sum(a for (a, _), _ in tables)]
    expected = sum(n for n in sums.values() if n <= seen) / sums.total()
    assert exact_test(cells(tables), 0) == pytest.approx(expected)


def test_few_samples_against_many_rarely_differ_by_chance():
    draw, false = np.random.default_rng(0), 0
    share = draw.beta(0.15, 3.0, 500)
    for _ in range(20):
        rows = [{f: 1.0 for f in np.flatnonzero(draw.random(500) < share)} for _ in range(300)]
        parts = (make_activations(part, n_features=500) for part in (rows[:15], rows[15:]))
        false += bool((compare(*parts).q_value <= 0.05).any())
    assert false <= 2


def test_rare_feature_is_smoothed_by_about_half_a_sample():
    log_odds, error = common_odds(cells([[[5, 9995], [0, 10000]]]))
    assert log_odds[0] == pytest.approx(np.log(5.5 / 0.5), abs=0.001)
    assert error[0] == pytest.approx(np.sqrt(1 / 5.5 + 1 / 0.5), abs=0.02)


def test_strata_in_which_a_feature_never_fires_do_not_change_its_odds():
    tables = [[[9, 11], [5, 15]]]
    few = common_odds(cells(tables), smoothing=0.0)
    many = common_odds(cells([*tables, [[0, 30], [0, 7]]]), smoothing=0.0)
    assert many[0][0] == few[0][0]


def test_without_length_groups_all_samples_are_one_group():
    a = make_activations([{0: 1.0}] * 30 + [{1: 1.0}] * 10, n_tokens=[90] * 30 + [9] * 10)
    b = make_activations([{0: 1.0}] * 15 + [{1: 1.0}] * 25, n_tokens=[90] * 15 + [9] * 25)
    found = compare(a, b, ANY_LENGTH)
    assert found.p_value[0] == pytest.approx(fisher_exact([[30, 10], [15, 25]]).pvalue)


def test_groups_hold_equal_lengths_together_and_empty_texts_nowhere():
    groups = length_strata(np.array([0, 5, 5, 5, 5, 9, 9, 30]), n_strata=3)
    assert groups[0] == -1
    assert len(set(groups[1:5])) == len(set(groups[5:7])) == 1
    assert groups[1] < groups[5] <= groups[7]


def test_all_lengths_equal_make_one_group():
    assert set(length_strata(np.full(50, 7))) == {0}


def test_groups_are_about_equally_large():
    sizes = np.bincount(length_strata(np.random.default_rng(0).permutation(1000) + 1))
    assert (sizes.size, sizes.min() >= 99, sizes.max() <= 101) == (10, True, True)


def test_difference_that_is_only_length_disappears_within_length_groups():
    """Feature 0 fires in all long texts and in no short one; A has more long texts."""
    a = make_activations([{0: 1.0}] * 30 + [{1: 1.0}] * 10, n_tokens=[90] * 30 + [9] * 10)
    b = make_activations([{0: 1.0}] * 10 + [{1: 1.0}] * 30, n_tokens=[90] * 10 + [9] * 30)
    assert compare(a, b, ANY_LENGTH).p_value[0] < 1e-4
    matched = compare(a, b)
    assert matched.p_value[0] == 1.0
    assert matched.log_odds[0] == pytest.approx(0.0, abs=0.1)


def test_difference_at_equal_lengths_is_found_with_its_sign():
    a = make_activations([{0: 1.0, 1: 1.0}] * 40)
    b = make_activations([{1: 1.0, 2: 1.0}] * 40)
    found = compare(a, b)
    assert found.feature_ids.tolist() == [0, 1, 2]
    assert (found.q_value < 0.01).tolist() == [True, False, True]
    assert np.sign(found.log_odds).tolist() == [1, 0, -1]
    assert ((found.low <= found.log_odds) & (found.log_odds <= found.high)).all()


def test_random_halves_of_one_set_rarely_differ():
    draw, false = np.random.default_rng(0), 0
    for _ in range(40):
        rows = [{f: 1.0 for f in np.flatnonzero(draw.random(60) < 0.2)} for _ in range(120)]
        halves = (make_activations(part, n_features=60) for part in (rows[:60], rows[60:]))
        found = compare(*halves)
        false += bool((found.q_value <= 0.05).any())
    assert false <= 5


def test_q_values_are_those_of_benjamini_and_hochberg():
    a, b = make_activations([{0: 1.0, 1: 1.0}] * 9), make_activations([{1: 1.0, 2: 1.0}] * 9)
    found = compare(a, b)
    p = np.sort(found.p_value)
    assert np.sort(found.q_value) == pytest.approx([p[1] * 1.5, p[1] * 1.5, p[2]])


def test_set_against_itself_has_no_difference():
    table = make_activations([{0: 1.0}, {1: 1.0}, {0: 1.0, 2: 1.0}], n_tokens=[3, 9, 40])
    found = compare(table, table)
    assert found.p_value.tolist() == [1.0] * 3
    assert found.log_odds.tolist() == pytest.approx([0.0] * 3)


def test_one_sample_each_can_be_compared():
    found = compare(make_activations([{0: 1.0}]), make_activations([{1: 1.0}]))
    assert found.p_value.min() > 0.1


def test_no_common_length_is_an_error():
    a = make_activations([{0: 1.0}] * 30, n_tokens=[5] * 30)
    b = make_activations([{1: 1.0}] * 30, n_tokens=[500] * 30)
    with pytest.raises(DataError, match="share no length"):
        compare(a, b)


def test_nothing_active_is_an_error():
    with pytest.raises(DataError, match="no relevant feature fires"):
        compare(make_activations([{}]), make_activations([{}]))


def test_texts_that_all_are_empty_are_an_error():
    empty = make_activations([{}, {}], n_tokens=[0, 0])
    with pytest.raises(DataError, match="second data set has no sample"):
        compare(make_activations([{0: 1.0}]), empty)


def test_only_relevant_features_are_tested():
    relevant = np.array([True, False, False, False])
    rows = make_activations([{0: 1.0, 1: 1.0}])
    active = active_rows(rows, threshold=0.0, relevant=relevant)
    assert compare_features(active, active).feature_ids.tolist() == [0]


def test_features_of_a_side_are_ordered_by_evidence():
    a = make_activations([{0: 1.0, 2: 1.0}] * 30 + [{2: 1.0}] * 10)
    b = make_activations([{1: 1.0}] * 40)
    found = compare(a, b)
    assert [found.feature_ids[i] for i in found.more_in(0)] == [2, 0]
    assert [found.feature_ids[i] for i in found.more_in(1)] == [1]


def test_texts_in_both_sets_and_copies_are_noted():
    sets = [["x", "y"], ["x", "x"]]
    shared, copies = shared_texts(sets)
    assert shared.startswith("1 texts are in both sets")
    assert copies.startswith("1 samples are copies")
    assert shared_texts([sets[0][:1], sets[0][1:]]) == ()
