"""Stated rules about the form of a text."""

import pytest

from facsynth.records import Sample
from facsynth.synthesize.admission import Admission, has_remark
from facsynth.synthesize.candidates import Candidate
from facsynth.words import main_scripts, script_share
from tiny_pair import talk


@pytest.mark.parametrize(
    "text",
    [
        "Here is a message about the sea: I love the waves.",
        "Sure! Here's a short text on the theme: the dog ran home.",
        "Certainly, here are two example sentences: one and two.",
        "Of course. Below is a new version of the text: it rains.",
        "I'm sorry, but I can't write that.",
        "As an AI language model, I have no favourite smell.",
        "I will write about tea, no quotes, no quotation marks.",
        "I love the waves at night. Let me know if you would like another version!",
    ],
)
def test_remark_about_the_task_is_seen(text):
    assert has_remark(text)


@pytest.mark.parametrize(
    "text",
    [
        "Sure, see you at six!",
        "Here is my dog. Isn't he cute?",
        "Here is the thing about tea: it cools.",
        "I'm sorry but I have to go home now.",
        "Let me know if you are coming tonight",
        "Write a message to your sister about the sea.",
        "No comment, no problem.",
        "This is a good story, you should read it.",
    ],
)
def test_ordinary_text_is_none(text):
    assert not has_remark(text)


def test_scripts_are_those_of_the_letters():
    assert main_scripts(["a" * 99 + "я", "α"]) == {"LATIN"}
    assert script_share("tea, чай!", frozenset({"LATIN"})) == 0.5
    assert script_share("123", frozenset({"LATIN"})) == 1.0


def judge(text, *, evaluation=()):
    known = [talk(f"k{i}", f"we saw the old house again on day {i} of the week") for i in range(9)]
    known += [talk("short", "we saw it"), talk("long", "they " + "never took the red road " * 4)]
    admission = Admission(known, [], max_overlap=0.5, evaluation=evaluation)
    return admission.find_flaw(Candidate(talk("c", text), 0, 1, 0, 0))


def test_admission_names_what_is_wrong():
    assert judge("I like to swim in the cold sea with my dog") is None
    assert judge("Here is a message on the sea: I like to swim") == "remark about the task"
    assert judge("мы видели старый дом снова вчера и потом ещё раз") == "other script"


def test_copies_of_an_evaluation_set_are_told_apart():
    question = "which of these two rivers is longer than the other one"
    evaluation = [Sample("q", text=question)]
    assert judge(question, evaluation=evaluation) == "near-copy of an evaluation set"
    assert judge(question) is None
