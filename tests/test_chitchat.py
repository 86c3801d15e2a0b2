"""Exchanges of human conversations, drawn from a small made-up data set."""

import json

import pytest

from facsynth.data import chitchat
from facsynth.data.chitchat import chitchat_samples
from facsynth.errors import DataError

LONG = "a text of more than thirty characters, number"


def conversation(prompt, *turns):
    messages = [[{"text": text} for text in turn] for turn in turns]
    return {"prompt": prompt, "messages": messages}


CONVERSATIONS = {
    **{f"sea-{i}": conversation("The sea?", [f"{LONG} {i}"], ["I see"]) for i in range(6)},
    "split": conversation("The sun?", [f"{LONG} one, ", " and more"], ["so", "it is"], ["bye"]),
    "late": conversation("The sun?", ["hi"], [f"{LONG} two"], ["indeed"]),
    "short": conversation("The sun?", ["hi"], ["hello"]),
    "endless": conversation("The sun?", ["word " * 99], ["oh"]),
    "unanswered": conversation("The sun?", [f"{LONG} three"], [" "]),
    "nameless": {"messages": [[{"text": f"{LONG} four"}], [{"text": "yes"}]]},
}


@pytest.fixture
def downloads(monkeypatch):
    """The made-up data set stands in for the wheel; every download is noted."""
    noted = []
    content = json.dumps(CONVERSATIONS).encode()
    monkeypatch.setattr(chitchat, "read_wheel_file", lambda file: noted.append(file) or content)
    return noted


def test_sample_is_one_exchange(downloads):
    found = {s.sample_id: s for s in chitchat_samples(2, prompts=["The sun?"])}
    assert set(found) == {"chitchat-split", "chitchat-late"}
    contents = [m.content for m in found["chitchat-split"].messages]
    assert contents == [f"{LONG} one, and more", "so it is"]
    assert [m.role for m in found["chitchat-late"].messages] == ["user", "assistant"]
    assert found["chitchat-late"].messages[0].content == f"{LONG} two"


def test_first_exchange_is_that_in_which_people_talk_of_the_prompt(monkeypatch):
    long = conversation("The sun?", *[[f"{LONG} {i}"] for i in range(9)])
    monkeypatch.setattr(chitchat, "_dataset", lambda: json.dumps({"long": long}))
    said = {chitchat_samples(1, random_seed=i, first=True)[0].messages[0].content for i in range(9)}
    assert said == {f"{LONG} 0"}
    assert len({chitchat_samples(1, random_seed=i)[0].messages[0].content for i in range(9)}) > 1


def test_conversation_gives_at_most_one_sample(downloads):
    samples = chitchat_samples(9)
    assert len({s.sample_id for s in samples}) == len(samples) == 9


def test_draw_repeats_with_its_seed(downloads):
    draws = [[s.sample_id for s in chitchat_samples(4, random_seed=seed)] for seed in (1, 1, 2)]
    assert draws[0] == draws[1] != draws[2]


def test_smaller_draw_is_the_beginning_of_a_larger_one(downloads):
    assert chitchat_samples(6, random_seed=3)[:3] == chitchat_samples(3, random_seed=3)


def test_prompts_choose_the_conversations(downloads):
    names = {s.sample_id for s in chitchat_samples(6, prompts=["The sea?"])}
    assert names == {f"chitchat-sea-{i}" for i in range(6)}


def test_unknown_prompt_is_an_error_that_names_a_known_one(downloads):
    with pytest.raises(DataError, match="no conversation prompt 'Trees.'; .*'The sea.'"):
        chitchat_samples(1, prompts=["Trees?"])


def test_more_samples_than_there_are_is_an_error(downloads):
    with pytest.raises(DataError, match="chitchat has 9 such exchanges, 10 were asked for"):
        chitchat_samples(10)


def test_data_set_is_downloaded_once(downloads):
    first = chitchat_samples(5)
    assert chitchat_samples(5) == first
    assert [file.requirement for file in downloads] == ["chitchat-dataset==0.9.0"]


@pytest.mark.slow
def test_real_data_set_has_thousands_of_exchanges_under_34_prompts():
    conversations = json.loads(chitchat._dataset())
    assert len({c["prompt"] for c in conversations.values() if c.get("prompt")}) == 34
    assert len(chitchat_samples(3000)) == 3000
