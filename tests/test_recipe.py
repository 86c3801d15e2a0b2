"""Recipes: what is read, and how a wrong key is named."""

import json

import pytest

from facsynth.chat.settings import Generator
from facsynth.coverage.settings import CoverageSettings
from facsynth.errors import DataError
from facsynth.recipe import DataSource, Recipe, read_recipe
from facsynth.synthesize.settings import Effort, Sampling, SynthesisSettings
from facsynth.table.settings import ExtractSettings

LEAST = '[anchor]\nsource = "a.jsonl"\n[seed]\nsource = "b.jsonl"\n'


def read(tmp_path, text, name="small.toml"):
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    return read_recipe(path)


def test_least_recipe_takes_all_defaults(tmp_path):
    assert read(tmp_path, LEAST) == Recipe("small", DataSource("a.jsonl"), DataSource("b.jsonl"))


def test_every_table_is_read(tmp_path):
    text = f"""
name = "mine"
model = "m"
sae = "s"
{LEAST.replace("[seed]", 'n_samples = 5{nl}prompts = ["x"]{nl}[seed]'.format(nl=chr(10)))}
[extract]
score = "user"
[generator]
chat_model = "writer"
[synthesize]
threshold = 2
[synthesize.effort]
round_size = 5
[synthesize.sampling]
temperature = 0.5
"""
    assert read(tmp_path, text) == Recipe(
        name="mine",
        anchor=DataSource("a.jsonl", n_samples=5, prompts=("x",)),
        seed=DataSource("b.jsonl"),
        model="m",
        sae="s",
        threshold=2.0,
        coverage=CoverageSettings(threshold=2.0),
        extract=ExtractSettings(score="user"),
        generator=Generator(chat_model="writer"),
        synthesize=SynthesisSettings(
            threshold=2.0, effort=Effort(round_size=5), sampling=Sampling(temperature=0.5)
        ),
    )


def test_sources_take_several_files_and_how_they_are_read(tmp_path):
    rows = '{"wish": "tea", "id": "%s"}\n'
    (tmp_path / "a.jsonl").write_text(rows % "a")
    (tmp_path / "b.jsonl").write_text(rows % "b" + rows % "c")
    names = [str(tmp_path / name) for name in ("a.jsonl", "b.jsonl")]
    text = LEAST.replace('"b.jsonl"', json.dumps(names)) + 'fields = "text=wish"\n'
    recipe = read(tmp_path, text)
    assert [sample.sample_id for sample in recipe.seed.read()] == ["a", "b", "c"]


def test_without_a_threshold_later_stages_take_that_of_the_first_coverage(tmp_path):
    recipe = read(tmp_path, LEAST)
    assert (recipe.coverage.threshold, recipe.synthesize.threshold) == (None, None)
    settled = recipe.at(3.5)
    assert (settled.coverage.threshold, settled.written_above) == (3.5, 3.5)
    assert read(tmp_path, f"threshold = 2.0\n{LEAST}").at(3.5).written_above == 2.0


def test_one_threshold_counts_for_every_stage_without_its_own(tmp_path):
    stages = "[relevance]\nlabel = 'x'\n[explain]\n[explain.evidence]\nthreshold = 3.0\n"
    recipe = read(tmp_path, f"threshold = 2.0\n{LEAST}{stages}")
    assert (recipe.synthesize.threshold, recipe.coverage.threshold) == (2.0, 2.0)
    assert (recipe.relevance.threshold, recipe.explain.evidence.threshold) == (2.0, 3.0)
    recipe = read(tmp_path, f"{LEAST}[synthesize]\nthreshold = 4.0\n{stages}")
    assert (recipe.threshold, recipe.relevance.threshold) == (4.0, 4.0)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LEAST + "colour = 1", "small.toml: unknown key `seed.colour`"),
        ("x = 1\ny = 2\n" + LEAST, "unknown key `x`; .* unknown key `y`; "),
        (LEAST + "[synthesize.effort]\nround_sizes = 1", "did you mean `round_size`"),
        (LEAST + "[generator.policy]\nbudget_call = 1", "did you mean `budget_calls`"),
        (LEAST + "[extract]\nscores = 'all'", "did you mean `score`"),
        (LEAST + "[export]\nformat = 'hf'", "did you mean `formats`"),
        ('[anchor]\nsource = "a"', "the key `seed` is missing"),
        ("[anchor]\n[seed]", "the key `anchor.source` is missing"),
        ('seed = "b"\n[anchor]\nsource = "a"', '`seed` is "b"; '),
        (LEAST + 'n_samples = "ten"', '`seed.n_samples` is "ten"; input should be a valid integer'),
        (LEAST + "n_samples = true", "`seed.n_samples` is true; input should be a valid integer"),
        (LEAST + "prompts = [1]", "is 1; input should be a valid string"),
        (LEAST + "[synthesize]\nmax_overlap = 2", "max_overlap is a share"),
        (LEAST + "[synthesize]\nthreshold = -1", "threshold is -1"),
        (LEAST.replace("b.jsonl", "chitchat"), "`chitchat` of `seed` needs n_samples"),
        (LEAST + "[relevance]\ntask = 'toxicity'", "sees explanations; add a table .explain."),
        (LEAST + "[select]\npool = 'all'", "the key `select.budget` is missing"),
        (LEAST + "[task]\nname = 'maths'\ntest = 't'", '`task.name` is "maths"'),
        ("anchor = a.jsonl", "small.toml cannot be read as a recipe: .*line 1"),
    ],
)
def test_wrong_recipe_is_named(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        read(tmp_path, text)


def test_missing_and_undecodable_recipes_are_errors(tmp_path):
    with pytest.raises(DataError, match="none.toml cannot be read as a recipe: it is missing"):
        read_recipe(tmp_path / "none.toml")
    (tmp_path / "latin.toml").write_bytes(b'name = "caf\xe9"')
    with pytest.raises(DataError, match="latin.toml cannot be read as a recipe: .*utf-8"):
        read_recipe(tmp_path / "latin.toml")
