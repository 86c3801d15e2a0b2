"""Many requests under one policy, with replies as texts or in a stated form."""

import json

import pytest
from pydantic import BaseModel

from facsynth.chat.ask import ask
from facsynth.chat.model import ChatFailure, ChatReply, ChatRequest
from facsynth.chat.scripted import ScriptedChat
from facsynth.chat.structured import read_reply, reply_schema
from facsynth.errors import ChatError
from facsynth.records import Message
from test_chat_budget import many, within

GOOD = '{"name": "plants", "score": 3}'
ITEMS = {"what": "items"}
BUSY = ChatFailure("busy")


class Item(BaseModel):
    """A form."""

    name: str
    score: int


ITEMS["schema"] = Item


def one(text="hello"):
    return ChatRequest((Message("user", text),))


class Bar:
    """Progress that remembers."""

    def __init__(self):
        self.steps, self.lines, self.notes = [], [], []
        self.say = self.lines.append

    def task(self, name, total, unit):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *error):
        return None

    def advance(self, n=1, note=""):
        self.steps.append(n)
        self.notes.append(note)


def test_progress_tells_what_was_spent_and_why_calls_failed():
    bar, replies = Bar(), ["hello", BUSY, BUSY]
    ask(within(ScriptedChat(replies), max_failures=1.0), many(3), what="texts", progress=bar)
    assert bar.notes[0] == "3 calls, 3 tokens"
    assert bar.notes[-1].endswith("2 failed: 2 × busy")


def test_reply_that_was_cut_off_says_what_to_raise():
    value = read_reply(ChatReply('{"name": "pl', 5, 7, truncated=True), Item)
    assert value.reason.endswith("it was cut off at 7 tokens: raise reply_tokens (--reply-tokens)")


def test_request_carries_the_schema_and_its_own_words():
    chat = ScriptedChat(GOOD)
    assert ask(chat, [one()], **ITEMS).outcomes == (Item(name="plants", score=3),)
    (request,) = chat.history
    assert request.schema == reply_schema(Item)
    assert request.messages == one().messages


def test_one_repair_round_says_what_was_wrong():
    chat = ScriptedChat(["no idea", GOOD])
    assert ask(chat, [one()], **ITEMS).outcomes == (Item(name="plants", score=3),)
    first, second = chat.history
    assert second.messages[: len(first.messages)] == first.messages
    assert second.messages[-2] == Message("assistant", "no idea")
    assert "holds no JSON" in second.messages[-1].content


def test_second_failure_is_recorded_with_its_tokens():
    chat = within(ScriptedChat("nope"), max_failures=1.0)
    (outcome,) = ask(chat, [one()], **ITEMS).outcomes
    assert (
        outcome.reason == "the reply does not fit Item: the reply holds no JSON (after one repair)"
    )
    assert outcome.completion_tokens == 2


def test_failed_calls_are_not_repaired():
    chat = ScriptedChat([BUSY, GOOD])
    assert ask(chat, [one("1"), one("2")], **ITEMS).outcomes == (BUSY, Item(name="plants", score=3))
    assert len(chat.history) == 2


def test_order_and_progress_hold_through_repairs():
    def answer(request):
        number = request.messages[0].content
        is_bad = len(request.messages) == 1 and number in "13"
        return "bad" if is_bad else json.dumps({"name": number, "score": 1})

    chat, bar = ScriptedChat(answer), Bar()
    done = ask(chat, [one(str(i)) for i in range(5)], **ITEMS, progress=bar)
    assert [item.name for item in done.complete()] == list("01234")
    assert sum(bar.steps) == 5
    assert [request.messages[0].content for request in chat.history[5:]] == ["1", "3"]


def test_budget_that_allows_no_repair_leaves_the_request_unasked():
    chat = within(ScriptedChat("nope"), budget_calls=2)
    done = ask(chat, [one("1"), one("2")], **ITEMS)
    assert done.outcomes == (None, None)
    assert "budget_calls = 2" in done.stopped


def test_complaint_makes_a_value_a_failure():
    chat = within(ScriptedChat(GOOD), max_failures=1.0)
    done = ask(chat, [one()], **ITEMS, complaint=lambda n, item: f"{n} of {item.name}")
    assert done.outcomes == (ChatFailure("0 of plants"),)


def test_share_of_failures_is_that_of_the_policy():
    replies = [BUSY, ChatFailure("tired"), BUSY, "ok"]
    with pytest.raises(ChatError, match="3 of 4 texts from scripted failed.*2 times: busy"):
        ask(ScriptedChat(replies), many(4), what="texts")
    bar = Bar()
    ask(within(ScriptedChat(replies), max_failures=0.8), many(4), what="texts", progress=bar)
    assert bar.lines == ["3 of 4 texts from scripted failed; 2 times: busy; 1 times: tired"]


def test_model_that_keeps_failing_is_not_asked_to_the_end():
    chat = ScriptedChat(lambda request: BUSY)
    with pytest.raises(ChatError, match="256 of 256"):
        ask(chat, many(1000), what="texts")
    assert len(chat.history) == 256


def test_halves_of_characters_are_left_out():
    done = ask(ScriptedChat(["a \ud83d b", "\U0001f600"]), many(2), what="texts")
    assert [reply.text for reply in done.complete()] == ["a  b", "\U0001f600"]
    assert isinstance(done.outcomes[0], ChatReply)
