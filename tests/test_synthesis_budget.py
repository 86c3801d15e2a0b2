"""Limits and secrets of a whole run, on the planted pair."""

from contextlib import redirect_stderr, redirect_stdout
from io import StringIO

import pytest

from facsynth.chat.ask import ask
from facsynth.chat.budget import Spending
from facsynth.chat.scripted import ScriptedChat
from facsynth.chat.settings import Generator, Policy
from facsynth.pipeline import load_generator, run_recipe
from test_chat_budget import many
from test_pipeline import write_world
from tiny_pair import obedient, planted_pair

SECRET = "sk-" + "never-written-down-0123456789"


def run_with(recipe, folder, patch, limits=""):
    """Run the recipe with these limits; what was asked."""
    chat = ScriptedChat(obedient)
    patch.setattr("facsynth.chat.endpoint.EndpointChat", lambda *args, **options: chat)
    path = recipe.with_name("limited.toml")
    path.write_text(f"{recipe.read_text()}\n[generator.policy]\n{limits}\n", encoding="utf-8")
    return run_recipe(path, folder), chat.history


@pytest.fixture(scope="module")
def recipe(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FACSYNTH_CACHE", str(tmp_path_factory.mktemp("cache")))
        yield write_world(tmp_path_factory.mktemp("limited"))


@pytest.fixture(scope="module")
def whole(recipe, tmp_path_factory):
    """A run without limits, with a key in the environment: result, requests and what it printed."""
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(StringIO()) as out:
        patch.setenv("FACSYNTH_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("OPENAI_API_KEY", SECRET)
        with redirect_stderr(out):
            result, every = run_with(recipe, tmp_path_factory.mktemp("whole") / "run", patch)
    return result, every, out.getvalue()


def test_run_that_the_budget_ended_goes_on_to_the_end_of_an_unlimited_one(
    recipe, whole, tmp_path, monkeypatch
):
    cut, first = run_with(recipe, tmp_path / "a", monkeypatch, "budget_calls = 6")
    assert len(first) == 6
    assert cut.report.is_file()
    done, second = run_with(recipe, tmp_path / "a", monkeypatch, "budget_calls = 600")
    expected, every, _ = whole
    assert sorted(r.key for r in first + second) == sorted(r.key for r in every)
    assert (done.after, done.n_synthetic) == (expected.after, expected.n_synthetic)
    name = "synthesize/synthetic.jsonl"
    assert (tmp_path / "a" / name).read_bytes() == (expected.folder / name).read_bytes()


def test_key_is_in_no_file_of_a_run(whole):
    result, _, printed = whole
    files = [path for path in result.folder.rglob("*") if path.is_file()]
    assert len(files) > 10
    assert [path.name for path in files if SECRET.encode() in path.read_bytes()] == []
    assert SECRET not in printed


def test_limits_of_earlier_runs_count(tmp_path, monkeypatch):
    chat = ScriptedChat("ok")
    monkeypatch.setattr("facsynth.chat.endpoint.EndpointChat", lambda *args, **options: chat)
    lm, _ = planted_pair()
    for n_before in (1, 2):
        spending = Spending(Policy(budget_calls=2), tmp_path / "replies.sqlite")
        model = load_generator(Generator(chat_model="m"), lambda: lm, spending)
        done = ask(model, many(n_before + 1), what="texts")
    assert [outcome is not None for outcome in done.outcomes] == [True, True, False]
