"""Runs by the objectives `cover` and `match` on the planted pair."""

import re
from dataclasses import replace

import pytest

from facsynth.chat.scripted import ScriptedChat
from facsynth.synthesize.settings import Effort, PlanSettings
from facsynth.table.settings import ExtractSettings
from test_rounds import SETTINGS, World, rows_of
from tiny_pair import PLANTED, asked_for, obedient, planted_table, write_about

COVER = replace(SETTINGS, plan=PlanSettings("cover"))


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return World(tmp_path_factory.mktemp("planned"))


def all_themes(request):
    """Writes a text with the planted words of all themes that the prompt lists."""
    themes = re.findall(r"(?:^\d+\. |The theme is: |; )(\w+)", asked_for(request), re.MULTILINE)
    words = [word for word in PLANTED if word in themes]
    if request.messages[0].role != "system" or not words:
        return obedient(request)
    return write_about(" so ".join(words), request, n_words=13 - 2 * len(words))


@pytest.mark.parametrize(
    ("prompt", "told"),
    [
        ("request", ["joins these themes", "in about 11 words"]),
        ("turns", ["The theme is: ", "under my red table"]),
    ],
)
def test_features_of_one_anchor_text_share_one_request(tmp_path, prompt, told):
    world = World(tmp_path)
    pairs = [
        f"we saw some old {a} near {b} under my red table" for a, b in (PLANTED[:2], PLANTED[2:4])
    ]
    samples = [world.sample(f"p{i}", text) for i, text in enumerate(pairs)]

    extract = ExtractSettings(score="user")
    world.anchor = planted_table(samples, tmp_path / "pairs", settings=extract)
    chat = ScriptedChat(all_themes)
    effort = Effort(features_per_round=4, second_candidates=0)
    settings = replace(COVER, min_anchor_samples=1, max_overlap=0.9, effort=effort, prompt=prompt)
    result = world.run("joint", chat, settings)
    assert {f for kept in result.kept for f in kept.new_features} >= {0, 1, 2, 3}
    asked = next(str(r.messages) for r in chat.history if r.messages[0].role == "system")
    assert all(words in asked for words in told)
    assert {tuple(row["provenance"]["also_aimed_at"]) for row in rows_of(tmp_path / "joint")} == {
        (1,),
        (3,),
    }


def test_cover_fills_what_the_ranked_order_fills(world):
    result = world.run("cover", obedient, COVER)
    assert {f for kept in result.kept for f in kept.new_features} == set(range(len(PLANTED)))


def test_round_that_keeps_too_small_a_share_is_the_last(world):
    effort = Effort(features_per_round=2, max_rounds=4, min_kept_share=0.6)
    result = world.run("diminishing", obedient, replace(SETTINGS, effort=effort))
    # The first of the two texts for a feature covers it, the second adds nothing: a half is kept.
    assert (result.stopped, len(result.rounds), len(result.kept)) == ("diminishing", 1, 2)


def test_match_keeps_each_feature_as_often_as_the_anchor_has_it(world):
    effort = Effort(max_samples=10, features_per_round=8, first_candidates=2, max_rounds=3)
    settings = replace(SETTINGS, plan=PlanSettings("match", 1), effort=effort, max_overlap=0.9)
    result = world.run("match", obedient, settings)
    per_feature = [sum(f in kept.credited for kept in result.kept) for f in range(len(PLANTED))]
    assert max(per_feature) - min(per_feature) <= 1
    assert result.rounds[-1]["fac"] > 0.5
