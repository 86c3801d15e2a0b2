"""The recipes of the paper, the printed example, and the schema for editors."""

import json
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner

from facsynth.cli import main
from facsynth.pipeline import run_stand_in
from facsynth.recipe import Recipe, read_recipe
from facsynth.settings import read_settings

RECIPES = Path(__file__).resolve().parents[1] / "recipes"
PAPER = sorted(path.stem for path in (RECIPES / "paper").glob("*.toml"))

SHORT = ("reward", "toxicity")
"""Recipes that CI walks through."""
CHOSEN = [n if n in SHORT else pytest.param(n, marks=pytest.mark.long) for n in PAPER]

PLACEHOLDERS = ("= 1", "= 1.0", '= "…"')
"""Ends of lines of the example for what has no default."""


def example():
    return CliRunner().invoke(main, ["run", "--example"]).output


def test_there_is_a_recipe_for_each_task_of_the_paper():
    assert PAPER == ["instruction", "reward", "survival", "sycophancy", "toxicity"]


@pytest.mark.parametrize("name", PAPER)
def test_recipe_of_the_paper_spells_out_what_its_experiment_needs(name):
    recipe = read_recipe(RECIPES / "paper" / f"{name}.toml")
    assert recipe.model == "meta-llama/Llama-3.1-8B-Instruct"
    assert recipe.sae == "Zhongzhi1228/sae_llama_l16_h65536"
    assert (recipe.threshold, recipe.relevance.threshold, recipe.extract.gate) == (0, 0, "relu")
    assert (recipe.relevance.task, recipe.synthesize.task) == (name, name)
    assert recipe.synthesize.method == "paper"
    assert recipe.judge.chat_model == "gpt-4o-mini-2024-07-18"
    assert recipe.task.arms == ("synthetic",)


@pytest.mark.slow
@pytest.mark.parametrize("name", CHOSEN)
def test_recipe_of_the_paper_walks_through_on_stand_ins(name, tmp_path):
    path = RECIPES / "paper" / f"{name}.toml"
    result = run_stand_in(path, tmp_path / "run")
    assert result.n_synthetic > 0
    assert result.after["n_covered"] > result.before["n_covered"]
    assert list(result.task) == ["synthetic"]
    assert result.exported
    assert result.report.is_file()


def test_example_is_a_recipe_with_every_key_in_it():
    text = example()
    recipe = read_settings(Recipe, tomllib.loads(text), "example")
    assert (recipe.anchor.source, recipe.explain) == ("anchor.jsonl", None)
    for line in ("#[explain.evidence]", "#[task.toxicity.train.optimizer]", "#near_misses = 15"):
        assert f"\n{line}\n" in text
    assert "\n# Activation above which a sample shows the feature, in SAE units; by" in text


def test_defaults_of_the_example_are_those_of_the_records():
    """With every default written out, the recipe is the one without any of them."""
    shown = [line for line in example().split("\n") if not line.startswith("# ")]
    chosen = []
    table = True
    for line in shown:
        if line.startswith(("[", "#[")):
            table = line.strip("#[]").split(".")[0] in ("extract", "synthesize")
            chosen += [line.removeprefix("#")] if table else []
        elif table and not line.endswith(PLACEHOLDERS):
            chosen.append(line.removeprefix("#"))
    written = tomllib.loads("\n".join(chosen))
    plain = {"name": "mine", "anchor": {"source": "a"}, "seed": {"source": "b"}}
    tables = {name: written[name] for name in ("extract", "synthesize")}
    assert read_settings(Recipe, plain | tables, "all") == read_settings(Recipe, plain, "least")


def test_schema_has_every_key_with_its_explanation():
    schema = json.loads((RECIPES.parent / "docs" / "recipe.schema.json").read_text())
    assert schema["required"] == ["anchor", "seed"]
    inner = schema["$defs"]["EvidenceSettings"]
    assert inner["properties"]["spans"]["description"].startswith("Spans shown per feature")
    assert inner["additionalProperties"] is False
