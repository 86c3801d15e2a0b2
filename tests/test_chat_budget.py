import pytest

from facsynth.chat.ask import ask as ask_many
from facsynth.chat.budget import BudgetedChat, Spending, limited_chat
from facsynth.chat.cache import CachedChat
from facsynth.chat.model import ChatFailure, ChatRequest
from facsynth.chat.policy import Usage, estimate, policy_of
from facsynth.chat.scripted import ScriptedChat
from facsynth.chat.settings import Policy
from facsynth.errors import BudgetError, DataError
from facsynth.records import Message


def ask(text="hello", **settings):
    return ChatRequest((Message("user", text),), **settings)


def many(n, **settings):
    return [ask(f"{i:04d}", **settings) for i in range(n)]


def within(model, **limits):
    return BudgetedChat(model, Spending(Policy(**limits)))


def asked(chat, requests):
    return ask_many(chat, requests, what="texts")


def test_estimate_counts_characters_messages_and_full_replies():
    guess = estimate([ask("x" * 40, max_tokens=100)] * 2, Policy(price_in=1.0, price_out=2.0))
    assert (guess.n_calls, guess.prompt_tokens, guess.max_completion_tokens) == (2, 28, 200)
    assert guess.max_cost == pytest.approx((28 + 400) / 1e6)


def test_usage_adds_up_what_came_back():
    chat = within(ScriptedChat(["12345678", ChatFailure("no", 3, 5)]), price_in=1e6, price_out=2e6)
    chat.reply([ask("1234"), ask("1234")])
    assert chat.spending.usage == Usage(2, 1, prompt_tokens=4, completion_tokens=7)
    assert str(chat.spending) == "2 calls, 11 tokens, cost 18.0000"


def test_calls_stop_exactly_at_the_limit():
    scripted = ScriptedChat("ok")
    with pytest.raises(BudgetError, match="budget_calls = 3; spent so far: 3 calls"):
        within(scripted, budget_calls=3).reply(many(5))
    assert len(scripted.history) == 3


def test_tokens_and_cost_stay_below_the_limit():
    prices = {"price_in": 1e6, "price_out": 1e6}
    for limit in ({"budget_tokens": 1000}, {"budget_cost": 1000.0, **prices}):
        chat = within(ScriptedChat("x" * 80), **limit)
        with pytest.raises(BudgetError, match="raise the limit"):
            chat.reply(many(500, max_tokens=50))
        assert 900 < chat.spending.usage.tokens <= 1000


def test_call_that_cannot_fit_is_never_made():
    scripted = ScriptedChat("ok")
    with pytest.raises(BudgetError, match="spent so far: 0 calls"):
        within(scripted, budget_tokens=100).reply([ask(max_tokens=100)])
    assert not scripted.history


def test_what_was_answered_before_the_limit_is_kept(tmp_path):
    requests = many(5)
    chat = CachedChat(within(ScriptedChat("ok"), budget_calls=3), tmp_path / "c.db")
    done = asked(chat, requests)
    assert [outcome is not None for outcome in done.outcomes] == [True] * 3 + [False] * 2
    assert "budget_calls = 3" in done.stopped
    assert len(chat.uncached(requests)) == 2
    with pytest.raises(BudgetError):
        done.complete()


def test_cached_replies_cost_nothing(tmp_path):
    budgeted = within(ScriptedChat("ok"), budget_calls=3)
    chat = CachedChat(budgeted, tmp_path / "c.db")
    for _ in range(3):
        chat.reply(many(3))
    assert budgeted.spending.usage.n_calls == 3


def test_models_that_share_an_account_share_its_limits():
    spending = Spending(Policy(budget_calls=3))
    writer, judge = (BudgetedChat(ScriptedChat("ok"), spending) for _ in range(2))
    writer.reply(many(2))
    assert asked(judge, many(2)).stopped is not None
    assert spending.usage.n_calls == 3


def test_failed_calls_of_earlier_runs_count(tmp_path):
    path = tmp_path / "c.db"
    for chat in (ScriptedChat(lambda request: ChatFailure("busy", 5, 1)), ScriptedChat("ok")):
        spending = Spending(Policy(budget_calls=3, max_failures=1.0), path)
        done = asked(limited_chat(chat, spending), many(2))
    assert [outcome is not None for outcome in done.outcomes] == [True, False]
    assert Spending(replies=path).usage == Usage(3, 2, 11, 3)


def test_looking_at_what_was_spent_makes_no_file(tmp_path):
    assert Spending(replies=tmp_path / "c.db").usage == Usage()
    assert not list(tmp_path.iterdir())


def test_policy_comes_through_every_wrapper(tmp_path):
    policy = Policy(max_failures=0.1)
    chat = CachedChat(BudgetedChat(ScriptedChat("ok"), Spending(policy)), tmp_path / "c.db")
    assert (policy_of(chat), policy_of(ScriptedChat("ok"))) == (policy, Policy())


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
    chat = within(model, budget_calls=8)
    assert chat.deterministic_batches
    assert sum(outcome is not None for outcome in asked(chat, many(9)).outcomes) == 6
    assert model.sizes == (6,)


@pytest.mark.parametrize(
    "wrong",
    [{"budget_calls": -1}, {"price_in": -1.0}, {"budget_cost": 1.0}, {"max_failures": 1.5}],
)
def test_policy_that_means_nothing_is_refused(wrong):
    with pytest.raises(DataError, match=next(iter(wrong))):
        Policy(**wrong)
