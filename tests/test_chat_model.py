import subprocess
import sys

import pytest

from facsynth.chat.model import (
    BatchedChatModel,
    ChatFailure,
    ChatModel,
    ChatReply,
    ChatRequest,
    ReplySchema,
    StreamingChatModel,
    deliver,
)
from facsynth.chat.scripted import ScriptedChat
from facsynth.errors import ChatError, DataError
from facsynth.records import Message


def ask(text="hello", **settings):
    return ChatRequest((Message("user", text),), **settings)


class Plain:
    """The least that a user's own model has to be."""

    name = "plain"

    def __init__(self):
        self.sizes = []

    def reply(self, requests, *, on_done=None):
        self.sizes.append(len(requests))
        return [ChatReply(request.messages[-1].content, 1, 1) for request in requests]


@pytest.mark.parametrize(
    "other",
    [
        ask("hallo"),
        ChatRequest((Message("system", "hello"),)),
        ChatRequest((Message("user", "hello"), Message("user", ""))),
        ask(seed=1),
        ask(max_tokens=1),
        ask(temperature=0.0),
        ask(top_p=1.0),
        ask(schema=ReplySchema("a", "{}")),
    ],
)
def test_key_changes_with_everything_that_shapes_the_reply(other):
    assert other.key != ask().key


def test_key_is_the_same_for_equal_requests_and_across_runs():
    assert ask().key == ask().key
    assert ask().key == "ca51c1b6fe39d9fb67f2167b49b60e84b3b2355ac92fb21a076a6211f356eb44"


@pytest.mark.parametrize(
    "wrong", [{"max_tokens": 0}, {"temperature": -0.1}, {"top_p": 0.0}, {"top_p": 1.1}]
)
def test_impossible_request_is_refused(wrong):
    with pytest.raises(DataError, match=next(iter(wrong))):
        ask(**wrong)


def test_request_without_messages_is_refused():
    with pytest.raises(DataError, match="no messages"):
        ChatRequest(())


def test_plain_model_is_asked_in_slices():
    model, arrived = Plain(), []
    deliver(model, [ask(str(i)) for i in range(150)], arrived.extend)
    assert [(i, outcome.text) for i, outcome in arrived] == [(i, str(i)) for i in range(150)]
    assert max(model.sizes) < 150


def test_wrong_number_of_outcomes_is_an_error():
    class Short(Plain):
        def reply(self, requests, *, on_done=None):
            return []

    with pytest.raises(ChatError, match="0 outcomes for 1 requests"):
        deliver(Short(), [ask()], print)


def test_protocols_tell_models_apart():
    assert isinstance(Plain(), ChatModel)
    assert not isinstance(Plain(), StreamingChatModel)
    assert isinstance(ScriptedChat("x"), StreamingChatModel)
    assert not isinstance(ScriptedChat("x"), BatchedChatModel)


def test_script_is_used_up_in_order_and_remembered():
    chat = ScriptedChat(["a", ChatFailure("no"), ""])
    a, no, empty = chat.reply([ask("1"), ask("2"), ask("3")])
    assert (a.text, no.reason, empty.reason) == ("a", "no", "the answer is empty")
    assert [request.messages[0].content for request in chat.history] == ["1", "2", "3"]


def test_one_text_answers_everything():
    assert {reply.text for reply in ScriptedChat("yes").reply([ask(), ask()])} == {"yes"}


def test_script_that_ends_early_says_so():
    with pytest.raises(ChatError, match="ended before request 2"):
        ScriptedChat(["only one"]).reply([ask(), ask()])


def test_chat_modules_but_the_local_model_import_nothing_heavy():
    code = (
        "import sys, facsynth.chat.model, facsynth.chat.endpoint, facsynth.chat.cache, "
        "facsynth.chat.budget, facsynth.chat.scripted; "
        "assert not {'torch', 'transformers', 'openai', 'httpx2'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
