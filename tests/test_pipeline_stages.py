"""Stages of a recipe that run only where it has a table for them."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from facsynth.chat.scripted import ScriptedChat
from facsynth.data.read import read_samples
from facsynth.data.write import sample_row, write_jsonl
from facsynth.errors import DataError
from facsynth.pipeline import run_recipe
from planted_texts import oracle
from test_pipeline import ANCHOR, write_world
from tiny_pair import PLANTED, obedient, talk

ANIMALS = {"cat", "dog", "fish", "bird"}
STAGES = """
[judge]
chat_model = "scripted"

[explain]
in_words = true
llm.fidelity = false

[relevance]
task = "{rubric}"

[select]
budget = 3
quota = "none"

[export]
formats = ["sft", "hf"]
clean = true
"""


def judging(request):
    """Writes for the features asked for, explains by the marked word, and keeps animals."""
    system = request.messages[0].content
    if "You judge whether" in system:
        asked = request.messages[1].content
        feature = asked.split("Feature: ")[1].split("\n")[0]
        return json.dumps({"grade": "yes" if feature in ANIMALS else "no", "reason": ""})
    return oracle(request) if "inner features" in system else obedient(request)


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    return write_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
def run(monkeypatch):
    def run(path, folder, script=judging):
        chat = ScriptedChat(script)
        monkeypatch.setattr("facsynth.chat.endpoint.EndpointChat", lambda *args, **options: chat)
        return run_recipe(path, folder), chat

    return run


def recipe_of(world, folder, stages):
    path = folder / "staged.toml"
    path.write_text(world.read_text() + stages)
    return path


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_rubric_decides_what_is_missing_and_the_choice_is_exported(world, run, tmp_path):
    (tmp_path / "rubric.txt").write_text("animals")
    recipe = recipe_of(world, tmp_path, STAGES.format(rubric=tmp_path / "rubric.txt"))
    result, _ = run(recipe, tmp_path / "run")
    folder = result.folder
    judged = lines(folder / "relevance" / "relevance.jsonl")
    assert {PLANTED[r["feature_id"]] for r in judged if r["relevant"]} == ANIMALS
    assert (result.before["n_relevant"], result.before["n_missing"]) == (4, 3)  # the seed has a cat
    named = {row["feature_id"]: row["name"] for row in lines(folder / "coverage/missing.jsonl")}
    assert {PLANTED[f] for f in named} == ANIMALS - {"cat"}
    chosen = [sample.sample_id for sample in read_samples(folder / "select" / "selected.jsonl")]
    assert len(chosen) == min(3, result.n_synthetic)
    assert [folder / "export" / form for form in ("sft", "hf")] == list(map(Path, result.exported))
    assert sum(len(lines(p)) for p in (folder / "export" / "sft").rglob("*.jsonl")) == len(chosen)
    again, chat = run(recipe, tmp_path / "run", lambda request: "nobody is asked")
    assert (again, chat.history) == (result, [])


def test_labels_decide_and_a_task_is_trained_on_seed_and_synthetic(world, run, tmp_path):
    texts = [f"{text} number {i}" for i in range(4) for text in ANCHOR]
    samples = [
        replace(talk(f"t-{i}", text), label="toxic" if "cat" in text or "dog" in text else "safe")
        for i, text in enumerate(texts)
    ]
    for name, part in (("anchor", samples), ("seed", samples[:24]), ("test", samples[-24:])):
        write_jsonl(map(sample_row, part), tmp_path / f"{name}.jsonl")
    text = world.read_text().replace(str(world.parent / "anchor"), str(tmp_path / "anchor"))
    text = text.replace(str(world.parent / "seed"), str(tmp_path / "seed"))
    task = f'[task]\nname = "toxicity"\ntest = "{tmp_path / "test.jsonl"}"\narms = ["seed"]\n'
    stages = '[relevance]\nlabel = "toxic"\n'
    more = "allow_overlap = true\n[task.toxicity.train]\nhead_only = true\nrandom_seed = [1]\n"
    path = tmp_path / "labels.toml"
    path.write_text(text + "synthesize.reply = false\n" + stages)
    first, _ = run(path, tmp_path / "run")
    judged = lines(first.folder / "relevance" / "relevance.jsonl")
    assert {PLANTED[row["feature_id"]] for row in judged if row["relevant"]} == {"cat", "dog"}
    path.write_text(path.read_text() + task + more)  # a stage may be added later
    result, chat = run(path, tmp_path / "run")
    assert chat.history == []
    assert list(result.task) == ["seed"]
    assert result.task["seed"]["measure"] == "auprc"
    assert 0 <= result.task["seed"]["score"] <= 1
    assert "trained on" in str(result.tables()[1].columns)


def test_label_that_no_feature_goes_with_is_an_error(world, run, tmp_path):
    samples = [replace(talk(f"a-{i}", text), label=str(i % 4 < 2)) for i, text in enumerate(ANCHOR)]
    write_jsonl(map(sample_row, samples), tmp_path / "anchor.jsonl")
    text = world.read_text().replace(str(world.parent / "anchor"), str(tmp_path / "anchor"))
    path = tmp_path / "none.toml"
    path.write_text(text + '[relevance]\nlabel = "True"\nmin_grade = "yes"\n')
    with pytest.raises(DataError, match=r"no feature is relevant, see .*relevance.jsonl"):
        run(path, tmp_path / "run")
