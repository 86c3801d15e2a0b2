"""The demo's questions, out of a stand-in of their wheel."""

import hashlib
import json
from collections import Counter

import pytest

from facsynth.data import questions
from facsynth.data.questions import question_samples
from facsynth.errors import DataError


@pytest.fixture(autouse=True)
def wheel(tmp_path, monkeypatch):
    """A wheel with eight questions of each topic, and what is none; the downloads are noted."""
    monkeypatch.setenv("FACSYNTH_CACHE", str(tmp_path))
    content, wanted = {}, {}
    for name, (topic, _) in questions._FILES.items():
        texts = [f"is this a {topic} question {i}?" for i in range(8)]
        texts += ["To stir it", "too short?", "is  this a home question 1?"]
        content[name] = "\n".join(json.dumps({"question": text}) for text in texts).encode()
        wanted[name] = (topic, hashlib.sha256(content[name]).hexdigest())
    noted = []

    def read(files):
        noted.append(files)
        return list(content.values())

    monkeypatch.setattr(questions, "read_wheel_files", read)
    return noted


def texts_of(samples):
    return {sample.messages[0].content for sample in samples}


def test_only_questions_are_drawn_each_once():
    home = texts_of(question_samples(8, topics=["home"]))
    assert home == {f"is this a home question {i}?" for i in range(8)}


def test_topics_have_equal_shares():
    assert Counter(s.label for s in question_samples(12)) == dict.fromkeys(
        ("health", "home", "money"), 4
    )


def test_random_seed_decides_what_is_drawn():
    one, again, other = (texts_of(question_samples(6, random_seed=n)) for n in (1, 1, 2))
    assert one == again != other


def test_a_sample_is_named_by_its_question_whatever_is_drawn():
    few, many = question_samples(3), question_samples(20)
    named = {s.sample_id: s for s in many}
    assert all(named[s.sample_id] == s for s in few if s.sample_id in named)


def test_the_wheel_is_read_once(wheel):
    question_samples(3)
    question_samples(3)
    assert len(wheel) == 1


@pytest.mark.parametrize(
    ("n", "topics", "message"),
    [
        (3, ["sea"], "no topic 'sea'; it has health, home, money"),
        (30, ["home"], "has 8 about home"),
    ],
)
def test_what_is_not_there_is_named(n, topics, message):
    with pytest.raises(DataError, match=message):
        question_samples(n, topics=topics)


@pytest.mark.slow
def test_the_real_wheel_has_enough_questions_for_the_demo(tmp_path, monkeypatch):
    monkeypatch.undo()
    assert len(question_samples(1200)) == 1200
