"""The paper's two steps on the planted pair."""

from dataclasses import replace

import numpy as np
import pytest

from facsynth.chat.scripted import ScriptedChat
from facsynth.synthesize.settings import Effort, SynthesisSettings
from test_rounds import World, dull, except_for, rows_of
from tiny_pair import PLANTED, asked_for, is_for_answer, obedient, planted_in

PAPER = SynthesisSettings(method="paper", threshold=1.0, effort=Effort(max_samples=99))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return World(tmp_path_factory.mktemp("paper"))


def asked_by_step(chat):
    """What was asked about texts in step 1 and in step 2."""
    asked = [asked_for(r) for r in chat.history if not is_for_answer(r)]
    steps = [[a for a in asked if ("has the theme" in a) == is_second] for is_second in (0, 1)]
    return steps[0], steps[1]


def test_every_feature_is_asked_for_in_both_steps(world):
    chat = ScriptedChat(obedient)
    result = world.run("both", chat, PAPER)
    for asked in asked_by_step(chat):
        assert [planted_in(text) for text in asked] == [w for w in PLANTED for _ in range(2)]
    assert [kept.candidate.step for kept in result.kept] == [2] * len(PLANTED)
    assert [kept.candidate.target for kept in result.kept] == list(range(len(PLANTED)))


def test_first_step_quotes_spans_and_names_the_feature(world):
    chat = ScriptedChat(obedient)
    world.run("evidence", chat, replace(PAPER, evidence="spans"))
    first = asked_by_step(chat)[0][0]
    assert "share a theme (cat" in first
    assert first.count("<text>") == 2


def test_no_text_is_kept_that_does_not_activate_its_own_feature(world):
    both = except_for(["cat"], lambda request: dull(request).replace("hello", "dog"))
    result = world.run("other", both, PAPER)
    assert [k.candidate.target for k in result.kept] == list(range(1, len(PLANTED)))
    assert result.outcomes["own feature not active"] >= 2
    assert result.stopped == "no_hit"


def test_samples_of_one_feature_and_in_all_are_limited(world):
    twice = world.run("twice", obedient, replace(PAPER, per_feature=2))
    few = replace(PAPER, per_feature=2, effort=Effort(max_samples=3))
    assert [k.candidate.target for k in twice.kept] == [*range(8), *range(8)]
    assert [k.candidate.target for k in world.run("few", obedient, few).kept] == [0, 1, 2]


def test_one_step_keeps_texts_of_step_1(world):
    effort = replace(PAPER.effort, second_candidates=0)
    result = world.run("one step", obedient, replace(PAPER, effort=effort))
    assert {k.candidate.step for k in result.kept} == {1}
    assert len(result.kept) == len(PLANTED)


def test_three_samples_for_five_missing_features(world):
    relevant = np.arange(len(PLANTED) + 1) < 5
    settings = replace(PAPER, effort=replace(PAPER.effort, max_samples=3))
    result = world.run("tiny", obedient, settings, relevant=relevant)
    assert (len(result.missing_before), len(rows_of(world.folder / "tiny"))) == (5, 3)
