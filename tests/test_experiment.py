"""A planted world in which it is known which arm helps, and what an experiment keeps and says."""

import json
import random
import shutil
from copy import deepcopy
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import facsynth
from facsynth.chat.budget import limited_chat
from facsynth.chat.scripted import ScriptedChat
from facsynth.cli import main
from facsynth.coverage.threshold import choose_threshold
from facsynth.data.write import sample_row, write_jsonl
from facsynth.errors import DataError
from facsynth.experiment.arms import make_arm
from facsynth.experiment.cells import Bench
from facsynth.experiment.controls import aim_at
from facsynth.experiment.run import run_experiment
from facsynth.experiment.settings import Arm, ExperimentRecipe, read_experiment
from facsynth.experiment.world import Loaders, World
from facsynth.records import Sample
from facsynth.report.plots import frontier_charts
from facsynth.sae.random import random_directions
from facsynth.settings import read_settings
from facsynth.table.active import active_rows
from facsynth.tasks.settings import OptimizerSettings
from tiny_pair import FILLERS, PLANTED, planted_in, planted_pair, write_about

KNOWN, NEW = PLANTED[:1], PLANTED[1:]
"""Words of the seed, and words that only the anchor and the test set have."""


def texts(n, words, seed, label):
    """Plain texts of fillers, with one of some words in each."""
    rng = random.Random(f"{words}{seed}")
    samples = []
    for i in range(n):
        fill = rng.sample([w for w in FILLERS if w != "the"], 10)
        text = " ".join([*fill[:4], *([words[i % len(words)]] if words else []), *fill[4:]])
        samples.append(Sample(f"{label}-{seed}-{i}", text=text, label=label))
    return samples


def writer(request):
    """Writes about the planted word that it sees last in its prompt; else about nothing."""
    shown = [m.content for m in request.messages if planted_in(m.content) in PLANTED]
    return write_about(planted_in(shown[-1]) if shown else "hello", request, 11)


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("planted")
    sets = {
        "anchor": [*texts(60, KNOWN, 1, "yes"), *texts(21, NEW, 2, "yes")],
        "seed": [*texts(8, KNOWN, 3, "yes"), *texts(8, [], 4, "no")],
        "test": [*texts(42, NEW, 5, "yes"), *texts(42, [], 6, "no")],
        "always": texts(12, [], 7, "no"),
    }
    for name, samples in sets.items():
        write_jsonl([sample_row(s) for s in samples], folder / f"{name}.jsonl")
    return folder


ARMS = [
    {"name": "base", "kind": "base"},
    {"name": "seed", "kind": "seed"},
    {"name": "cover", "kind": "synthesize"},
    {"name": "undirected", "kind": "undirected"},
    {"name": "real", "kind": "real", "choice": "coverage"},
]


def recipe_of(folder, **changes):
    table = {
        "name": "planted",
        "anchor": {"source": str(folder / "anchor.jsonl")},
        "seed": {"source": str(folder / "seed.jsonl")},
        "arms": ARMS,
        "reference": "undirected",
        "tasks": [
            {
                "name": "sea",
                "test": {"source": str(folder / "test.jsonl")},
                "always": {"source": str(folder / "always.jsonl")},
                "positive": "yes",
                "head": {"inverse_l2": 1.0},
            }
        ],
        "classes": [{"label": "yes", "form": "a text"}],
        "by_class": True,
        "sizes": [3, 7],
        "n_resamples": 50,
        "random_seeds": [1, 2],
        "n_written": 7,
        "synthesize": {
            "evidence": "texts",
            "max_overlap": 0.9,
        },
        "baseline": {"max_overlap": 0.9},
    }
    return read_settings(ExperimentRecipe, {**table, **changes}, "test")


def read_rows_of(folder, part):
    [path] = folder.glob(f"arms/twice-*/{part}/synthetic.jsonl")
    return [json.loads(line) for line in path.read_text().splitlines()]


class Asked:
    """Loads the planted pair and a script, and counts what is asked."""

    def __init__(self, script=writer):
        self.chat = ScriptedChat(script)
        self.loaders = Loaders(
            lm=lambda name, dtype: deepcopy(planted_pair()[0]),  # training changes it
            sae=lambda name: planted_pair()[1],
            chat=lambda wanted, reader, spending: limited_chat(self.chat, spending),
        )


@pytest.fixture(scope="module")
def done(place, tmp_path_factory):
    return run_experiment(recipe_of(place), tmp_path_factory.mktemp("run"), loaders=Asked().loaders)


SMALL = {"arms": ARMS[1:4], "sizes": [3], "n_written": 3, "random_seeds": [1]}


@pytest.fixture(scope="module")
def small(place, tmp_path_factory):
    """A run with two arms that write, once each."""
    folder = tmp_path_factory.mktemp("small")
    return run_experiment(recipe_of(place, **SMALL), folder, loaders=Asked().loaders)


def at(result, arm, size=7):
    return next(r for r in result.rows if r["arm"] == arm and r["size"] == size)


def test_arms_that_fill_the_missing_features_win(done):
    assert at(done, "cover")["fill_rate"] == 1.0
    assert min(at(done, name)["low"] for name in ("cover", "real")) > 0
    assert at(done, "cover")["score"] > at(done, "cover", 3)["score"]


def test_arms_that_fill_nothing_show_nothing(done):
    assert at(done, "undirected")["fill_rate"] == 0.0
    assert at(done, "undirected")["score"] == pytest.approx(at(done, "seed")["score"], abs=0.1)
    assert at(done, "base")["score"] == 0.5


def test_shuffled_labels_show_nothing(done):
    for row in done.rows:
        if row["arm"] != "undirected":
            assert row["shuffled_low"] <= 0 <= row["shuffled_high"]


def test_line_says_what_was_shown_and_what_not(done):
    assert "better (cover at 3, 7; real at 3, 7), 0 worse (none), and 4 not better" in done.shown
    assert "Random seeds of the writers: 2, which is few" in done.shown


def test_written_samples_have_their_price_and_real_ones_none(done):
    assert at(done, "real")["tokens"] == 0
    assert at(done, "cover")["tokens"] > at(done, "cover", 3)["tokens"] > 0
    assert done.spent["tokens_written"] > at(done, "cover")["tokens"]


def test_run_again_asks_nothing_and_gives_the_same(place, done):
    asked = Asked()
    again = run_experiment(recipe_of(place), done.folder, loaders=asked.loaders)
    assert asked.chat.history == []
    assert again.rows == done.rows
    assert json.loads((done.folder / "experiment.json").read_text())["rows"] == list(done.rows)


class Killed(Exception):  # noqa: N818
    """The process ends here."""


def lasting(row):
    """A row without what a kill may change: the call under way is spent again."""
    return {k: v for k, v in row.items() if k not in ("seconds", "calls")}


def test_killed_run_ends_with_the_same_result(place, small, tmp_path):
    def dying(request):
        if len(chat.chat.history) == small.spent["calls"] // 2:
            raise Killed
        return writer(request)

    chat = Asked(dying)
    with pytest.raises(Killed):
        run_experiment(recipe_of(place, **SMALL), tmp_path, loaders=chat.loaders)
    again = run_experiment(recipe_of(place, **SMALL), tmp_path, loaders=Asked().loaders)
    assert [lasting(row) for row in again.rows] == [lasting(row) for row in small.rows]


def test_arm_that_is_added_later_is_all_that_is_written(place, small, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(small.folder, folder)
    asked = Asked()
    wanted = {**SMALL, "arms": [*ARMS[2:4], {"name": "near", "kind": "anchor-text"}]}
    more = run_experiment(recipe_of(place, **wanted), folder, loaders=asked.loaders)
    assert 0 < len(asked.chat.history) < small.spent["calls"]
    assert at(more, "cover", 3)["score"] == at(small, "cover", 3)["score"]
    assert at(more, "near", 3)["n_samples"] == 3


def test_equal_tokens_add_as_many_samples_as_they_pay_for(place, done, tmp_path):
    folder = tmp_path / "run"
    shutil.copytree(done.folder, folder)
    asked = Asked()
    wanted = recipe_of(place, sizes=[3], token_budgets=[60])
    rows = run_experiment(wanted, folder, loaders=asked.loaders).rows
    assert asked.chat.history == []
    n = {row["arm"]: row["n_samples"] for row in rows if row["view"] == "tokens"}
    for arm in ("cover", "undirected"):
        price = at(done, arm)["tokens"] / 7
        assert n[arm] == pytest.approx(60 / price, abs=1)
    assert n["real"] is None


def test_arm_with_too_few_samples_is_named_and_left_empty(place, tmp_path):
    loaders = Asked(lambda request: write_about("hello", replace(request, seed=0), 11)).loaders
    wanted = recipe_of(place, arms=ARMS[3:], sizes=[3])
    result = run_experiment(wanted, tmp_path, loaders=loaders)
    assert at(result, "undirected", 3)["score"] is None
    assert "undirected has fewer than 3 samples for 2 random seeds" in result.notes
    assert at(result, "real", 3)["score"] is not None


def test_chart_shows_every_score_and_arms_that_add_nothing_as_lines(done):
    chart = json.dumps(frontier_charts(done.rows))
    assert chart.count('"adds": "samples"') == 6  # three arms at two sizes
    assert chart.count('"adds": "nothing"') == 8  # base and seed, at both ends, for two sizes


def test_random_features_are_as_many_as_the_missing_ones_and_missing_in_the_seed(place, tmp_path):
    world = World(recipe_of(place), tmp_path, Asked().loaders)
    [wanted] = world.recipe.classes
    side = world.side(wanted)
    seed, aimed = aim_at(world, side, Arm("x", "synthesize", "random"), 1.0, 3, wanted)
    assert aimed.sum() == world.missing(side, 1.0).sum()
    assert not (active_rows(seed, threshold=1.0).features & aimed).any()
    assert aim_at(world, side, Arm("x", "synthesize"), 1.0, 3, wanted) == (side.seed, None)


def test_without_a_threshold_all_arms_take_the_one_that_coverage_chooses(place, tmp_path):
    world = World(recipe_of(place, threshold=None), tmp_path, Asked().loaders)
    side = world.side(None)
    assert world.threshold == choose_threshold(side.anchor, len(world.seed))


def test_only_relevant_features_count_and_a_wrong_judge_turns_some_of_them_round(place, tmp_path):
    (tmp_path / "relevant.txt").write_text("1\n2\n")
    recipe = recipe_of(place, relevant=str(tmp_path / "relevant.txt"))
    world = World(recipe, tmp_path / "run", Asked().loaders)
    side = world.side(recipe.classes[0])
    assert np.flatnonzero(world.missing(side, 1.0)).tolist() == [1, 2]
    _, flags = aim_at(world, side, Arm("x", "synthesize", flipped=1 / 3), 1.0, 0, None)
    assert (flags != world.relevant).sum() == 3  # of nine features


def test_arm_that_aims_at_a_share_leaves_the_other_missing_features_out(place, tmp_path):
    world = World(recipe_of(place), tmp_path, Asked().loaders)
    side = world.side(world.recipe.classes[0])
    missing = world.missing(side, 1.0)
    seed, flags = aim_at(world, side, Arm("x", "synthesize", aimed=0.5), 1.0, 3, None)
    assert seed == side.seed
    assert (missing & flags).sum() == round(missing.sum() / 2)
    assert flags[~missing].all()


def test_features_of_another_sae_are_aimed_at_and_measured_by_that_of_the_recipe(place, tmp_path):
    other = random_directions(planted_pair()[1], random_seed=5)
    loaders = replace(Asked().loaders, sae=lambda name: other if name else planted_pair()[1])
    arms = [*ARMS[3:], {"name": "cover", "kind": "synthesize", "source": {"sae": "other"}}]
    world = World(recipe_of(place, arms=arms), tmp_path, loaders)
    side = world.side(world.recipe.classes[0], world.recipe.arms[-1])
    assert side.anchor.manifest.source.sae_hash == other.content_hash
    assert world.side(None).anchor.manifest.source.sae_hash == planted_pair()[1].content_hash


@pytest.mark.slow
def test_second_round_is_written_by_a_tuned_model_for_what_is_still_missing(place, tmp_path):
    asked = Asked()
    names = []
    plain = asked.loaders.chat

    def chat(wanted, reader, spending):
        names.append(reader().content_hash)
        return plain(wanted, reader, spending)

    loaders = replace(asked.loaders, chat=chat)
    arms = [ARMS[3], {"name": "twice", "kind": "synthesize", "rounds": 2}]
    recipe = recipe_of(place, arms=arms, random_seeds=[1], sizes=[3])
    world = World(recipe, tmp_path, loaders)
    made = make_arm(world, recipe.arms[1], 1)
    assert len(names) == len(set(names)) == 2  # the untrained generator, then a tuned one
    assert len(made.samples) == 7
    first, second = (
        {row["provenance"]["target_feature"] for row in read_rows_of(tmp_path, part)} - {None}
        for part in ("yes", "round-2/yes")
    )
    assert second
    assert not first & second


@pytest.mark.slow
def test_adapters_learn_the_labels_and_not_shuffled_ones_and_leave_no_weights(place, tmp_path):
    recipe = recipe_of(place, random_seeds=[1], sizes=[7])
    way = OptimizerSettings(epochs=12.0, learning_rate=0.01)
    task = replace(recipe.tasks[0], method="lora", optimizer=way)
    world = World(replace(recipe, tasks=(task,)), tmp_path, Asked().loaders)
    bench = Bench(world, task, "")
    real = make_arm(world, recipe.arms[-1], 1)
    cell = bench.cell(real, 7, 1)
    assert bench.measure(np.array(cell["scores"])) > 0.6
    assert all(bench.measure(np.array(scores)) < 0.6 for scores in cell["shuffled"])
    assert not list((tmp_path / "cells").glob("*/"))


def test_recipe_without_a_task_writes_and_measures(place, tmp_path):
    wanted = recipe_of(place, tasks=[], sizes=[3], random_seeds=[1])
    result = run_experiment(wanted, tmp_path, loaders=Asked().loaders)
    assert at(result, "cover", 3)["fill_rate"] > at(result, "undirected", 3)["fill_rate"]
    assert at(result, "cover", 3)["score"] is None
    assert [table.title for table in result.tables()][0] == "What these samples are"
    assert result.shown.startswith("Nothing was compared")


def test_samples_that_copy_a_test_set_are_left_out(place, tmp_path):
    recipe = recipe_of(
        place, anchor={"source": [str(place / f"{n}.jsonl") for n in ("anchor", "test")]}
    )
    world = World(recipe, tmp_path, Asked().loaders)
    assert len(world.anchor) == 81


def test_example_is_the_small_recipe_and_has_enough_arms():
    example = (Path(facsynth.__file__).parent / "experiment" / "example.toml").read_text()
    recipe = Path(__file__).parent.parent / "recipes" / "experiment_small.toml"
    assert recipe.read_text() == example
    assert len(read_experiment(recipe).arms) >= 6
    found = CliRunner().invoke(main, ["experiment", "--example"])
    assert found.output == example


def test_wrong_recipe_is_one_line_before_torch_is_loaded(tmp_path):
    path = tmp_path / "wrong.toml"
    path.write_text('reference = "seed"\n')
    found = CliRunner().invoke(main, ["experiment", str(path)])
    assert found.exit_code == 1
    assert found.stderr.startswith("Error: ")
    assert "the key `anchor` is missing" in found.stderr


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"reference": "gone"}, "the reference is 'gone', but the arms are base, seed"),
        ({"arms": [*ARMS, ARMS[3]]}, "two arms called 'undirected'"),
        ({"n_written": 5}, "n_written is 5, less than the largest size, 7"),
        ({"sizes": [0]}, "sizes and token budgets are 1 or more"),
        (
            {"arms": [*ARMS, {"name": "x", "kind": "real", "settings": {"threshold": 1.0}}]},
            "the arm x writes nothing",
        ),
        (
            {"arms": [*ARMS, {"name": "x", "kind": "synthesize", "settings": {"thresold": 1.0}}]},
            "unknown key `thresold`; did you mean `threshold`",
        ),
    ],
)
def test_recipe_that_cannot_be_run_says_why(tmp_path, changes, message):
    with pytest.raises(DataError, match=message):
        recipe_of(tmp_path, **changes)
