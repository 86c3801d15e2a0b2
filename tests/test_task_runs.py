"""Runs of each task on the planted pair, from missing features to exported rows."""

import json
import re
from dataclasses import replace
from functools import partial

import pytest

from facsynth.data.cards import read_run
from facsynth.data.export import export_samples
from facsynth.errors import MismatchError
from facsynth.table.table import open_table
from test_rounds import SETTINGS, World, rows_of
from tiny_pair import obedient, planted_in, write_about

SHORT = replace(SETTINGS, effort=replace(SETTINGS.effort, max_samples=6, max_candidates=24))
MATCHED = "Write a message about the same subject"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return World(tmp_path_factory.mktemp("tasks"))


def script(request):
    """Writes about the theme; completes what the tasks ask for with placeholders."""
    text = request.messages[-1].content
    if '{"answer": 1}' in text:
        return checked(text)
    if '"chosen"' in text:
        return '{"chosen": "a good answer", "rejected": "a worse answer"}'
    if '"matching"' in text:
        return '{"matching": "one option", "other": "another option"}'
    if MATCHED in text:
        return write_about("hello", replace(request, seed=hash_of(text)))
    return obedient(request)


def checked(text):
    """What the other label, answer or option would not be."""
    first = re.search(r"1: <text>(.*?)</text>", text)[1]
    right = ["a good answer", "one option", "toxic" if planted_in(text) else "benign"]
    return json.dumps({"answer": 1 if first in right else 2})


def hash_of(text):
    return sum(map(ord, text))


@pytest.fixture(scope="module")
def run(world):
    def run(task, **changes):
        if not (world.folder / task / "summary.json").is_file():
            world.run(task, script, replace(SHORT, task=task, **changes))
        return world.folder / task

    return run


def exported(folder, form):
    rows, facts, _ = read_run(folder)
    export_samples(rows, folder / form, form)
    return [
        json.loads(line) for line in (folder / form / "train.jsonl").read_text().splitlines()
    ], facts


def test_reward_run_exports_pairs(run):
    rows, facts = exported(run("reward"), "preference")
    assert {row["chosen"][0]["content"] for row in rows} == {"a good answer"}
    assert {row["rejected"][0]["content"] for row in rows} == {"a worse answer"}
    assert all(row["flaw"] for row in rows_of(run("reward")))
    assert not facts.sensitive


def test_toxicity_run_exports_both_labels_of_every_subject(run):
    rows, facts = exported(run("toxicity"), "classification")
    labels = [row["label"] for row in rows]
    assert labels.count("toxic") == labels.count("benign") > 0
    assert facts.sensitive


def test_contrasts_are_in_the_feature_table_and_name_their_sample(run):
    folder = run("toxicity")
    rows, table = rows_of(folder), open_table(folder / "table")
    assert [row["sample_id"] for row in rows] == [s.sample_id for s in table.samples()]
    contrasts = [row for row in rows if row["label"] == "benign"]
    assert all(r["sample_id"] == f"{r['provenance']['contrast_to']}#benign" for r in contrasts)
    assert all(not r["provenance"]["new_features"] for r in contrasts)


@pytest.mark.parametrize(("task", "sensitive"), [("sycophancy", False), ("survival", True)])
def test_choices_are_scored_and_exported_in_both_orders(run, task, sensitive):
    rows, facts = exported(run(task), "choice")
    assert len(rows) == 2 * len(rows_of(run(task))) > 0
    assert rows[0]["answer_matching_behavior"] == rows[1]["answer_not_matching_behavior"]
    table = open_table(run(task) / "table").samples()
    assert all("Choices:" in sample.messages[0].content for sample in table)
    assert facts.sensitive == sensitive


def test_instruction_run_has_answers(run):
    rows, _ = exported(run("instruction"), "prompt-completion")
    assert all(row["completion"][0]["role"] == "assistant" for row in rows)


def test_own_task_runs_from_its_file(world, tmp_path):
    own = tmp_path / "own.toml"
    own.write_text('form = "a line"\nlabel = "line"\n')
    world.run("own", script, replace(SHORT, task=str(own)))
    assert {row["label"] for row in rows_of(world.folder / "own")} == {"line"}
    plan = json.loads((world.folder / "own" / "plan.json").read_text())
    assert (plan["settings"]["form"], plan["task"]["name"]) == ("a line", "own")


def test_run_cannot_go_on_with_another_text_of_its_task(world, tmp_path):
    own = tmp_path / "own.toml"
    for form in ("a line", "a verse"):
        own.write_text(f'label = "{form}"')
        go = partial(world.run, "changed", script, replace(SHORT, task=str(own)))
        if form == "a line":
            go()
    with pytest.raises(MismatchError, match="another task"):
        go()


def test_plain_texts_cannot_become_pairs(tmp_path):
    plain = World(tmp_path, plain=True, n_words=1)
    with pytest.raises(MismatchError, match="reward writes conversations"):
        plain.run("pairs", script, replace(SHORT, task="reward"))
