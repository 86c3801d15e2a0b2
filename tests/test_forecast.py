"""Estimates of a run before its first call, worked out by hand."""

from facsynth.chat.model import ChatRequest
from facsynth.chat.settings import Policy
from facsynth.records import Message
from facsynth.synthesize.forecast import forecast
from facsynth.synthesize.settings import Effort

ASK = ChatRequest((Message("user", "x" * 36),), max_tokens=50)
"""9 tokens of text and 4 of the template."""

EFFORT = Effort(
    max_features=3, max_rounds=9, features_per_round=2, first_candidates=2, second_candidates=1
)


def test_whole_run_aims_at_each_feature_twice_with_both_steps_and_its_answers():
    prices = Policy(price_in=1e6, price_out=2e6)
    expected = forecast([ASK] * 4, n_features=99, effort=EFFORT, n_answers=5, policy=prices)
    assert (expected.n_features, expected.first.prompt_tokens) == (3, 4 * 13)
    most = expected.at_most  # 6 slots of 3 texts, 5 answers to texts of up to 50 + 8 tokens
    assert (most.n_calls, most.prompt_tokens) == (18 + 5, 18 * 13 + 5 * 58)
    assert most.max_completion_tokens == 18 * 50 + 5 * 128
    assert most.max_cost == most.prompt_tokens + 2 * most.max_completion_tokens


def test_features_that_are_aimed_at_again_and_again_fill_every_slot():
    expected = forecast([ASK], n_features=99, effort=EFFORT, n_answers=0, is_repeated=True)
    assert expected.at_most.n_calls == 9 * 2 * 3  # rounds, features, texts


def test_judge_grades_each_text_once():
    grade = ChatRequest((Message("user", "x" * 40),), max_tokens=64)
    plain, judged = (
        forecast([ASK], n_features=3, effort=EFFORT, n_answers=0, grade=one).at_most
        for one in (None, grade)
    )
    n_texts = plain.n_calls
    assert judged.n_calls == 2 * n_texts
    assert judged.prompt_tokens == plain.prompt_tokens + n_texts * (10 + 4 + 50)
    assert judged.max_completion_tokens == plain.max_completion_tokens + n_texts * 64


def test_nothing_to_aim_at_costs_nothing():
    expected = forecast([], n_features=0, effort=EFFORT, n_answers=None)
    assert (expected.at_most.n_calls, expected.at_most.max_cost) == (0, 0.0)
