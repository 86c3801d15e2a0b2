"""Published recipes of SAE training: what they set, and what each step does."""

import json
from dataclasses import replace

import click
import pytest
import torch
from click.testing import CliRunner

from facsynth.cli import main
from facsynth.cli.from_settings import settings_options
from facsynth.errors import DataError
from facsynth.sae.files import load_sae
from facsynth.sae.train.settings import RECIPES, TrainSettings, TrainVariant
from facsynth.sae.train.train import train_sae
from facsynth.sae.train.trainer import SaeTrainer
from test_train import random_texts
from tiny import make_model, make_tokenizer, tiny_lm

TINY = {"n_features": 32, "k": 3, "batch_tokens": 100, "group_tokens": 400}


@pytest.fixture
def steps(monkeypatch):
    """Train by a recipe in tiny; the state and the rate after each step, and k during it."""

    def run(name, **changes):
        seen, before = [], SaeTrainer._gradients

        def gradients(self, x, k, n_total):
            found = before(self, x, k, n_total)
            parameters = [t.clone() for t in self.state.parameters().tensors()]
            seen.append({"k": k, "x": x, "before": parameters, "trainer": self})
            return found

        monkeypatch.setattr(SaeTrainer, "_gradients", gradients)
        settings = replace(RECIPES[name], **TINY, **changes)
        return train_sae(tiny_lm(), random_texts(60), layer=1, settings=settings), seen

    return run


def test_the_recipes_hold_the_values_of_paper_and_code():
    paper, authors = RECIPES["paper"], RECIPES["authors"]
    shared = (65_536, 20, 1e-3, 0.0)
    for one in (paper, authors):
        found = (one.n_features, one.k, one.learning_rate, one.dead.dead_weight)
        assert (found, one.variant.schedule, one.variant.initial) == (shared, "constant", "kaiming")
        assert one.variant.tied
    assert (paper.epochs, paper.variant.optimizer, paper.k_start) == (3, "adamw", 1.0)
    assert (authors.epochs, authors.variant.optimizer, authors.k_start) == (5, "adam", 10.0)
    assert authors.k * authors.k_start == 200


def test_k_falls_over_half_of_the_steps_and_the_rate_stays(steps):
    _, seen = steps("authors")
    ks, half = [one["k"] for one in seen], len(seen) // 2
    assert ks[0] == 30
    assert ks[: half + 1] == sorted(ks[: half + 1], reverse=True)
    assert set(ks[half + 1 :]) == {3}
    assert ks[half // 2] > 12
    assert seen[-1]["trainer"].optimizer.param_groups[0]["lr"] == 1e-3


def test_the_paper_keeps_k_and_both_keep_one_matrix(steps):
    for name in RECIPES:
        sae, seen = steps(name, epochs=1)
        encoder, _, decoder, _ = seen[-1]["trainer"].state.parameters().tensors()
        assert torch.equal(encoder, decoder)
        direction = torch.nn.functional.cosine_similarity(sae.W_enc.T, sae.W_dec)
        torch.testing.assert_close(direction, torch.ones(32))
    assert {one["k"] for one in steps("paper", epochs=1)[1]} == {3}


@pytest.mark.parametrize("name", RECIPES)
def test_a_step_is_that_of_torch_on_the_tied_formula(steps, name):
    """Of the first step, where Adam's moments are still empty."""
    _, (first, second, *_) = steps(name, epochs=1)
    w, b, _, c = (t.clone().requires_grad_() for t in first["before"])
    scores = (first["x"] - c) @ w.T + b
    kept = torch.zeros_like(scores).scatter(1, scores.topk(first["k"]).indices, 1.0)
    loss = ((scores.relu() * kept) @ w + c - first["x"]).square().mean()
    make = {"paper": torch.optim.AdamW, "authors": torch.optim.Adam}[name]
    step = make([w, b, c], lr=1e-3, eps=RECIPES[name].variant.adam_eps)
    loss.backward()
    step.step()
    for mine, theirs in zip((w, b, w, c), second["before"], strict=True):
        torch.testing.assert_close(theirs, mine.detach(), atol=1e-5, rtol=1e-4)


def test_a_frozen_decoder_keeps_its_first_directions_and_the_encoder_learns():
    learned, frozen = TrainVariant(), TrainVariant(frozen=True)
    trained = {
        v: train_sae(
            tiny_lm(), random_texts(60), layer=1, settings=TrainSettings(**TINY, variant=v)
        )
        for v in (learned, frozen)
    }
    first = TrainSettings(**TINY, learning_rate=1e-12, variant=learned)
    start = train_sae(tiny_lm(), random_texts(60), layer=1, settings=first)
    assert torch.allclose(unit(trained[frozen].W_dec), unit(start.W_dec), atol=1e-6)
    assert not torch.allclose(unit(trained[learned].W_dec), unit(start.W_dec), atol=0.01)
    assert not torch.allclose(trained[frozen].W_enc, start.W_enc, atol=0.01)


def unit(rows):
    return torch.nn.functional.normalize(rows, dim=1)


def test_a_tied_decoder_cannot_be_frozen():
    with pytest.raises(DataError, match="choose one"):
        TrainVariant(tied=True, frozen=True)


def test_first_weights_are_kaimings(steps):
    weights = steps("paper", epochs=1)[1][0]["before"][0]
    bound = (6 / weights.shape[1]) ** 0.5
    assert 0.95 * bound < float(weights.abs().max()) <= bound


def test_options_that_are_given_win_over_the_recipe(tmp_path):
    make_model().save_pretrained(tmp_path / "model")
    make_tokenizer().save_pretrained(tmp_path / "model")
    rows = [{"text": f"the cat sat on the mat {i} and saw a red ball"} for i in range(60)]
    data = tmp_path / "a.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["--layer", "1", "-o", tmp_path / "sae", "--model", tmp_path / "model"]
    words += ["--recipe", "authors", "--n-features", "32", "--k", "3", "--batch-tokens", "100"]
    words += ["--group-tokens", "1000", "--epochs", "1"]
    done = CliRunner().invoke(main, ["sae", "train", str(data), *map(str, words)])
    assert done.exit_code == 0, done.output
    told = load_sae(str(tmp_path / "sae")).config.metadata["facsynth_training"]
    assert (told["epochs"], told["n_features"], told["k"]) == (1, 32, 3)
    assert told["learning_rate"] == 1e-3
    assert told["variant"] == vars(RECIPES["authors"].variant)


@pytest.mark.parametrize("words", [["--k", "7", "--recipe", "paper"], ["--recipe", "paper"]])
def test_a_preset_fills_what_is_not_given(words):
    @click.command()
    @settings_options(TrainSettings, "settings", presets=RECIPES)
    def told(settings):
        click.echo(f"{settings.k} {settings.n_features} {settings.variant.optimizer}")

    k = 7 if "--k" in words else 20
    assert CliRunner().invoke(told, words).output == f"{k} 65536 adamw\n"
    assert CliRunner().invoke(told, []).output == "32 4096 adam\n"


def test_a_share_of_steps_beyond_all_is_refused():
    with pytest.raises(DataError, match="k_until"):
        TrainVariant(k_until=1.5)
