"""`fac sae`, and the mistakes that are found before a model's weights are loaded."""

import json
import re
import subprocess
import sys

import pytest
from click.testing import CliRunner

from facsynth.cli import main
from facsynth.data.write import sample_row, write_jsonl
from facsynth.sae.files import load_sae, save_sae
from tiny import random_sae
from tiny_pair import PLANTED, planted_sae, save_pair, talk


def fac(*words):
    return CliRunner().invoke(main, [str(word) for word in words])


def error(*words):
    done = fac(*words)
    assert done.exit_code != 0
    return done.stderr.splitlines()[-1]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a model, its SAE and some text."""
    monkeypatch.setenv("FACSYNTH_CACHE", str(tmp_path / "cache"))
    save_pair(tmp_path)
    talks = (talk(f"t{i}", f"we saw some old {word} on my road") for i, word in enumerate(PLANTED))
    write_jsonl(map(sample_row, talks), tmp_path / "text.jsonl")
    return tmp_path


@pytest.fixture
def no_weights(monkeypatch):
    """Fails the test if the weights of a model are loaded."""
    loader = "facsynth.cli.load.load_model"
    monkeypatch.setattr(loader, lambda *a, **k: pytest.fail("loaded"))


def test_a_trained_sae_can_be_evaluated(place):
    small = ("--n-features", 8, "--k", 2, "--batch-tokens", 16, "--epochs", 1)
    pair = (place / "text.jsonl", "--model", place / "model")
    trained = fac("sae", "train", *pair, "--layer", 0, "-o", place / "new", *small)
    assert trained.exit_code == 0, trained.output
    assert load_sae(place / "new").config.k == 2
    row = json.loads(fac("sae", "evaluate", place / "new", *pair, "--json").stdout)
    assert row["n_tokens"] == 64
    assert "Quality of the SAE" in fac("sae", "evaluate", place / "new", *pair).stdout


def test_a_random_control_has_the_shape_of_its_sae(place):
    assert fac("sae", "random", place / "sae", "-o", place / "control").exit_code == 0
    assert load_sae(place / "control").W_enc.shape == planted_sae().W_enc.shape


def test_settings_that_do_not_fit_are_a_usage_error(place):
    done = fac("sae", "train", place / "text.jsonl", "--layer", 0, "-o", place / "x", "--k", 0)
    assert done.exit_code == 2
    assert "k must lie between" in done.stderr


@pytest.mark.parametrize(
    "command",
    [("extract", "DATA", "-o", "OUT", "--sae", "SAE"), ("sae", "evaluate", "SAE", "DATA")],
)
@pytest.mark.parametrize(
    ("sae", "message"),
    [("missing", "does not exist"), ("narrow", "reads vectors of width 16"), ("deep", "not 7")],
)
@pytest.mark.usefixtures("no_weights")
def test_an_sae_that_does_not_fit_is_found_before_the_weights_are_loaded(
    place, command, sae, message
):
    save_sae(random_sae(), place / "narrow")
    save_sae(planted_sae(layer=7), place / "deep")
    names = {"DATA": place / "text.jsonl", "OUT": place / "out", "SAE": place / sae}
    assert message in error(*(names.get(w, w) for w in command), "--model", place / "model")


@pytest.mark.usefixtures("no_weights")
def test_a_layer_that_the_model_lacks_is_found_before_its_weights_are_loaded(place):
    train = ("sae", "train", place / "text.jsonl", "--layer", 2, "-o", place / "new")
    assert "has the layers 0 to 1, not 2" in error(*train, "--model", place / "model")


@pytest.mark.usefixtures("no_weights")
def test_an_unknown_device_is_found_before_the_weights_are_loaded(place):
    pair = ("--model", place / "model", "--sae", place / "sae", "--device", "abacus")
    assert "'abacus' cannot be used" in error("extract", place / "text.jsonl", "-o", "x", *pair)


MISTAKES = """
import sys
from facsynth.cli import main
for command in sys.argv[1:]:
    try:
        main(command.split(), standalone_mode=False)
    except Exception as error:
        print(type(error).__name__, error, "torch" in sys.modules)
"""


def test_a_missing_path_is_found_before_torch_is_loaded(place):
    text, model = place / "text.jsonl", f"--model {place / 'model'}"
    commands = (
        f"extract {text} -o x --sae no {model}",
        f"sae evaluate no {text} {model}",
        f"sae train no --layer 0 -o x {model}",
    )
    run = subprocess.run(
        [sys.executable, "-c", MISTAKES, *commands], capture_output=True, text=True
    )
    found = [re.match(r"ClickException.*\bno\b.* False$", line) for line in run.stdout.splitlines()]
    assert len(found) == 3
    assert all(found), run.stdout
