"""Steering and example choice, on the planted pair and on numbers worked out by hand."""

from dataclasses import replace

import pytest
import torch

from facsynth.chat.local import LocalChat
from facsynth.chat.model import ChatRequest
from facsynth.chat.scripted import ScriptedChat
from facsynth.errors import DataError, MismatchError
from facsynth.features.extract import ExtractSettings
from facsynth.pipeline import load_generator
from facsynth.recipe import Generator
from facsynth.records import Message
from facsynth.synthesize.guide import GuideSettings, Steering, best_strength
from facsynth.synthesize.settings import Budget
from test_rounds import SETTINGS, World
from tiny_pair import PLANTED, VOCABULARY, obedient, planted_pair, planted_sae, planted_table

ASK = ChatRequest((Message("user", "hello"),), max_tokens=4, temperature=0.0)


@pytest.fixture(scope="module")
def pair():
    """The planted pair, with a decoder that writes each feature's word."""
    lm, _ = planted_pair()
    sae = planted_sae()
    lm.model.lm_head.weight.data = torch.eye(*lm.model.lm_head.weight.shape)
    for feature, word in enumerate(PLANTED):
        sae.W_dec.data[feature, VOCABULARY.index(word)] = 1.0
    return lm, sae


def write(pair, strength, requests):
    lm, sae = pair
    steering = Steering(lm, sae, strength)
    chat = LocalChat(lm.model, lm.tokenizer, name="x", around=steering)
    return [getattr(outcome, "text", "") for outcome in chat.reply(requests)]


def test_each_row_is_steered_towards_its_own_features(pair):
    dog, sea = (replace(ASK, steer=(PLANTED.index(word),)) for word in ("dog", "sea"))
    texts = write(pair, 99.0, [dog, ASK, sea])
    assert (set(texts[0].split()), set(texts[2].split())) == ({"dog"}, {"sea"})
    assert not {"dog", "sea"} & set(texts[1].split())


def test_no_strength_changes_nothing(pair):
    aimed = replace(ASK, steer=(1,))
    assert write(pair, 0.0, [aimed]) == write(pair, 0.0, [ASK])


def test_steering_is_over_when_the_text_is_written(pair):
    before = write(pair, 0.0, [ASK])
    write(pair, 99.0, [replace(ASK, steer=(1,))])
    assert write(pair, 0.0, [ASK]) == before


def test_prompts_too_long_do_not_shift_the_rows(pair):
    long = replace(ASK, messages=(Message("user", "hello " * 600),), steer=(0,))
    texts = write(pair, 99.0, [long, replace(ASK, steer=(1,))])
    assert set(texts[1].split()) == {"dog"}


def test_steered_request_has_another_key():
    assert replace(ASK, steer=(1,)).key != ASK.key


def test_sae_of_another_width_cannot_steer(pair):
    other = planted_sae()
    other.config = replace(other.config, d_in=7)
    with pytest.raises(MismatchError, match="the SAE reads 7"):
        Steering(pair[0], other, 1.0)


def test_only_the_reader_can_be_steered(pair, tmp_path):
    wanted = Generator(chat_model="far away")
    with pytest.raises(DataError, match="far away cannot be steered"):
        load_generator(wanted, pair[0], tmp_path / "c.db", steering=Steering(*pair, 1.0))


def test_steered_generator_has_another_name(pair, tmp_path):
    plain = load_generator(Generator(), pair[0], tmp_path / "c.db")
    steered = load_generator(Generator(), pair[0], tmp_path / "c.db", steering=Steering(*pair, 4.0))
    assert steered.name == f"{plain.name} steered 4 by {pair[1].content_hash[:12]}"


def test_negative_strength_is_an_error():
    with pytest.raises(DataError, match="steer is -1.0"):
        GuideSettings(steer=-1.0)


@pytest.mark.parametrize(
    ("measured", "best"),
    [
        ({0: (0.4, 0.1), 2: (0.5, 0.1), 4: (0.6, 0.2), 8: (0.9, 0.5)}, 4),
        ({0: (0.4, 0.1), 2: (0.4, 0.1), 4: (0.3, 0.1), 8: (0.4, 0.1)}, 0),
        ({0: (0.4, 0.1), 2: (0.9, 0.5)}, 0),
    ],
    ids=["most hits before it spoils", "no gain", "spoils at once"],
)
def test_search_takes_the_strength_that_hits_most_and_spoils_nothing(measured, best):
    assert best_strength([2.0, 4.0, 8.0], lambda strength: measured[strength]) == best


def test_second_round_shows_texts_that_worked_nearby(tmp_path):
    world = World(tmp_path)
    pairs = [f"we saw some old {a} near {b} under my red table" for a, b in (PLANTED[:2],)]
    samples = [world.sample(f"p{i}", text) for i, text in enumerate(pairs)]

    extract = ExtractSettings(score="user")
    world.anchor = planted_table(samples, tmp_path / "joint", settings=extract)
    budget = Budget(features_per_round=1, first_candidates=1, second_candidates=0)
    chat = ScriptedChat(obedient)
    settings = replace(SETTINGS, budget=budget, guide=GuideSettings(examples=True))
    world.run("shown", chat, replace(settings, min_anchor_samples=1, max_overlap=0.9))
    asked = [r.messages[-1].content for r in chat.history if r.messages[0].role == "system"]
    assert "themes close by" not in asked[0]
    assert "themes close by:\n<text>" in asked[1]
