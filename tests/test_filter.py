"""Samples that are kept, dropped or labelled by what they activate."""

import json

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from activations import make_activations
from facsynth.cli import main
from facsynth.errors import DataError
from facsynth.select.filter import filter_samples
from facsynth.select.settings import FilterSettings
from facsynth.table.active import active_rows
from tiny_pair import PLANTED, planted_table, talk

ROWS = active_rows(
    make_activations([{0: 2.0}, {1: 2.0}, {0: 2.0, 1: 2.0}, {}], n_features=4), threshold=1.0
)


def kept(**settings):
    return filter_samples(ROWS, FilterSettings(**settings), topics=[(0, 1)]).kept.tolist()


@pytest.mark.parametrize(
    ("settings", "rows"),
    [
        ({"drop": ("0",)}, [1, 3]),
        ({"keep": ("0",)}, [0, 2]),
        ({"drop": ("0,1",)}, [3]),
        ({"keep": ("0", "1")}, [0, 1, 2]),
        ({"keep": ("topic:0",)}, [0, 1, 2]),
        ({"keep": ("topic:0",), "at_least": 2}, [2]),
        ({"keep": ("0",), "at_least": 2}, [0, 2]),
        ({"label": ("x=0",)}, [0, 1, 2, 3]),
    ],
)
def test_samples_with_the_features_are_kept_or_dropped(settings, rows):
    assert kept(**settings) == rows


@given(st.lists(st.integers(0, 3), min_size=1, max_size=4))
def test_what_is_dropped_is_what_keep_keeps(features):
    words = (",".join(map(str, features)),)
    dropped = filter_samples(ROWS, FilterSettings(drop=words))
    assert dropped.dropped.tolist() == kept(keep=words)
    assert np.union1d(dropped.kept, dropped.dropped).tolist() == [0, 1, 2, 3]


def test_the_first_group_that_fits_gives_the_label_and_others_keep_theirs():
    found = filter_samples(ROWS, FilterSettings(label=("a=0", "b=1")))
    assert found.labels(["old"] * 4) == ["a", "b", "a", "old"]


def test_a_label_that_is_given_twice_has_the_features_of_both():
    found = filter_samples(ROWS, FilterSettings(label=("a=0", "a=1")))
    assert found.labels(["old"] * 4) == ["a", "a", "a", "old"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({}, "say what to do"),
        ({"drop": ("1",), "keep": ("2",)}, "say what to do"),
        ({"drop": ("1",), "at_least": 0}, "1 or more"),
    ],
)
def test_settings_that_say_nothing_or_two_things_are_refused(settings, message):
    with pytest.raises(DataError, match=message):
        FilterSettings(**settings)


@pytest.mark.parametrize(
    ("word", "message"),
    [("4", "no feature 4"), ("cats", "neither a feature id"), ("topic:1", "topics are 0 to 0")],
)
def test_what_does_not_exist_is_named(word, message):
    with pytest.raises(DataError, match=message):
        kept(drop=(word,))


def test_a_label_without_a_name_is_refused():
    with pytest.raises(DataError, match="has no label"):
        kept(label=("0,1",))


@pytest.fixture
def table(tmp_path):
    texts = [f"we saw a {word}" for word in (PLANTED[0], PLANTED[1], PLANTED[0])]
    planted_table([talk(f"s{i}", text) for i, text in enumerate(texts)], tmp_path / "table")
    return tmp_path / "table"


def fac(*words):
    return CliRunner().invoke(main, [str(word) for word in words])


def test_without_an_output_it_only_shows_what_would_happen(table):
    done = fac("filter", table, "--drop", "0")
    assert (done.exit_code, "2 of 3 samples are dropped" in done.stdout) == (0, True)
    assert f"0: s0: we saw a {PLANTED[0]}" in done.stdout
    assert "Nothing was written" in done.stdout


def test_samples_that_are_shown_cannot_act_on_the_terminal(tmp_path):
    planted_table([talk("s", f"we saw a {PLANTED[0]} \x1b[31m")], tmp_path / "odd")
    done = fac("filter", tmp_path / "odd", "--drop", "0")
    assert "\\x1b[31m" in done.stdout
    assert "\x1b" not in done.stdout


def test_what_is_dropped_has_a_file_of_its_own(table, tmp_path):
    done = fac("filter", table, "--drop", "0", "-o", tmp_path / "left.jsonl", "--json")
    assert json.loads(done.stdout)["n_dropped"] == 2
    ids = {
        name: [json.loads(line)["sample_id"] for line in (tmp_path / name).read_text().splitlines()]
        for name in ("left.jsonl", "left.dropped.jsonl")
    }
    assert ids == {"left.jsonl": ["s1"], "left.dropped.jsonl": ["s0", "s2"]}


def test_topics_are_those_of_a_first_look_or_of_a_run(table, tmp_path):
    rows = [{"name": "cats", "feature_ids": [0]}, {"name": "dogs", "feature_ids": [1]}]
    (tmp_path / "look.json").write_text(json.dumps({"standouts": rows}))
    (tmp_path / "topics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for name in ("look.json", "topics.jsonl"):
        words = ("--label", "dog=topic:1", "--topics", tmp_path / name, "--json")
        row = json.loads(fac("filter", table, *words).stdout)
        assert [group["n_samples"] for group in row["groups"]] == [1]


def test_a_file_without_topics_is_named(table, tmp_path):
    (tmp_path / "x.json").write_text("{}")
    done = fac("filter", table, "--keep", "topic:0", "--topics", tmp_path / "x.json")
    assert "names no topics" in done.stderr
