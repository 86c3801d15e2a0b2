"""Synthesis on a planted pair: what is written, what is kept, and what a kill leaves behind."""

import json
import os
import shutil
from copy import copy
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facsynth.chat.cache import CachedChat
from facsynth.chat.model import ChatFailure
from facsynth.chat.scripted import ScriptedChat
from facsynth.coverage.fac import missing_features
from facsynth.coverage.measure import measure_coverage
from facsynth.data.read import read_samples
from facsynth.errors import ChatError, DataError, MismatchError
from facsynth.models.lm import LanguageModel
from facsynth.records import Message, Sample
from facsynth.synthesize import score
from facsynth.synthesize.run import SynthesisRun
from facsynth.synthesize.settings import Effort, SynthesisSettings
from facsynth.table.active import active_rows
from facsynth.table.extract import extract_features
from facsynth.table.settings import ExtractSettings
from facsynth.table.table import open_table
from tiny_pair import (
    PLANTED,
    THE,
    asked_for,
    is_for_answer,
    obedient,
    planted_in,
    planted_pair,
    planted_sae,
    planted_table,
    talk,
    wordy,
    write_about,
)

DULL = "we found a small old table near your house today"
"""A text that activates no planted feature and copies nothing."""

SETTINGS = SynthesisSettings(
    threshold=1.0,
    effort=Effort(max_samples=16, round_size=12),
    max_overlap=0.6,
)

BRIEF = replace(SETTINGS, effort=replace(SETTINGS.effort, max_candidates=24))
"""For writers of whose texts few are kept."""

ONE = replace(SETTINGS, effort=replace(SETTINGS.effort, max_samples=1))


class Killed(Exception):  # noqa: N818
    """The process ends here."""


@dataclass
class World:
    """Tables of an anchor with every planted word, and of a seed with none."""

    folder: Path
    score: str = "user"
    plain: bool = False
    n_words: int = len(PLANTED)
    tools: tuple[str, ...] = ()
    pair: Any = None

    def __post_init__(self):
        texts = [
            text
            for word in PLANTED[: self.n_words]
            for text in (
                f"we saw some old {word} under my red table",
                f"they always liked {word} with a very good evening on my road again",
            )
        ]
        dull = [DULL.replace("table", place) for place in ("road", "tree")]
        samples = [self.sample(f"s{i}", text) for i, text in enumerate([*texts, *dull])]
        extract = ExtractSettings(score=self.score)
        n = len(texts)
        self.anchor = planted_table(
            samples[:n], self.folder / "anchor", pair=self.pair, settings=extract
        )
        self.seed = planted_table(
            samples[n:], self.folder / "seed", pair=self.pair, settings=extract
        )

    def sample(self, name, text):
        if self.plain:
            return Sample(name, text=f"then {text}")
        sample = talk(name, text, text if self.score == "assistant" else "it was so good")
        return replace(sample, tools=self.tools)

    def run(self, name, script, settings=SETTINGS, *, relevant=None, judge=None, pair=None, **more):
        """A run into one folder, with the script behind a cache as always."""
        folder = self.folder / name
        chat = CachedChat(as_chat(script), folder / "replies.sqlite")
        run = SynthesisRun(self.anchor, self.seed, settings=settings, relevant=relevant)
        return run.execute(
            *(pair or self.pair or planted_pair()), chat, folder, judge=judge, **more
        )


def replaced(world, **changes):
    """A world with the same tables, but for the changes."""
    other = copy(world)
    vars(other).update(changes)
    return other


def as_chat(script):
    return script if isinstance(script, ScriptedChat) else ScriptedChat(script)


def except_for(words, otherwise):
    """Obedient, but what `otherwise` says where the theme is one of the words."""

    def script(request):
        if not is_for_answer(request) and planted_in(asked_for(request)) in words:
            return otherwise(request) if callable(otherwise) else otherwise
        return obedient(request)

    return script


dull = partial(write_about, "hello")


def rows_of(folder):
    return [json.loads(line) for line in (folder / "synthetic.jsonl").read_text().splitlines()]


def aimed_at(folder):
    """Features that each round aimed at, in order."""
    steps_1 = sorted(folder.glob("round-*/step-1.json"))
    rounds = [json.loads(path.read_text())["candidates"] for path in steps_1]
    return [[c["target"] for c in candidates] for candidates in rounds]


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return World(tmp_path_factory.mktemp("world"))


@pytest.fixture(scope="module")
def finished(world):
    """A whole run: its result, its folder, and the chat model that was asked."""
    chat = ScriptedChat(obedient)
    return world.run("finished", chat), world.folder / "finished", chat


# What is written


def test_every_missing_feature_is_covered_by_a_text_with_its_word(finished):
    result, folder, _ = finished
    assert set(result.missing_before) == set(range(len(PLANTED)))
    assert {f for kept in result.kept for f in kept.new_features} == set(result.missing_before)
    assert (len(result.kept), result.stopped) == (16, "max_samples")
    for row in rows_of(folder):
        words = row["messages"][0]["content"].split()
        assert all(PLANTED[f] in words for f in row["provenance"]["new_features"])


def test_finished_data_set_leaves_nothing_missing(finished, world):
    table = open_table(finished[1] / "table")
    tables = (world.anchor, table)
    left = missing_features(*(active_rows(one.activations(), threshold=1.0) for one in tables))
    assert left.tolist() == []


def test_round_rows_end_at_full_coverage(finished):
    result = finished[0]
    assert [row["round"] for row in result.rounds] == list(range(1, len(result.rounds) + 1))
    last = result.rounds[-1]
    assert (last["fac"], last["n_covered"], last["n_kept"]) == (1.0, 8, len(result.kept))
    assert (
        sum(result.outcomes.values()) == last["n_candidates"] == len(result.kept + result.rejected)
    )
    assert result.outcomes["kept"] == len(result.kept)
    assert result.fac == (0.0, 1.0)


@pytest.mark.parametrize(
    ("score", "plain"), [("user", False), ("all", False), ("assistant", False), ("all", True)]
)
def test_provenance_is_what_extraction_of_the_final_samples_gives(tmp_path, score, plain):
    world = World(tmp_path, score, plain)
    result = world.run("run", wordy if score == "assistant" else obedient)
    assert set(result.missing_before) == {f for k in result.kept for f in k.new_features}
    samples = read_samples(tmp_path / "run" / "synthetic.jsonl")
    assert [kept.sample for kept in result.kept] == samples
    lm, sae = planted_pair()
    found = extract_features(samples, lm, sae, settings=ExtractSettings(score=score))
    for index, row in enumerate(rows_of(tmp_path / "run")):
        entries = slice(*found.row_starts[index : index + 2])
        values = dict(zip(found.feature_ids[entries], found.values[entries], strict=True))
        credited = {c["feature_id"]: c["activation"] for c in row["provenance"]["credited"]}
        assert credited == {f: v for f, v in values.items() if v > 1.0 and f != THE}


def test_conversations_get_an_answer_and_plain_texts_do_not(world, tmp_path):
    answered = world.run("answered", obedient, ONE).kept[0].sample
    assert [m.role for m in answered.messages] == ["user", "assistant"]
    silent = world.run("silent", obedient, replace(ONE, reply=False)).kept[0].sample
    assert [m.role for m in silent.messages] == ["user"]
    plain = World(tmp_path, "all", plain=True, n_words=2).run("run", obedient, ONE).kept[0].sample
    assert plain.text
    assert not plain.messages


def test_answers_are_asked_for_in_the_length_of_the_anchors(tmp_path):
    world = World(tmp_path, n_words=2)
    world.anchor = planted_table(
        [talk(x.sample_id, x.messages[0].content, "so it was") for x in world.anchor.samples()],
        tmp_path / "answered",
        settings=ExtractSettings(score="user"),
    )
    chat = as_chat(obedient)
    world.run("asked", chat)
    assert {r.max_tokens for r in chat.history if is_for_answer(r)} == {128}
    told = [r.messages[0].content for r in chat.history if r.messages[0].role == "system"]
    assert "Answer in about 3 words." in told


def test_answers_have_room_for_those_of_the_anchor(tmp_path):
    world = World(tmp_path, n_words=2)
    world.anchor = planted_table(
        [
            talk(x.sample_id, x.messages[0].content, "so it was " * 50)
            for x in world.anchor.samples()
        ],
        tmp_path / "long",
        settings=ExtractSettings(score="user"),
    )
    chat = as_chat(obedient)
    world.run("room", chat)
    assert {r.max_tokens for r in chat.history if is_for_answer(r)} == {300}


def test_lengths_unlike_the_anchors_are_said_with_their_reason(world):
    result = world.run("lengths", obedient)
    far = replace(result, kept=result.kept * 9, length_distance=0.99)
    assert "the generator does not heed it" in far.tables()[0].note
    assert not replace(far, length_distance=0.05).tables()[0].note


def test_conversations_have_as_many_turns_as_the_anchors(tmp_path):
    world = World(tmp_path, n_words=2)
    turns = [
        talk(f"t{i}", x.messages[0].content, "it was so")
        for i, x in enumerate(world.anchor.samples())
    ]
    longer = [
        replace(
            one, messages=(*one.messages, Message("user", "and then"), Message("assistant", "yes"))
        )
        for one in turns
    ]
    extract = ExtractSettings(score="user")
    world.anchor = planted_table(longer, tmp_path / "longer", settings=extract)
    result = world.run("talks", obedient, replace(SETTINGS, effort=Effort(max_samples=4)))
    roles = [[m.role for m in kept.sample.messages] for kept in result.kept]
    assert roles == [["user", "assistant"] * 2] * 4
    found = extract_features([k.sample for k in result.kept], *planted_pair(), settings=extract)
    assert found.n_tokens.tolist() == result.activations.n_tokens.tolist()


def test_answer_counts_where_the_assistant_is_scored(tmp_path):
    world = World(tmp_path, "assistant", n_words=2)

    def dull_answer(request):
        return write_about("hello", request) if is_for_answer(request) else obedient(request)

    assert {f for k in world.run("dull", dull_answer, BRIEF).kept for f in k.new_features} == set()
    kept = world.run("told", wordy).kept
    assert {f for k in kept for f in k.new_features} == {0, 1}


def test_sample_is_credited_with_every_missing_feature_that_it_activates(world):
    both = except_for(["cat"], lambda request: write_about("cat so dog", request))
    first = world.run("both", both).kept[0]
    assert first.new_features == (0, 1)
    assert set(first.credited) == {0, 1}


def test_activation_before_is_the_largest_of_the_seed(tmp_path):
    world = World(tmp_path, n_words=2)
    extract = ExtractSettings(score="user")
    world.seed = planted_table(
        [talk("k", "we saw a kitten")], tmp_path / "kitten", settings=extract
    )
    world.run("run", obedient, replace(SETTINGS, threshold=1.5))
    credited = [c for row in rows_of(tmp_path / "run") for c in row["provenance"]["credited"]]
    assert {(c["feature_id"], c["before"], c["activation"]) for c in credited} == {
        (0, 1.5, 2.0),
        (1, 0.0, 2.0),
    }


# What is not kept


def test_copies_of_the_anchor_are_rejected(world):
    known = "we saw some old dog under my red table"
    result = world.run("copies", except_for(["dog"], known))
    assert 1 not in {f for kept in result.kept for f in kept.credited}
    assert result.outcomes["near-copy"] >= 2


def test_copies_of_a_kept_text_are_kept_once(world):
    one = "so my cat found tea with his good red fish"

    def script(request):
        return "good" if is_for_answer(request) else one

    result = world.run("one text", script, BRIEF)
    assert [kept.sample.messages[0].content for kept in result.kept] == [one]
    assert (result.stopped, result.row()["n_wanted"]) == ("max_candidates", 16)


@pytest.mark.parametrize(
    ("reply", "flaw"),
    [("cat", "too short"), ("dog " * 40, "too long"), ("dog " * 9, "repetitive")],
)
def test_texts_that_are_none_are_rejected(world, reply, flaw):
    result = world.run(f"flaw {flaw}", except_for(PLANTED, reply), BRIEF)
    assert result.kept == ()
    assert result.outcomes == {flaw: 24}
    rejected = (result.folder / "rejected.jsonl").read_text().splitlines()
    assert {json.loads(line)["reason"] for line in rejected} == {flaw}


def test_relevant_features_are_the_only_ones_that_count(world):
    relevant = np.zeros(planted_sae().config.d_sae, dtype=bool)
    relevant[[2, THE]] = True
    result = world.run("relevant", obedient, relevant=relevant)
    assert result.missing_before == (2,)
    assert [kept.new_features for kept in result.kept[:2]] == [(2,), ()]


def test_without_relevant_features_nobody_is_asked(world):
    chat = ScriptedChat([])
    result = world.run("irrelevant", chat, relevant=np.zeros(len(PLANTED) + 1, dtype=bool))
    assert (result.kept, result.stopped, chat.history) == ((), "covered", [])


def test_texts_whose_answers_copy_an_evaluation_set_are_not_kept(world, tmp_path):
    answer = "it was some old red road with a very good tree near my table"
    (tmp_path / "eval.jsonl").write_text(json.dumps({"text": answer}), encoding="utf-8")

    def script(request):
        copies = is_for_answer(request) and planted_in(asked_for(request)) == "cat"
        return answer if copies else obedient(request)

    settings = replace(SETTINGS, decontaminate=(str(tmp_path / "eval.jsonl"),))
    result = world.run("evaluated", script, settings)
    assert result.outcomes["answer: near-copy of an evaluation set"] > 0
    assert (len(result.kept), result.n_unanswered) == (16, 0)


# Budget


def test_each_missing_feature_is_aimed_at_as_often_as_the_effort_says(world):
    settings = replace(SETTINGS, effort=replace(SETTINGS.effort, max_attempts=1))
    world.run("attempts", except_for(["dog"], dull), settings)
    features = [f for targets in aimed_at(world.folder / "attempts") for f in targets]
    assert [features.count(f) for f in range(len(PLANTED))] == [1] * len(PLANTED)


def test_no_more_features_are_aimed_at_than_the_effort_says(world):
    effort = replace(SETTINGS.effort, max_features=2)
    world.run("few features", obedient, replace(SETTINGS, effort=effort))
    assert {f for features in aimed_at(world.folder / "few features") for f in features} == {
        0,
        1,
        -1,
    }


def test_run_without_room_for_more_candidates_stops_short_and_says_so(world):
    settings = replace(SETTINGS, effort=replace(SETTINGS.effort, max_candidates=10))
    result = world.run("short", obedient, settings)
    assert sum(result.outcomes.values()) == 10
    assert (len(result.kept) < 16, result.stopped) == (True, "max_candidates")
    assert "every text that --max-candidates allows" in result.tables()[0].note


def test_rare_features_are_not_aimed_at(world):
    result = world.run("rare", obedient, replace(SETTINGS, min_anchor_samples=3))
    assert {f for features in aimed_at(world.folder / "rare") for f in features} == {-1}
    assert len(result.missing_before) == len(PLANTED)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_samples": 0}, "max_samples is 0; it must be 1 or more"),
        ({"second_candidates": -1}, "second_candidates is -1; it must be 0 or more"),
    ],
)
def test_impossible_budget_is_an_error(change, message):
    with pytest.raises(DataError, match=message):
        Effort(**change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"max_overlap": 1.5}, "between 0 and 1, not 1.5"),
        ({"per_feature": 0}, "per_feature is 0; it must be 1 or more"),
    ],
)
def test_impossible_setting_is_an_error(change, message):
    with pytest.raises(DataError, match=message):
        SynthesisSettings(**change)


def test_threshold_that_is_not_set_is_that_of_coverage(world):
    result = world.run("delta", obedient, replace(SETTINGS, threshold=None))
    found = measure_coverage(world.anchor, world.seed)
    assert found.threshold_rule
    row = json.loads((result.folder / "summary.json").read_text())
    assert (row["threshold"], row["threshold_rule"]) == (found.threshold, found.threshold_rule)
    assert row["n_missing"] == found.n_missing


# Nothing to do, and failures


def test_complete_seed_gets_samples_by_the_rates_of_the_anchor(world):
    chat, folder = ScriptedChat(obedient), world.folder / "complete"
    run = SynthesisRun(world.anchor, world.anchor, settings=SETTINGS)
    result = run.execute(*planted_pair(), chat, folder)
    found = [sum(f in kept.new_features for kept in result.kept) for f in range(len(PLANTED))]
    rows = active_rows(result.table.activations(), threshold=1.0)
    assert (found, result.missing_before, result.fac) == ([0] * 8, (), None)
    assert rows.counts[: len(PLANTED)].tolist() == [2] * len(PLANTED)


def test_requests_that_all_fail_are_an_error(world):
    with pytest.raises(ChatError, match="12 of 12 texts .* from scripted failed.*no such model"):
        world.run("down", lambda request: ChatFailure("no such model"))


def test_replies_without_words_are_counted(world):
    effort = replace(SETTINGS.effort, max_candidates=20)
    result = world.run("wordless", lambda request: '""', replace(SETTINGS, effort=effort))
    assert (result.kept, result.outcomes) == ((), {"no words": 20})


def test_some_failures_are_counted_and_the_rest_is_kept(world):
    calls = iter(range(10_000))
    flaky = ScriptedChat(lambda r: ChatFailure("busy") if next(calls) % 7 == 3 else obedient(r))
    result = world.run("flaky", flaky)
    assert result.outcomes["failed request"] >= 2
    assert len(result.kept) == 16


# Stopped and started again


def kill_at(monkeypatch, where, n):
    """Make the n-th call of one kind end the process; returns the script."""
    calls = iter(range(10_000))

    def count():
        if next(calls) == n:
            raise Killed

    if where == "rename":
        real = os.replace
        monkeypatch.setattr(os, "replace", lambda a, b: (count(), real(a, b), count()))
    if where == "extract":
        real_extract = score.extract_table
        monkeypatch.setattr(
            score, "extract_table", lambda *a, **k: (count(), real_extract(*a, **k), count())[1]
        )
    return lambda request: (count() if where == "chat" else None) or obedient(request)


@pytest.mark.parametrize(
    ("where", "n"),
    [
        *(("chat", n) for n in (0, 12, 33)),
        *(("extract", n) for n in (0, 1, 3)),
        *(("rename", n) for n in (0, 14, 28)),
    ],
)
def test_killed_run_ends_as_an_undisturbed_one_and_asks_nothing_twice(
    finished, world, tmp_path, monkeypatch, where, n
):
    world = replaced(world, folder=tmp_path)
    with monkeypatch.context() as patch:
        first = ScriptedChat(kill_at(patch, where, n))
        with pytest.raises(Killed):
            world.run("run", first)
    second = ScriptedChat(obedient)
    world.run("run", second)
    answered = first.history[: -1 if where == "chat" else None] + second.history
    whole = finished[1] / "synthetic.jsonl"
    assert (tmp_path / "run" / "synthetic.jsonl").read_bytes() == whole.read_bytes()
    assert sorted(r.key for r in answered) == sorted(r.key for r in finished[2].history)


def test_finished_run_asks_and_extracts_nothing_again(finished, world, monkeypatch):
    result, folder, _ = finished
    monkeypatch.setattr("facsynth.table.work.read_activations", None)
    before = (folder / "synthetic.jsonl").read_bytes()
    again = world.run("finished", ScriptedChat([]))
    assert again.kept == result.kept
    assert (folder / "synthetic.jsonl").read_bytes() == before


def test_request_that_failed_before_a_kill_may_succeed_after_it(world, monkeypatch):
    calls = iter(range(10_000))
    with monkeypatch.context() as patch:
        kill_at(patch, "extract", 1)
        with pytest.raises(Killed):
            world.run("late", lambda r: obedient(r) if next(calls) else ChatFailure("busy"))
    result = world.run("late", obedient)
    assert result.outcomes["failed request"] == 1
    assert len(result.kept) == 16


@pytest.mark.parametrize(
    ("options", "what"),
    [
        ({"settings": replace(SETTINGS, random_seed=1)}, "random_seed"),
        ({"relevant": np.arange(9) < 3}, "relevant"),
        ({"script": ScriptedChat(obedient, name="other")}, "generator"),
    ],
)
def test_folder_of_another_run_is_refused(world, finished, options, what):
    with pytest.raises(MismatchError, match=f"holds a run with another {what}; choose another"):
        world.run("finished", **{"script": ScriptedChat([]), **options})


def test_setting_that_an_older_version_did_not_write_counts_as_its_default(world, finished):
    path = shutil.copytree(finished[1], world.folder / "older") / "plan.json"
    plan = json.loads(path.read_text())
    del plan["settings"]["reply"], plan["source"]["dtype"]
    path.write_text(json.dumps(plan))
    assert world.run("older", ScriptedChat([])).kept == finished[0].kept


def test_samples_of_runs_with_other_random_seeds_have_other_ids(world, finished):
    other = world.run("reseeded", obedient, replace(SETTINGS, random_seed=1))
    ids = [{kept.sample.sample_id for kept in result.kept} for result in (finished[0], other)]
    assert ids[0].isdisjoint(ids[1])


def test_written_table_does_not_claim_hidden_states(tmp_path):
    world = World(tmp_path, n_words=1)
    extract = ExtractSettings(score="user", hidden=True)
    for name in ("anchor", "seed"):
        samples = getattr(world, name).samples()
        setattr(world, name, planted_table(samples, tmp_path / f"hidden {name}", settings=extract))
    world.run("run", obedient, ONE)
    assert open_table(tmp_path / "run" / "table").activations(hidden=True).hidden is None


def test_folder_of_an_unfinished_table_is_refused(world, tmp_path):
    (tmp_path / "plan.json").write_text('{"n_parts": 3}', encoding="utf-8")
    with pytest.raises(MismatchError, match="holds no run of `fac synthesize`"):
        world.run(tmp_path, obedient)


def test_folder_of_another_seed_is_refused(finished, world):
    other = replaced(world, seed=world.anchor)
    with pytest.raises(MismatchError, match="holds a run with another seed"):
        other.run("finished", ScriptedChat([]))


# What belongs together


def test_sae_of_another_table_is_refused(world):
    lm, _ = planted_pair()
    other = planted_sae(layer=1)
    with pytest.raises(MismatchError, match="was extracted with SAE .*pass the matching --sae"):
        world.run("other", ScriptedChat([]), pair=(lm, other))
    assert not (world.folder / "other" / "plan.json").exists()


def test_model_of_another_table_is_refused(world):
    lm, sae = planted_pair()
    other = LanguageModel(lm.model, lm.tokenizer, "other", "other model")
    with pytest.raises(MismatchError, match="was extracted with model .*the matching --model"):
        world.run("other", ScriptedChat([]), pair=(other, sae))


def test_tables_that_score_other_words_are_refused(world, tmp_path):
    other = World(tmp_path, "assistant").seed
    with pytest.raises(MismatchError, match="do not compare: score is user"):
        SynthesisRun(world.anchor, other)
