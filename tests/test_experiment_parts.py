"""The parts of an experiment: order, choices, controls and measures, against small examples."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from facsynth.errors import DataError
from facsynth.experiment.arms import ArmSet
from facsynth.experiment.cells import measure_of
from facsynth.experiment.clusters import cluster_sae
from facsynth.experiment.controls import change_names
from facsynth.experiment.order import in_turn, order_by_length
from facsynth.experiment.real import farthest_first, nearest_to_means
from facsynth.experiment.run import _n_added
from facsynth.experiment.settings import Arm, TaskSettings, varied_arms
from facsynth.models.residual import read_residual
from facsynth.models.tokens import tokenize_samples
from facsynth.recipe import DataSource
from facsynth.records import Sample
from facsynth.tasks.metrics import auprc, auroc
from facsynth.understand.descriptions import Described
from tiny_pair import PLANTED, WEAK, planted_pair

LENGTHS = st.lists(st.integers(1, 60), min_size=1, max_size=40)


@given(LENGTHS, LENGTHS)
def test_order_has_every_sample_once(lengths, target):
    order = order_by_length(np.array(lengths), np.array(target))
    assert sorted(order) == list(range(len(lengths)))


def test_every_beginning_has_the_lengths_of_the_target():
    # Fifths of the target end at 1, 2, 3 and 4, so each length is a class of its own.
    target = np.array([1, 2, 3, 4, 5] * 4)
    order = order_by_length(np.array([5, 5, 5, 4, 4, 4, 3, 3, 2, 2, 1, 1]), target)
    lengths = np.array([5, 5, 5, 4, 4, 4, 3, 3, 2, 2, 1, 1])[order]
    assert sorted(lengths[:5]) == sorted(lengths[5:10]) == [1, 2, 3, 4, 5]


def test_samples_of_one_length_keep_their_order():
    assert order_by_length(np.array([7, 7, 7]), np.array([3, 9])) == [0, 1, 2]


def test_class_that_runs_out_is_passed_over():
    assert order_by_length(np.array([1, 1, 9]), np.array([9, 9, 9, 9, 1])) == [2, 0, 1]


def test_classes_take_turns_until_one_runs_out():
    assert in_turn([["a", "b", "c"], ["x", "y"]]) == ["a", "x", "b", "y"]
    assert in_turn([["a"], []]) == []


def test_farthest_first_goes_to_the_ends_before_the_middle():
    line = np.array([[0.0], [1.0], [5.0], [10.0]])
    assert farthest_first(line, 4, first=0) == [0, 3, 2, 1]


def test_centres_are_taken_from_the_largest_cluster_first():
    points = np.array([[0.0], [0.1], [0.2], [9.0], [9.1]])
    assert nearest_to_means(points, 2, random_seed=0)[0] == 1
    assert set(nearest_to_means(points, 2, random_seed=0)) & {3, 4}


@pytest.mark.parametrize("name", ["auroc", "auprc"])
def test_measure_of_a_task_is_that_of_the_weighted_scores(name):
    rng = np.random.default_rng(0)
    positive, scores = rng.random(30) > 0.5, rng.integers(0, 9, 30).astype(float)
    counts = rng.integers(0, 3, 30).astype(float)
    task = TaskSettings("t", DataSource("x"), "yes", measure=name)
    plain = {"auroc": auroc, "auprc": auprc}[name]
    measure = measure_of(task, positive)
    assert measure(scores, counts) == pytest.approx(plain(positive, scores, counts))
    assert measure(scores) == pytest.approx(plain(positive, scores))


def test_varied_arms_differ_in_one_value_each():
    kept = {"effort": {"max_rounds": 3}}
    vary = {"effort.max_features": (5, 9), "generator": ("tiny",)}
    plain, five, nine, tiny = varied_arms(Arm("a", "synthesize", settings=kept, vary=vary))
    assert (plain.settings, plain.vary, plain.generator) == (kept, {}, "")
    assert five.settings == {"effort": {"max_rounds": 3, "max_features": 5}}
    assert (nine.name, tiny.name) == ("a, effort.max_features=9", "a, generator=tiny")
    assert (tiny.settings, tiny.generator) == (kept, "tiny")


def test_crossed_arms_are_all_combinations():
    vary = {"source.sae": ("wide", "narrow"), "generator": ("x", "y"), "flipped": (0.1,)}
    plain, *found = varied_arms(Arm("a", "synthesize", vary=vary, cross=True))
    assert (plain.name, len(found)) == ("a", 4)
    assert {(arm.source.sae[0], arm.generator) for arm in found} == set(product("wn", "xy"))
    assert {arm.flipped for arm in found} == {0.1}


NAMED = {i: Described(i, f"name {i}", description=f"two words of {i}") for i in range(5)}


def test_truncated_explanations_have_half_of_their_words():
    found = change_names(NAMED, "truncated", 0)
    assert (found[3].name, found[3].description) == ("name", "two words")


def test_swapped_explanations_are_all_there_and_none_at_its_feature():
    found = change_names(NAMED, "swapped", 0)
    assert sorted(d.name for d in found.values()) == sorted(d.name for d in NAMED.values())
    assert not any(found[i].description == NAMED[i].description for i in NAMED)
    assert change_names(NAMED, "whole", 0) == NAMED


def test_token_activates_the_cluster_whose_centre_is_nearest():
    lm, _ = planted_pair()
    words = [*PLANTED, *WEAK]
    samples = [Sample(str(i), text=" ".join(["the", *words])) for i in range(8)]
    sae = cluster_sae(samples, lm, 0, random_seed=1)
    tokens = tokenize_samples(samples[:1], lm.tokenizer)
    states = read_residual(lm, [tokens[0].input_ids], 0)[0]
    active = sae.encode(states[1:].float()) > 0  # the first token is not scored
    assert active.sum(dim=1).tolist() == [1] * len(words)
    assert sae.config.d_sae == len(words)  # 8 tokens each
    assert len({int(row.nonzero()) for row in active}) == len(words)


def test_arm_that_adds_a_share_adds_a_share_of_every_size():
    one = ArmSet(Path("x"), tuple(Sample(str(i), text="a") for i in range(10)), {})
    assert _n_added(Arm("a", "synthesize", added=0.3), one, "samples", 20) == 6
    assert _n_added(Arm("a", "synthesize"), one, "samples", 20) is None


@pytest.mark.parametrize("wrong", [{"flipped": 1.1}, {"aimed": 0.0}, {"added": 2.0}, {"rounds": 0}])
def test_share_outside_its_range_is_refused(wrong):
    with pytest.raises(DataError, match=f"the arm a has {next(iter(wrong))}"):
        Arm("a", "synthesize", **wrong)
