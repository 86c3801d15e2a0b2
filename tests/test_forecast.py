"""Estimates of a run before its first call, worked out by hand."""

from facsynth.chat.model import ChatRequest
from facsynth.chat.settings import EndpointSettings, Generator, Policy
from facsynth.records import Message
from facsynth.synthesize.forecast import forecast

ASK = ChatRequest((Message("user", "x" * 36),), max_tokens=50)
"""9 tokens of text and 4 of the template."""


def test_whole_run_asks_for_every_text_and_its_answer():
    prices = Policy(price_in=1e6, price_out=2e6)
    expected = forecast([ASK] * 4, n_features=3, n_texts=18, answer=(1, 128), policy=prices)
    assert (expected.n_features, expected.first.prompt_tokens) == (3, 4 * 13)
    most = expected.at_most
    assert (most.n_calls, most.prompt_tokens) == (18 + 18, 18 * 13 + 18 * 58)
    assert most.max_completion_tokens == 18 * 50 + 18 * 128
    assert most.max_cost == most.prompt_tokens + 2 * most.max_completion_tokens


def test_conversation_of_two_questions_asks_three_times_and_reads_what_was_said():
    plain, talk = (
        forecast([ASK], n_features=1, n_texts=1, answer=one).at_most for one in (None, (3, 10))
    )
    assert talk.n_calls == plain.n_calls + 3
    assert talk.prompt_tokens == plain.prompt_tokens + 3 * 58 + 10 * (1 + 2)
    assert talk.max_completion_tokens == plain.max_completion_tokens + 3 * 10


def test_judge_grades_each_text_once_and_labels_are_asked_twice():
    asked = ChatRequest((Message("user", "x" * 40),), max_tokens=64)
    plain = forecast([ASK], n_features=3, n_texts=6).at_most
    for name, times in (("grade", 1), ("check", 2)):
        most = forecast([ASK], n_features=3, n_texts=6, **{name: asked}).at_most
        assert most.n_calls == 6 * (1 + times)
        assert most.prompt_tokens == plain.prompt_tokens + 6 * times * (10 + 4 + 50)
        assert most.max_completion_tokens == plain.max_completion_tokens + 6 * times * 64


def test_nothing_to_aim_at_costs_nothing():
    expected = forecast([], n_features=0, n_texts=99)
    assert (expected.at_most.n_calls, expected.at_most.max_cost) == (0, 0.0)


def test_room_to_think_counts_in_every_call():
    asked = [ChatRequest((Message("user", "hi"),), max_tokens=10)]
    endpoint = EndpointSettings(thinking_tokens=100)
    generator = Generator(chat_model="m", endpoint=endpoint)
    found = forecast(asked, n_features=1, n_texts=2, policy=generator)
    assert found.first.max_completion_tokens == 110
    assert found.at_most.max_completion_tokens == 2 * 110


def test_the_cost_is_unknown_without_prices_and_nothing_on_this_machine():
    asked = [ChatRequest((Message("user", "hi"),), max_tokens=10)]
    remote, local = (
        forecast(asked, n_features=1, n_texts=2, policy=one).at_most
        for one in (Generator(chat_model="m"), Generator())
    )
    assert (remote.max_cost, local.max_cost) == (None, 0.0)
    assert str(remote).endswith("prices not given")
    assert "price" not in str(local)
