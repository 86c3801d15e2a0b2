import pytest

from facsynth.chat.budget import BudgetedChat, Usage, estimate, replies_within_budget
from facsynth.chat.cache import CachedChat
from facsynth.chat.model import ChatFailure, ChatReply, ChatRequest
from facsynth.chat.scripted import ScriptedChat
from facsynth.errors import BudgetError, DataError
from facsynth.records import Message


def ask(text="hello", **settings):
    return ChatRequest((Message("user", text),), **settings)


def many(n, **settings):
    return [ask(f"{i:04d}", **settings) for i in range(n)]


def test_estimate_counts_characters_messages_and_full_replies():
    guess = estimate([ask("x" * 40, max_tokens=100)] * 2, price_in=1.0, price_out=2.0)
    assert (guess.n_calls, guess.prompt_tokens, guess.max_completion_tokens) == (2, 28, 200)
    assert guess.max_cost == pytest.approx((28 + 400) / 1e6)


def test_usage_adds_up_what_came_back():
    chat = BudgetedChat(
        ScriptedChat(["12345678", ChatFailure("no", 3, 5)]), price_in=1e6, price_out=2e6
    )
    chat.reply([ask("1234"), ask("1234")])
    assert chat.usage == Usage(2, 1, prompt_tokens=4, completion_tokens=7, cost=18.0)


def test_calls_stop_exactly_at_the_limit():
    scripted = ScriptedChat("ok")
    chat = BudgetedChat(scripted, max_calls=3)
    with pytest.raises(BudgetError, match="max_calls = 3; spent so far: 3 calls"):
        chat.reply(many(5))
    assert len(scripted.history) == 3


def test_tokens_and_cost_stay_below_the_limit():
    for limit in ({"max_tokens": 1000}, {"max_cost": 1000.0, "price_in": 1e6, "price_out": 1e6}):
        chat = BudgetedChat(ScriptedChat("x" * 80), **limit)
        with pytest.raises(BudgetError, match="raise the limit"):
            chat.reply(many(500, max_tokens=50))
        assert 900 < chat.usage.tokens <= 1000


def test_call_that_cannot_fit_is_never_made():
    scripted = ScriptedChat("ok")
    with pytest.raises(BudgetError, match="spent so far: 0 calls"):
        BudgetedChat(scripted, max_tokens=100).reply([ask(max_tokens=100)])
    assert not scripted.history


def test_what_was_answered_before_the_limit_is_kept(tmp_path):
    scripted = ScriptedChat("ok")
    requests = many(5)
    chat = CachedChat(BudgetedChat(scripted, max_calls=3), tmp_path / "c.db")
    outcomes, message = replies_within_budget(chat, requests)
    assert [outcome is not None for outcome in outcomes] == [True] * 3 + [False] * 2
    assert "max_calls = 3" in message
    assert len(chat.uncached(requests)) == 2


def test_cached_replies_cost_nothing(tmp_path):
    budgeted = BudgetedChat(ScriptedChat("ok"), max_calls=3)
    chat = CachedChat(budgeted, tmp_path / "c.db")
    for _ in range(3):
        chat.reply(many(3))
    assert budgeted.usage.n_calls == 3


def test_budget_that_suffices_has_no_message():
    outcomes, message = replies_within_budget(BudgetedChat(ScriptedChat("ok")), many(2))
    assert all(isinstance(outcome, ChatReply) for outcome in outcomes)
    assert message is None


def test_usage_of_earlier_runs_counts():
    with pytest.raises(BudgetError):
        BudgetedChat(ScriptedChat("ok"), max_calls=3, usage=Usage(n_calls=2)).reply(many(2))


def test_batches_are_never_cut_by_the_budget():
    class Triples(ScriptedChat):
        deterministic_batches = True
        sizes = ()

        def batches(self, requests):
            return [list(range(i, min(i + 3, len(requests)))) for i in range(0, len(requests), 3)]

        def stream(self, requests, on_outcomes):
            self.sizes = (*self.sizes, len(requests))
            super().stream(requests, on_outcomes)

    model = Triples("ok")
    chat = BudgetedChat(model, max_calls=8)
    assert chat.deterministic_batches
    outcomes, _ = replies_within_budget(chat, many(9))
    assert sum(outcome is not None for outcome in outcomes) == 6
    assert model.sizes == (6,)


@pytest.mark.parametrize("wrong", [{"max_calls": -1}, {"price_in": -1.0}, {"max_cost": 1.0}])
def test_limits_that_mean_nothing_are_refused(wrong):
    with pytest.raises(DataError):
        BudgetedChat(ScriptedChat("ok"), **wrong)
