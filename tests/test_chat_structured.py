import json

import pytest
from pydantic import BaseModel, Field

from facsynth.chat.model import ChatFailure, ChatRequest
from facsynth.chat.scripted import ScriptedChat
from facsynth.chat.structured import ask_structured, parse_structured, reply_schema
from facsynth.records import Message


class Item(BaseModel):
    """What the tests ask for."""

    name: str
    score: int = Field(ge=0, le=5)


GOOD = '{"name": "plants", "score": 3}'


def ask(text="hello"):
    return ChatRequest((Message("system", "be short"), Message("user", text)))


@pytest.mark.parametrize(
    "text",
    [
        GOOD,
        f"\n {GOOD} \n",
        f"Sure! Here it is:\n```json\n{GOOD}\n```\nAnything else?",
        f"```\n{GOOD}\n```",
        f"I think {GOOD} fits.",
        f"With {{braces}} and [1] before: {GOOD}",
        '{"name": "plants", "score": 3,}',
        '{"name": "plants",\n "score": 3,\n}',
        'Of course: {"name": "plants", "score": 3, }.',
    ],
)
def test_json_is_salvaged(text):
    assert parse_structured(text, Item) == Item(name="plants", score=3)


def test_commas_inside_strings_are_left_alone():
    text = '{"name": "a,} b,]", "score": 1,}'
    assert parse_structured(text, Item).name == "a,} b,]"


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("no idea", "holds no JSON"),
        ("", "holds no JSON"),
        ('{"name": "x"}', "score: Field required"),
        ('{"name": "x", "score": 9}', "score: Input should be less than or equal to 5"),
        ('{"name": "x", "score": 3', "JSON"),
        ("{" * 5000, "JSON"),
    ],
)
def test_what_does_not_fit_is_named(text, complaint):
    with pytest.raises(ValueError, match=complaint) as caught:
        parse_structured(text, Item)
    assert "\n" not in str(caught.value)


def test_request_carries_the_schema_and_says_it():
    chat = ScriptedChat(GOOD)
    assert ask_structured(chat, [ask()], Item) == [Item(name="plants", score=3)]
    (request,) = chat.history
    assert request.schema == reply_schema(Item)
    assert "score" in json.loads(request.schema.json_schema)["properties"]
    assert request.messages[-1].content.startswith("hello\n\nAnswer with JSON only")


def test_hint_can_be_left_out():
    chat = ScriptedChat(GOOD)
    ask_structured(chat, [ask()], Item, hint=False)
    assert chat.history[0].messages == ask().messages


def test_one_repair_round_says_what_was_wrong():
    chat = ScriptedChat(["no idea", GOOD])
    assert ask_structured(chat, [ask()], Item) == [Item(name="plants", score=3)]
    first, second = chat.history
    assert second.messages[: len(first.messages)] == first.messages
    assert second.messages[-2] == Message("assistant", "no idea")
    assert "holds no JSON" in second.messages[-1].content


def test_second_failure_is_recorded_with_its_tokens():
    (outcome,) = ask_structured(ScriptedChat("nope"), [ask()], Item)
    assert outcome.reason == "the reply is not a Item: the reply holds no JSON (after one repair)"
    assert outcome.completion_tokens == 2


def test_failed_calls_are_not_repaired():
    chat = ScriptedChat([ChatFailure("busy"), GOOD])
    outcomes = ask_structured(chat, [ask("1"), ask("2")], Item)
    assert outcomes == [ChatFailure("busy"), Item(name="plants", score=3)]
    assert len(chat.history) == 2


def test_order_and_progress_hold_through_repairs():
    steps = []
    chat = ScriptedChat(
        lambda request: (
            "bad"
            if len(request.messages) == 2 and request.messages[1].content[0] in "13"
            else json.dumps({"name": request.messages[1].content[0], "score": 1})
        )
    )
    items = ask_structured(chat, [ask(str(i)) for i in range(5)], Item, on_done=steps.append)
    assert [item.name for item in items] == list("01234")
    assert sum(steps) == 5
    assert [request.messages[1].content[0] for request in chat.history[5:]] == ["1", "3"]
