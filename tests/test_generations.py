"""A second run that starts from the seed and from what a first run wrote."""

import json
from dataclasses import replace

import pytest

from facsynth.chat.scripted import ScriptedChat
from facsynth.errors import DataError
from facsynth.synthesize.run import SynthesisRun
from facsynth.table.table import open_table
from test_rounds import SETTINGS, World
from tiny_pair import obedient, planted_pair

FEW = replace(SETTINGS, effort=replace(SETTINGS.effort, max_samples=4, max_attempts=1))


def test_second_run_fills_what_the_first_one_left(tmp_path):
    world = World(tmp_path)
    first = world.run("first", obedient, FEW)
    seeds = [world.seed, open_table(tmp_path / "first" / "table")]
    chat, folder = ScriptedChat(obedient), tmp_path / "second"
    run = SynthesisRun(world.anchor, seeds, settings=SETTINGS)
    second = run.execute(*planted_pair(), chat, folder)
    filled = {f for kept in first.kept for f in kept.new_features}
    assert set(second.missing_before) == set(first.missing_before) - filled
    assert {f for kept in second.kept for f in kept.new_features} == set(second.missing_before)
    assert not {k.sample.messages[0] for k in first.kept} & {
        k.sample.messages[0] for k in second.kept
    }
    assert len(json.loads((folder / "plan.json").read_text())["seed"]) == 2


def test_seed_without_tables_is_an_error(tmp_path):
    world = World(tmp_path, n_words=1)
    with pytest.raises(DataError, match="no seed table"):
        SynthesisRun(world.anchor, [])
