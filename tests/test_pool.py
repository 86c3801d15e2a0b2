"""The pool of candidates: look-ups of activations, hits and contrastive pairs."""

import numpy as np
import pytest

from activations import make_activations
from facsynth.records import Span
from facsynth.synthesize.candidates import Candidate, Pair, Target
from facsynth.synthesize.keep import Pool
from tiny_pair import talk

CAT = Target(0, "cat", (Span("a", "the ", "cat", " sat", 9.0),))


def make_pool(*candidates, threshold=1.0):
    """A pool of (target, activations, outcome) triples; candidate `i` says `text i`."""
    pool = Pool(threshold)
    for i, (target, row, outcome) in enumerate(candidates):
        written = Candidate(talk(f"c{i}", f"text {i}"), target, step=1, round=0, random_seed=0)
        pool.add([written], make_activations([row]), [outcome])
    return pool


def test_activation_is_that_of_every_candidate_in_order():
    pool = make_pool((0, {0: 2.0}, ""), (0, {}, ""), (1, {0: 0.5, 1: 3.0}, ""))
    assert pool.activation(0).tolist() == [2.0, 0.0, 0.5]
    assert Pool(1.0).activation(0).tolist() == []


@pytest.mark.parametrize(
    ("row", "outcome", "hit"),
    [({0: 2.0}, "", True), ({0: 1.0}, "", False), ({1: 2.0}, "", False), ({0: 2.0}, "kept", False)],
)
def test_hit_is_an_open_candidate_above_the_threshold(row, outcome, hit):
    assert make_pool((0, row, outcome)).is_hit(0) is hit
    assert not Pool(1.0).is_hit(0)


def test_threshold_is_rounded_like_the_activations():
    assert not make_pool((0, {0: 0.1}, ""), threshold=0.1).is_hit(0)
    assert float(np.float32(0.1)) > 0.1


def test_strong_text_of_a_pair_may_come_from_any_feature():
    pool = make_pool((0, {0: 0.5}, ""), (1, {0: 4.0}, "near-copy"), (0, {0: 0.2}, ""), (1, {}, ""))
    assert pool.pair(CAT) == Pair(strong="text 1", weak="text 2")


def test_anchor_span_is_the_strong_text_where_no_candidate_hits():
    pool = make_pool((0, {0: 1.0}, ""), (0, {0: 0.2}, ""))
    assert pool.pair(CAT) == Pair(strong="the cat sat", weak="text 1")


def test_weak_text_comes_from_all_where_none_was_written_for_the_feature():
    pool = make_pool((1, {0: 0.2}, ""), (1, {}, ""), (1, {0: 0.1}, ""))
    assert pool.pair(CAT).weak == "text 1"


@pytest.mark.parametrize("others", [[], [(1, {0: 0.5}, "")]])
def test_texts_of_a_pair_are_never_the_same(others):
    pair = make_pool((0, {0: 4.0}, "repetitive"), *others).pair(CAT)
    assert pair.strong != pair.weak


def test_outcomes_are_counted():
    pool = make_pool((0, {}, ""), (0, {}, "kept"), (0, {}, ""), (0, {}, "too long"))
    assert pool.outcome_counts() == {"nothing new": 2, "kept": 1, "too long": 1}
    assert pool.is_open() == [True, False, True, False]
