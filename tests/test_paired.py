"""Paired differences of arms, against a slow loop and against numbers worked out on paper."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facsynth.compare.paired import paired_differences
from facsynth.errors import DataError


def drawn(*shape, seed=0):
    return np.random.default_rng(seed).random(shape)


def slow_interval(arm, base, measure, strata, n_resamples):
    """Draw item by item and seed by seed, in the order of the fast path."""
    rng, found = np.random.default_rng(0), []
    groups = [[i for i, s in enumerate(strata) if s == one] for one in sorted(set(strata))]
    for _ in range(n_resamples):
        items = [int(i) for rows in groups for i in rng.choice(rows, len(rows))]
        seeds = {n: rng.integers(0, n, n) for n in sorted({len(arm), len(base)})}
        ends = [
            np.mean([measure([values[s][i] for i in items], items) for s in seeds[len(values)]])
            for values in (arm, base)
        ]
        found.append(ends[0] - ends[1])
    return np.quantile(found, [0.025, 0.975]).tolist()


@pytest.mark.parametrize("n_base", [1, 3])
def test_means_equal_a_slow_loop(n_base):
    arms = {"base": drawn(n_base, 12), "better": drawn(3, 12, seed=1)}
    (found,) = paired_differences(arms, "base", n_resamples=40)
    slow = slow_interval(
        arms["better"], arms["base"], lambda values, _: np.mean(values), [0] * 12, 40
    )
    assert [found.low, found.high] == pytest.approx(slow, abs=1e-12)
    assert found.mean == pytest.approx(arms["better"].mean() - arms["base"].mean())
    assert (found.arm, found.reference, found.n_seeds, found.n_items) == ("better", "base", 3, 12)


def test_areas_within_classes_equal_a_slow_loop():
    from facsynth.tasks.metrics import auprc, auroc

    strata = np.array([0, 1, 1, 0, 0, 1, 0, 1, 0, 1])
    arms = {"a": drawn(2, 10), "b": drawn(2, 10, seed=1)}
    for area in (auprc, auroc):
        (found,) = paired_differences(
            arms,
            "a",
            measure=lambda values, counts, area=area: area(strata == 1, values, counts),
            strata=strata,
            n_resamples=30,
        )
        slow = slow_interval(
            arms["b"],
            arms["a"],
            lambda values, items, area=area: area(strata[items] == 1, np.array(values)),
            strata,
            30,
        )
        assert [found.low, found.high] == pytest.approx(slow, abs=1e-12)


def test_a_constant_difference_has_no_width():
    base = drawn(3, 20)
    (found,) = paired_differences({"base": base, "arm": base + 0.25}, "base")
    assert [found.mean, found.low, found.high] == pytest.approx([0.25] * 3)


def test_interval_of_one_seed_has_the_width_of_the_standard_error():
    base, arm = drawn(1, 400), drawn(1, 400, seed=1)
    (found,) = paired_differences({"base": base, "arm": arm}, "base", n_resamples=4000)
    error = (arm - base).std() / 20
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.05)


def test_seeds_widen_the_interval():
    base, shift = drawn(5, 50), np.linspace(-1, 1, 5)[:, None]
    (same,) = paired_differences({"base": base, "arm": base + 0.1}, "base")
    (varied,) = paired_differences({"base": base, "arm": base + 0.1 + shift}, "base")
    assert varied.high - varied.low > 1.0 > same.high - same.low
    assert varied.mean == pytest.approx(same.mean)


@given(st.integers(1, 4), st.integers(1, 8), st.integers(0, 99))
def test_exchanging_arm_and_reference_changes_the_sign(n_seeds, n_items, seed):
    arms = {"a": drawn(n_seeds, n_items, seed=seed), "b": drawn(n_seeds, n_items, seed=seed + 100)}
    (b,) = paired_differences(arms, "a", n_resamples=20)
    (a,) = paired_differences(arms, "b", n_resamples=20)
    assert [a.mean, a.low, a.high] == pytest.approx([-b.mean, -b.high, -b.low])


@pytest.mark.parametrize(
    ("arms", "message"),
    [
        ({"b": np.ones((1, 2))}, "no arm 'a' to compare with, only b"),
        ({"a": np.ones((0, 2)), "b": np.ones((1, 2))}, "'a' has no scores"),
        ({"a": np.ones((1, 2)), "b": np.full((1, 2), np.nan)}, "'b' has scores that are not fin"),
    ],
)
def test_what_cannot_be_compared_is_refused(arms, message):
    with pytest.raises(DataError, match=message):
        paired_differences(arms, "a")
