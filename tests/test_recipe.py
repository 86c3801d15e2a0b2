"""Recipes: what is read, and how a wrong key is named."""

import pytest

from facsynth.errors import DataError
from facsynth.recipe import DataSource, Generator, Recipe, read_recipe
from facsynth.synthesize.candidates import Sampling
from facsynth.synthesize.settings import Budget, SynthesisSettings
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
[synthesize.budget]
max_rounds = 1
[synthesize.sampling]
temperature = 0.5
"""
    assert read(tmp_path, text) == Recipe(
        name="mine",
        anchor=DataSource("a.jsonl", n_samples=5, prompts=("x",)),
        seed=DataSource("b.jsonl"),
        model="m",
        sae="s",
        extract=ExtractSettings(score="user"),
        generator=Generator(chat_model="writer"),
        synthesize=SynthesisSettings(
            threshold=2.0, budget=Budget(max_rounds=1), sampling=Sampling(temperature=0.5)
        ),
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (LEAST + "colour = 1", r"small.toml \[seed\] has the unknown key `colour`; known are sour"),
        ("x = 1\ny = 2\n" + LEAST, r"small.toml has the unknown key `x`, `y`; known are name, "),
        (LEAST + "[synthesize.budget]\nrounds = 1", r"\[synthesize.budget\] has the unknown key"),
        ('[anchor]\nsource = "a"', r"small.toml lacks `seed`"),
        ("[anchor]\n[seed]", r"\[anchor\] lacks `source`"),
        ('seed = "b"\n[anchor]\nsource = "a"', "`seed` is 'b' where a table was expected"),
        (LEAST + 'n_samples = "ten"', r"\[seed\]: `n_samples` is 'ten' where a whole number was"),
        (LEAST + "n_samples = true", "`n_samples` is True where a whole number was expected"),
        (LEAST + 'prompts = "x"', "`prompts` is 'x' where a list of strings was expected"),
        (LEAST + "prompts = [1]", "`prompts` is 1 where a string was expected"),
        (LEAST + "[extract]\nscore = 'users'", "`score` is 'users'; choose one of all, user, ass"),
        (LEAST + "[synthesize]\nmax_overlap = 2", r"\[synthesize\]: max_overlap is a share"),
        (LEAST + "[synthesize]\nthreshold = 'x'", "`threshold` is 'x' where a number was expected"),
        ("anchor = a.jsonl", "small.toml cannot be read as a recipe: .*line 1"),
    ],
)
def test_wrong_recipe_is_named(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        read(tmp_path, text)


def test_missing_and_undecodable_recipes_are_errors(tmp_path):
    with pytest.raises(DataError, match="none.toml cannot be read as a recipe: .*No such file"):
        read_recipe(tmp_path / "none.toml")
    (tmp_path / "latin.toml").write_bytes(b'name = "caf\xe9"')
    with pytest.raises(DataError, match="latin.toml cannot be read as a recipe: .*utf-8"):
        read_recipe(tmp_path / "latin.toml")
