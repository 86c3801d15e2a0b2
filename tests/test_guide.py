"""Steering and example choice, on the planted pair and on numbers worked out by hand."""

import json
from dataclasses import replace

import pytest
import torch

from facsynth.chat.local import LocalChat
from facsynth.chat.model import DROPPED_EARLY, ChatFailure, ChatRequest
from facsynth.chat.scripted import ScriptedChat
from facsynth.errors import DataError, MismatchError
from facsynth.pipeline import load_generator
from facsynth.recipe import Generator
from facsynth.records import Message
from facsynth.synthesize.early import EarlyChoice, LocalHelp, help_generator
from facsynth.synthesize.guide import (
    GuideSettings,
    Steering,
    Trial,
    best_strength,
)
from facsynth.synthesize.rounds import synthesize
from facsynth.synthesize.settings import Budget
from facsynth.synthesize.steps import StepWriter
from facsynth.table.extract import ExtractSettings
from test_rounds import SETTINGS, World, dull
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
    chat = LocalChat(lm.model, lm.tokenizer, name="x", around=Steering(lm, sae))
    strong = [replace(request, strength=strength) for request in requests]
    return [getattr(outcome, "text", "") for outcome in chat.reply(strong)]


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
    weak, strong = (replace(ASK, steer=(1,), strength=strength) for strength in (1.0, 2.0))
    assert len({ASK.key, weak.key, strong.key, replace(ASK, wanted=(1,)).key}) == 4


def test_sae_of_another_width_cannot_steer(pair):
    other = planted_sae()
    other.config = replace(other.config, d_in=7)
    with pytest.raises(MismatchError, match="the SAE reads 7"):
        Steering(pair[0], other)


def test_only_the_reader_can_be_steered(pair, tmp_path):
    wanted = Generator(chat_model="far away")
    with pytest.raises(DataError, match="far away cannot be steered"):
        load_generator(wanted, pair[0], tmp_path / "c.db", help_=LocalHelp(Steering(*pair)))


def test_steered_generator_has_another_name(pair, tmp_path):
    plain = load_generator(Generator(), pair[0], tmp_path / "c.db")
    steered = load_generator(
        Generator(), pair[0], tmp_path / "c.db", help_=LocalHelp(Steering(*pair))
    )
    assert steered.name == f"{plain.name} steered by {pair[1].content_hash[:12]}"


def test_negative_strength_is_an_error():
    with pytest.raises(DataError, match="steer is -1.0"):
        GuideSettings(steer=-1.0)


@pytest.mark.parametrize(
    ("measured", "best", "n_tried"),
    [
        ({0: (0.4, 0.1), 2: (0.5, 0.1), 4: (0.6, 0.2), 8: (0.9, 0.5)}, 4, 4),
        ({0: (0.4, 0.1), 2: (0.4, 0.1), 4: (0.3, 0.1), 8: (0.4, 0.1)}, 0, 4),
        ({0: (0.4, 0.1), 2: (0.9, 0.5)}, 0, 2),
    ],
    ids=["most hits before it spoils", "no gain", "spoils at once"],
)
def test_search_takes_the_strength_that_hits_most_and_spoils_nothing(measured, best, n_tried):
    trials = best_strength([0.0, 2.0, 4.0, 8.0], lambda s: Trial(s, 10, *measured[s]))
    assert (trials[0].strength, len(trials)) == (best, n_tried)


def test_second_round_shows_texts_that_worked_nearby(tmp_path):
    world = World(tmp_path)
    pairs = [f"we saw some old {a} near {b} under my red table" for a, b in (PLANTED[:2],)]
    samples = [world.sample(f"p{i}", text) for i, text in enumerate(pairs)]

    extract = ExtractSettings(score="user")
    world.anchor = planted_table(samples, tmp_path / "joint", settings=extract)
    budget = Budget(features_per_round=1, first_candidates=1, second_candidates=0)
    chat = ScriptedChat(obedient)
    settings = replace(SETTINGS, budget=budget, guide=GuideSettings(examples=True))
    wanted = replace(settings, min_anchor_samples=1, max_overlap=0.9)
    kept = world.run("shown", chat, wanted).kept[0].sample.messages[0].content
    asked = [r.messages for r in chat.history if r.messages[0].role == "system"]
    shown = [[m.content for m in turns if m.role == "assistant"] for turns in asked]
    assert kept not in shown[0]
    assert shown[1][0] == kept


# Early choice


def progress_world(tmp_path):
    world = World(tmp_path)
    lm, sae = planted_pair()
    source = world.anchor.manifest.source
    return EarlyChoice(lm, sae, source, threshold=1.0, n_tokens=4, as_text=False)


def test_worse_half_by_wanted_features_then_by_the_own_activation_is_hopeless(tmp_path):
    watch = progress_world(tmp_path)
    texts = ["we saw a kitten", "we saw a cat", "the dog saw fish", "we saw it", "a cat", "so it"]
    wanted = [(0, 1, 2)] * 4 + [(3, 0), (4,)]
    requests = [replace(ASK, wanted=features) for features in wanted]
    assert watch.hopeless(requests, texts) == {0, 3}


def test_texts_that_nobody_compares_are_left_alone(tmp_path):
    watch = progress_world(tmp_path)
    assert watch.hopeless([ASK, ASK, replace(ASK, wanted=(1,))], ["a", "b", "c"]) == set()


def test_anchor_of_answers_cannot_be_compared_half_way(tmp_path):
    world = World(tmp_path, "assistant")
    settings = replace(SETTINGS, guide=GuideSettings(drop_after=4))
    with pytest.raises(MismatchError, match="drop_after compares messages of users"):
        help_generator(settings, world.anchor, *planted_pair())


def test_endpoint_cannot_drop_texts(pair, tmp_path):
    with pytest.raises(DataError, match="far away cannot drop texts half-way"):
        load_generator(
            Generator(chat_model="far away"),
            pair[0],
            tmp_path / "c.db",
            help_=LocalHelp(watch=progress_world(tmp_path)),
        )


class Watching:
    """Drops the texts of every second request."""

    n_tokens = 3

    def __init__(self):
        self.seen = []

    def hopeless(self, requests, texts):
        self.seen += texts
        return {i for i in range(len(texts)) if i % 2}


def test_dropped_texts_cost_what_was_written_and_leave_the_others_as_they_were(pair):
    requests = [replace(ASK, max_tokens=9, temperature=1.0, seed=i, wanted=(1,)) for i in range(4)]
    lm, watch = pair[0], Watching()
    plain = LocalChat(lm.model, lm.tokenizer, name="x").reply(requests)
    watched = LocalChat(lm.model, lm.tokenizer, name="y", watch=watch).reply(requests)
    assert [watched[0], watched[2]] == [plain[0], plain[2]]
    assert watched[1] == ChatFailure(DROPPED_EARLY, plain[1].prompt_tokens, 3)
    assert plain[3].text.startswith(watch.seen[3])


def test_steering_does_not_reach_what_is_compared(pair, tmp_path):
    lm, sae = pair
    watch = EarlyChoice(
        lm, sae, World(tmp_path).anchor.manifest.source, threshold=1.0, n_tokens=2, as_text=False
    )
    read = []
    watch._progress = lambda r, t: read.extend(EarlyChoice._progress(watch, r, t)) or read
    aimed = replace(ASK, wanted=(1,), steer=(0,), strength=99.0)
    chat = LocalChat(lm.model, lm.tokenizer, name="x", around=Steering(lm, sae), watch=watch)
    chat.reply([aimed, aimed])
    assert [own for _, own in read] == [0.0, 0.0]


# A strength found inside a run


def local_run(world, folder, guide, **settings):
    lm, sae = planted_pair()
    wanted = replace(SETTINGS, guide=guide, **settings)
    help_ = help_generator(wanted, world.anchor, lm, sae)
    chat = load_generator(Generator(), lm, folder / "replies.sqlite", help_=help_)
    return synthesize(world.anchor, world.seed, lm, sae, chat, folder, settings=wanted)


def test_strength_is_looked_for_written_down_and_used(tmp_path):
    world, asked = World(tmp_path), []

    def stronger_is_better(request):
        asked.append(request)
        return obedient(request) if request.strength == 4 else dull(request)

    chat = ScriptedChat(stronger_is_better)
    settings = replace(SETTINGS, guide=GuideSettings(steer="auto"))
    result = world.run("auto", chat, settings)
    found = json.loads((tmp_path / "auto" / "steer.json").read_text())
    assert found["chosen"] == 4
    assert [row["strength"] for row in found["tried"]] == [0, 2, 4, 8]
    assert [row["own_hits"] for row in found["tried"]] == [0, 0, 1, 0]
    rounds = [r for r in asked if r.messages[0].role == "system"][4 * 6 :]
    assert {r.strength for r in rounds} == {4.0}
    assert len(result.kept) == len(PLANTED)


@pytest.mark.slow
def test_run_that_is_killed_in_the_trial_ends_like_an_undisturbed_one(tmp_path):
    world, guide = World(tmp_path), GuideSettings(steer="auto", drop_after=3)
    whole = local_run(world, tmp_path / "whole", guide)
    write, n_calls = StepWriter.write, 0

    def dies(self, *arguments, **options):
        nonlocal n_calls
        n_calls += 1
        if n_calls == 3:
            raise KeyboardInterrupt
        return write(self, *arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(StepWriter, "write", dies)
        with pytest.raises(KeyboardInterrupt):
            local_run(world, tmp_path / "killed", guide)
    again = local_run(world, tmp_path / "killed", guide)
    assert (again.kept, again.outcomes) == (whole.kept, whole.outcomes)
    assert len(list((tmp_path / "killed").glob("steer-*/step-1.json"))) >= 2
    assert whole.outcomes["dropped early"] > 0
