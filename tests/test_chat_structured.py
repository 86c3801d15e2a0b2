import pytest
from pydantic import BaseModel, Field

from facsynth.chat.structured import parse_structured


class Item(BaseModel):
    """What the tests ask for."""

    name: str
    score: int = Field(ge=0, le=5)


GOOD = '{"name": "plants", "score": 3}'


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


@pytest.mark.parametrize(
    "thinking",
    [
        '<think>I could say {"name": "draft", "score": 0}.</think>',
        '{"name": "draft", "score": 0}? No.</think>',
        '[THINK]{"name": "draft", "score": 0}[/THINK]',
    ],
)
def test_json_is_looked_for_behind_the_thinking(thinking):
    assert parse_structured(f"{thinking}\n{GOOD}", Item).name == "plants"


def test_json_in_thinking_that_was_cut_off_is_no_reply():
    with pytest.raises(ValueError, match="ends inside the model's thinking"):
        parse_structured(f"<think>I could say {GOOD}", Item)


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
