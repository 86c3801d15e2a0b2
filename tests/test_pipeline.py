"""A whole recipe on the planted pair, saved to disk as a user has it."""

import json
import os
import shutil
from pathlib import Path

import pandas as pd
import pytest

from facsynth.chat.scripted import ScriptedChat
from facsynth.data.write import sample_row, write_jsonl
from facsynth.errors import DataError, FacsynthError, MismatchError
from facsynth.pipeline import run_recipe
from facsynth.report.report import report_run
from planted_report import page_data
from tiny_pair import PLANTED, obedient, save_pair, talk

ANCHOR = [
    text
    for word in PLANTED
    for text in (
        f"we saw some old {word} under the red table",
        f"they always liked {word} with a very good evening on my road again",
    )
]
KILLS = (1, 25, 45, 60)
"""Renames of files, each counted before and after, at which the run is killed."""

SEED = ["we saw some old cat and the tea under my tree", "the house was very good today"]


class Killed(Exception):  # noqa: N818
    """The process ends here."""


def write_world(folder):
    """Data, model, SAE and recipe; the path of the recipe."""
    model, sae = save_pair(folder)
    for name, texts in (("anchor", ANCHOR), ("seed", SEED)):
        samples = [talk(f"{name}-{i}", text, "it was so") for i, text in enumerate(texts)]
        write_jsonl(map(sample_row, samples), folder / f"{name}.jsonl")
    recipe = folder / "recipe.toml"
    recipe.write_text(f"""
name = "planted"
model = "{model}"
sae = "{sae}"
anchor.source = "{folder / "anchor.jsonl"}"
seed.source = "{folder / "seed.jsonl"}"
extract.score = "user"
generator.chat_model = "scripted"
synthesize.effort = {{ round_size = 8, max_samples = 6 }}
""")
    return recipe


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    return write_world(tmp_path_factory.mktemp("world"))


@pytest.fixture
def run(recipe, monkeypatch):
    """Run the recipe into a folder with a script as its endpoint."""

    def run(folder, script=obedient, path=recipe):
        chat = script if isinstance(script, ScriptedChat) else ScriptedChat(script)
        monkeypatch.setattr("facsynth.chat.endpoint.EndpointChat", lambda *args, **options: chat)
        return run_recipe(path, folder)

    return run


@pytest.fixture(scope="module")
def whole(recipe, tmp_path_factory):
    """An undisturbed run: its result, and what was asked."""
    chat = ScriptedChat(obedient)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACSYNTH_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setattr("facsynth.chat.endpoint.EndpointChat", lambda *args, **options: chat)
        return run_recipe(recipe, tmp_path_factory.mktemp("runs") / "whole"), chat.history


def files(folder):
    """Contents of what a run is for; times and the report's date are left out."""
    names = ("synthesize/synthetic.jsonl", "synthesize/summary.json", "coverage/before.json")
    names += ("coverage/after.json", "coverage/missing.jsonl", "recipe.json")
    return {name: (folder / name).read_text() for name in names}


def fac_by_pandas(anchor, *parts, threshold=1.0):
    """FAC from the Parquet files alone."""

    def active(*tables):
        paths = [path for table in tables for path in Path(table).glob("part-*.parquet")]
        rows = pd.concat([pd.read_parquet(path) for path in paths])
        entries = rows.explode(["feature_ids", "activations"]).dropna()
        return set(entries.feature_ids[entries.activations > threshold])

    goal = active(anchor)
    return len(goal & active(*parts)) / len(goal)


def test_run_fills_what_the_seed_misses(whole):
    result, _ = whole
    assert result.before["fac"] == pytest.approx(3 / 9)  # cat, tea and "the"
    assert result.n_synthetic == 6
    assert result.after["n_covered"] > result.before["n_covered"]
    names = {line["feature_id"]: line["name"] for line in missing_rows(result.folder)}
    assert {f: name.split(", ")[0] for f, name in names.items()} == {
        f: word for f, word in enumerate(PLANTED) if word not in ("cat", "tea")
    }


def test_a_recipe_without_a_threshold_takes_that_of_the_first_coverage(whole):
    result, _ = whole
    assert (
        "none of the anchor's activations stands out" in result.before["threshold_rule"]
    )  # all are equal here
    written = json.loads((result.folder / "synthesize" / "summary.json").read_text())
    assert result.before["threshold"] == result.after["threshold"] == written["threshold"]


def test_name_from_two_samples_is_not_tested_and_not_called_doubtful(whole):
    rows = missing_rows(whole[0].folder)
    assert {(row["balanced_accuracy"], row["doubtful"]) for row in rows} == {(None, False)}
    assert all(len(row["spans"]) == row["n_anchor_samples"] == 2 for row in rows)


def test_missing_features_have_named_neighbours_and_the_report_shows_them(whole):
    rows = missing_rows(whole[0].folder)
    assert all(near["name"] for row in rows for near in row["neighbours"])
    assert any(near["covered"] for row in rows for near in row["neighbours"])  # "the"
    (page,) = page_data(whole[0].report)
    assert any(page["features"]["near"])


def missing_rows(folder):
    return [
        json.loads(line)
        for line in (folder / "coverage/missing.jsonl").read_text().split("\n")
        if line
    ]


def test_fac_equals_ten_lines_of_pandas(whole):
    folder = whole[0].folder
    before, after = (
        json.loads((folder / "coverage" / f"{name}.json").read_text())
        for name in ("before", "after")
    )
    seed, synthetic = folder / "seed", folder / "synthesize" / "table"
    assert before["fac"] == fac_by_pandas(folder / "anchor", seed)
    assert after["fac"] == fac_by_pandas(folder / "anchor", seed, synthetic)
    assert before["fac"] < after["fac"]


def test_run_leaves_a_manifest_and_a_report(whole):
    result, _ = whole
    manifest = json.loads((result.folder / "manifest.json").read_text())
    assert (manifest["fac_before"], manifest["fac_after"]) == (
        result.before["fac"],
        result.after["fac"],
    )
    assert manifest["tables"]["anchor"]["n_samples"] == len(ANCHOR)
    (page,) = page_data(result.report)
    assert "planted" in page["title"]
    assert any("they always liked" in text for text in page["texts"])
    assert not page["unpainted"]


def test_report_of_a_run_can_be_made_anew(whole, tmp_path):
    report = report_run(whole[0].folder)
    assert report.reading[0] in whole[0].report.read_text()
    assert report.row()["n_samples"]["synthetic"] == whole[0].n_synthetic
    assert report.unpainted  # without --paint


def test_second_run_loads_no_model_and_asks_nobody(whole, run, monkeypatch):
    result, _ = whole
    before = files(result.folder)
    monkeypatch.setattr("facsynth.pipeline.state.load_language_model", None)
    monkeypatch.setattr("facsynth.pipeline.state.load_sae", None)
    again = run(result.folder, ScriptedChat([]))
    assert again == result
    assert files(result.folder) == before


@pytest.mark.parametrize("where", [("chat", 11), *(("rename", n) for n in KILLS)])
def test_killed_run_ends_as_an_undisturbed_one(whole, run, tmp_path, monkeypatch, where):
    kind, n = where
    calls = iter(range(10_000))

    def count():
        if next(calls) == n:
            raise Killed

    with monkeypatch.context() as patch:
        real = os.replace
        if kind == "rename":
            patch.setattr(os, "replace", lambda a, b: (count(), real(a, b), count()))
        first = ScriptedChat(lambda r: (count() if kind == "chat" else None) or obedient(r))
        with pytest.raises(Killed):
            run(tmp_path / "run", first)
    second = ScriptedChat(obedient)
    run(tmp_path / "run", second)
    assert files(tmp_path / "run") == files(whole[0].folder)
    answered = first.history[: -1 if kind == "chat" else None] + second.history
    assert sorted(r.key for r in answered) == sorted(r.key for r in whole[1])


def test_changed_recipe_is_refused_with_what_changed(whole, run, recipe, tmp_path):
    changed = tmp_path / "changed.toml"
    changed.write_text(
        recipe.read_text().replace("max_samples = 6", "max_samples = 7") + "seed.random_seed = 1"
    )
    with pytest.raises(
        MismatchError,
        match="another recipe .seed.random_seed, synthesize.effort.max_samples changed",
    ):
        run(whole[0].folder, path=changed)


def test_setting_that_an_older_version_did_not_write_counts_as_its_default(whole, run, tmp_path):
    shutil.copytree(whole[0].folder, tmp_path / "run")
    path = tmp_path / "run" / "recipe.json"
    stored = json.loads(path.read_text())
    del stored["dtype"], stored["synthesize"]["reply"]
    path.write_text(json.dumps(stored))
    assert run(tmp_path / "run", ScriptedChat([])).after == whole[0].after


@pytest.mark.parametrize(
    "line",
    [
        'seed.source = "nowhere.jsonl"',
        'synthesize.task = "nothing"',
        'synthesize.decontaminate = ["nowhere.jsonl"]',
        'generator.api_base = "nowhere"',
        'sae = "nowhere"',
    ],
)
def test_error_in_a_recipe_is_found_before_a_model_is_loaded(recipe, tmp_path, monkeypatch, line):
    def load(*args, **options):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("facsynth.pipeline.state.load_language_model", load)
    key = line.split(" = ")[0]
    lines = [old for old in recipe.read_text().splitlines() if not old.startswith(f"{key} =")]
    wrong = tmp_path / "wrong.toml"
    wrong.write_text("\n".join([line, *lines]))
    with pytest.raises(FacsynthError, match="no"):
        run_recipe(wrong, tmp_path / "run")


def test_local_model_can_write(recipe, run, tmp_path):
    local = tmp_path / "local.toml"
    model = recipe.parent / "model"
    text = recipe.read_text().replace(
        'generator.chat_model = "scripted"', f'generator.model = "{model}"'
    )
    local.write_text(text + "synthesize.sampling.max_length = 12\nsynthesize.reply = false")
    result = run_recipe(local, tmp_path / "run")
    assert result.after["fac"] >= result.before["fac"]


def test_complete_seed_stays_complete(recipe, run, tmp_path):
    text = recipe.read_text().replace("seed.jsonl", "anchor.jsonl")
    complete = tmp_path / "complete.toml"
    complete.write_text(text)
    result = run(tmp_path / "run", obedient, complete)
    assert (result.n_synthetic, result.before["fac"], result.after["fac"]) == (6, 1.0, 1.0)


def test_run_folder_is_named_after_the_recipe(whole, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(whole[0].folder, "runs/planted")
    assert run(None, ScriptedChat([])).folder == Path("runs") / "planted"


@pytest.mark.parametrize("source", ["chitchat", "questions"])
def test_text_of_the_registry_needs_a_number_of_samples(recipe, run, tmp_path, source):
    path = tmp_path / "few.toml"
    path.write_text(recipe.read_text() + "anchor.random_seed = 3\n")
    path.write_text(path.read_text().replace(str(recipe.parent / "anchor.jsonl"), source))
    with pytest.raises(DataError, match=f"`{source}` of `anchor` needs"):
        run(tmp_path / "run", path=path)
