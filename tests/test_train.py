"""Training: what it learns, how it goes on after a kill, and what it folds into the weights."""

import json
import re
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open

from facsynth.errors import DataError, MismatchError, ModelError
from facsynth.models.residual import read_residual
from facsynth.progress import Silent
from facsynth.records import Sample
from facsynth.sae.train import data as train_data
from facsynth.sae.train import trainer
from facsynth.sae.train.data import plan_groups
from facsynth.sae.train.settings import DeadFeatures, TrainSettings
from facsynth.sae.train.state import CHECKPOINT_FILE
from facsynth.sae.train.train import split_holdout, train_sae
from tiny import D_MODEL, tiny_lm, tokenized

SMALL = TrainSettings(
    n_features=32,
    k=3,
    epochs=2,
    batch_tokens=64,
    group_tokens=200,
    dead=DeadFeatures(dead_after=500),
    random_seed=1,
)


def random_texts(n_texts=40, seed=0):
    """Texts of many lengths with some tokens not scored, about 500 scored tokens in all."""
    rng = np.random.default_rng(seed)
    lengths = rng.integers(2, 25, n_texts)
    return [tokenized(rng.integers(3, 300, n), rng.random(n) < 0.9) for n in lengths]


def scored_residual(lm, texts, layer=1):
    parts = [read_residual(lm, [t.input_ids], layer)[0][torch.from_numpy(t.scored)] for t in texts]
    return torch.cat(parts)


def explained_variance(sae, x):
    return float(1 - (x - sae.reconstruct(x)).square().sum() / (x - x.mean(0)).square().sum())


def read_checkpoint(folder):
    with safe_open(folder / CHECKPOINT_FILE, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        return tensors, json.loads(file.metadata()["state"])


class KilledAfter(Silent):
    """Progress that is interrupted once so many tokens have been used."""

    def __init__(self, n_tokens):
        self.left = n_tokens

    def task(self, name, total, unit):
        return self

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def advance(self, n=1, note=""):
        self.left -= n
        if self.left < 0:
            raise KeyboardInterrupt


@pytest.fixture
def planted(monkeypatch):
    """A dictionary, tokens that each hold two of its directions, and texts that read them."""
    return plant(monkeypatch, counts=[2])


def plant(monkeypatch, *, counts):
    """Tokens that hold, in turn, so many directions of a dictionary."""
    rng = np.random.default_rng(0)
    directions = rng.standard_normal((24, D_MODEL))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    codes = np.zeros((12_000, 24))
    chosen = rng.random(codes.shape).argsort(1)[:, : max(counts)]
    strengths = rng.uniform(1, 2, chosen.shape)
    strengths[np.arange(max(counts)) >= np.resize(counts, len(codes))[:, None]] = 0
    np.put_along_axis(codes, chosen, strengths, axis=1)
    tokens = torch.from_numpy(codes @ directions + 5).float()

    def read(lm, rows, layer):
        padded = [np.pad(row, (0, 100 - len(row))) for row in rows]
        return tokens[torch.from_numpy(np.stack(padded)).long()]

    monkeypatch.setattr(train_data, "read_residual", read)
    texts = [tokenized(range(i, i + 100)) for i in range(0, len(tokens), 100)]
    return torch.from_numpy(directions).float(), tokens, texts


def test_a_planted_dictionary_is_recovered(planted):
    directions, tokens, texts = planted
    options = TrainSettings(
        n_features=48,
        k=2,
        epochs=6,
        batch_tokens=200,
        learning_rate=1e-2,
        dead=DeadFeatures(dead_after=5_000),
        group_tokens=20_000,
    )
    sae = train_sae(tiny_lm(), texts, layer=1, settings=options)
    learned = sae.W_dec / sae.W_dec.norm(dim=1, keepdim=True)
    cosine = (directions @ learned.T).max(1).values
    assert cosine.mean() > 0.95
    assert explained_variance(sae, tokens) > 0.9


@pytest.mark.slow
def test_explained_variance_rises_with_training(planted):
    _, tokens, texts = planted
    short = replace(SMALL, epochs=1, group_tokens=20_000)
    scores = [
        explained_variance(train_sae(tiny_lm(), texts, layer=1, settings=options), tokens)
        for options in (replace(short, batch_tokens=12_000), short, replace(short, epochs=4))
    ]
    assert scores == sorted(scores)
    assert scores[0] + 0.2 < scores[-1] <= 1


def test_a_model_s_residual_stream_is_explained():
    texts = random_texts(100)
    options = replace(SMALL, n_features=64, k=8, epochs=6, learning_rate=1e-2)
    sae = train_sae(tiny_lm(), texts, layer=1, settings=options)
    assert explained_variance(sae, scored_residual(tiny_lm(), texts)) > 0.6
    assert sae.config.model_hash == "llama"
    assert sae.config.metadata["training_tokens"] == 6 * sum(t.n_scored for t in texts)


@pytest.mark.parametrize("change", [{"encoder_norm": 0.0}, {"k_start": 0.5}])
def test_a_start_that_cannot_learn_is_refused(change):
    with pytest.raises(DataError, match="encoder_norm"):
        replace(SMALL, **change)


def test_batch_wide_choice_ends_in_a_threshold_that_keeps_k_on_average(planted):
    _, tokens, texts = planted
    options = TrainSettings(
        architecture="batchtopk",
        n_features=48,
        k=3,
        epochs=6,
        batch_tokens=400,
        learning_rate=5e-3,
        dead=DeadFeatures(dead_after=5_000),
        group_tokens=20_000,
    )
    sae = train_sae(tiny_lm(), texts, layer=1, settings=options)
    assert (sae.config.architecture, sae.config.k) == ("jumprelu", None)
    assert (sae.encode(tokens) > 0).sum(1).float().mean() == pytest.approx(3, rel=0.1)
    assert len(sae.threshold.unique()) == 1
    assert explained_variance(sae, tokens) > 0.9


@pytest.mark.slow
def test_batch_wide_choice_explains_more_where_tokens_need_different_numbers(monkeypatch):
    _, tokens, texts = plant(monkeypatch, counts=[0, 1, 2, 3, 4])
    options = TrainSettings(
        n_features=48, k=2, epochs=9, batch_tokens=400, learning_rate=5e-3, group_tokens=20_000
    )
    topk, batchtopk = (
        explained_variance(train_sae(tiny_lm(), texts, layer=1, settings=setting), tokens)
        for setting in (options, replace(options, architecture="batchtopk"))
    )
    assert batchtopk > topk + 0.03


@pytest.mark.parametrize(
    "changes",
    [{}, {"memory_gb": 0.0}, {"architecture": "batchtopk"}],
    ids=["kept", "read again", "batchtopk"],
)
@pytest.mark.parametrize("share", [0.2, 0.6, 0.9])
def test_a_run_that_was_killed_ends_with_the_same_weights(tmp_path, changes, share):
    texts, options = random_texts(), replace(SMALL, **changes)
    whole = train_sae(tiny_lm(), texts, layer=1, settings=options)
    run = {"layer": 1, "settings": options, "checkpoints": tmp_path}
    total = options.epochs * sum(text.n_scored for text in texts)
    with pytest.raises(KeyboardInterrupt):
        train_sae(tiny_lm(), texts, progress=KilledAfter(int(share * total)), **run)
    resumed = train_sae(tiny_lm(), texts, **run)
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, resumed.state_dict()[name]), name


def test_a_run_that_goes_on_reads_the_texts_in_the_same_batches(tmp_path, monkeypatch):
    """Since rounding depends on what else is in a batch."""
    batches, texts, total = [], random_texts(), 2 * sum(t.n_scored for t in random_texts())

    def read(lm, rows, layer):
        batches.append([row.tolist() for row in rows])
        return read_residual(lm, rows, layer)

    monkeypatch.setattr(train_data, "read_residual", read)
    run = {"layer": 1, "settings": SMALL, "checkpoints": tmp_path}
    train_sae(tiny_lm(), texts, layer=1, settings=SMALL)
    uninterrupted = batches.copy()
    with pytest.raises(KeyboardInterrupt):
        train_sae(tiny_lm(), texts, progress=KilledAfter(int(0.9 * total)), **run)
    batches.clear()
    train_sae(tiny_lm(), texts, **run)
    assert batches
    assert all(batch in uninterrupted for batch in batches)


def test_a_finished_run_is_not_trained_again(tmp_path, monkeypatch):
    run = {"layer": 1, "settings": SMALL, "checkpoints": tmp_path}
    first = train_sae(tiny_lm(), random_texts(), **run)
    monkeypatch.delattr(trainer, "topk_gradients")
    assert torch.equal(train_sae(tiny_lm(), random_texts(), **run).W_enc, first.W_enc)


def test_reading_the_model_tells_how_far_it_is():
    notes = []

    class Noting(Silent):
        @contextmanager
        def task(self, name, total, unit):
            yield SimpleNamespace(advance=lambda n=1, note="": notes.append(note))

    train_sae(tiny_lm(), random_texts(), layer=1, settings=SMALL, progress=Noting())
    assert any(re.match(r"reading the model, 0 of \d+ tokens$", note) for note in notes)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"settings": replace(SMALL, learning_rate=2e-3)}, r"learning_rate \(0.004, now 0.002\);"),
        ({"layer": 2}, r"layer \(1, now 2\);"),
        ({"texts": random_texts(39)}, "texts;"),
        ({"texts": random_texts()[::-1]}, "texts;"),
        ({"lm": replace(tiny_lm(), content_hash="other")}, "model;"),
    ],
    ids=["settings", "layer", "texts", "order", "model"],
)
def test_a_checkpoint_of_another_run_is_refused(tmp_path, changes, named):
    run = {"lm": tiny_lm(), "texts": random_texts(), "layer": 1, "settings": SMALL}
    train_sae(**run, checkpoints=tmp_path)
    with pytest.raises(MismatchError, match=f"belongs to another run, which differs in {named}"):
        train_sae(**{**run, **changes}, checkpoints=tmp_path)


def test_the_result_depends_on_the_seed_alone():
    runs = [
        train_sae(tiny_lm(), random_texts(), layer=1, settings=replace(SMALL, random_seed=seed))
        for seed in (1, 1, 2)
    ]
    assert torch.equal(runs[0].W_enc, runs[1].W_enc)
    assert not torch.equal(runs[0].W_enc, runs[2].W_enc)


def test_centring_and_scaling_are_folded_into_the_weights(tmp_path):
    texts = random_texts()
    sae = train_sae(tiny_lm(), texts, layer=1, settings=SMALL, checkpoints=tmp_path)
    inner, facts = read_checkpoint(tmp_path)
    x = scored_residual(tiny_lm(), texts)
    normalised = (x - inner["mean"]) * facts["scale"] - inner["decoder_bias"]
    pre = normalised @ inner["encoder"].T + inner["encoder_bias"]
    values, ids = pre.topk(3, dim=1)
    z = torch.zeros_like(pre).scatter(1, ids, values.relu())
    torch.testing.assert_close(sae.encode(x), z, atol=1e-4, rtol=1e-4)
    rebuilt = (z @ inner["decoder"] + inner["decoder_bias"]) / facts["scale"] + inner["mean"]
    torch.testing.assert_close(sae.reconstruct(x), rebuilt, atol=1e-4, rtol=1e-4)


def test_decoder_rows_have_unit_norm_before_folding(tmp_path):
    train_sae(tiny_lm(), random_texts(), layer=1, settings=SMALL, checkpoints=tmp_path)
    torch.testing.assert_close(read_checkpoint(tmp_path)[0]["decoder"].norm(dim=1), torch.ones(32))


def test_the_input_is_scaled_to_a_median_norm_of_root_d(tmp_path):
    texts, options = random_texts(), replace(SMALL, group_tokens=10_000)
    train_sae(tiny_lm(), texts, layer=1, settings=options, checkpoints=tmp_path)
    inner, facts = read_checkpoint(tmp_path)
    x = scored_residual(tiny_lm(), texts)
    torch.testing.assert_close(inner["mean"], x.mean(0), atol=1e-2, rtol=1e-2)
    assert float((x - x.mean(0)).norm(dim=1).median()) * facts["scale"] == pytest.approx(4, 1e-2)


def test_tokens_with_a_huge_norm_are_left_out(planted, monkeypatch, tmp_path):
    _, tokens, texts = planted
    tokens[::50] *= 1000
    seen, step = [], trainer.topk_gradients
    monkeypatch.setattr(
        trainer,
        "topk_gradients",
        lambda x, *args, **options: seen.append(x) or step(x, *args, **options),
    )
    options = replace(SMALL, epochs=1, group_tokens=20_000)
    train_sae(tiny_lm(), texts, layer=1, settings=options, checkpoints=tmp_path)
    assert torch.cat(seen).norm(dim=1).max() < 10 * D_MODEL**0.5
    assert sum(map(len, seen)) == pytest.approx(12_000 * 49 / 50, abs=64)
    usual = tokens[torch.arange(12_000) % 50 > 0].mean(0)
    torch.testing.assert_close(read_checkpoint(tmp_path)[0]["mean"], usual, atol=0.05, rtol=0)


def test_a_text_longer_than_a_group_is_trained_on():
    texts = [tokenized(range(3, 13)), tokenized(list(range(3, 203)))]
    for seed in range(4):
        options = replace(SMALL, batch_tokens=20, group_tokens=70, random_seed=seed)
        assert train_sae(tiny_lm(), texts, layer=1, settings=options).W_enc.isfinite().all()


@settings(deadline=None)
@given(st.lists(st.integers(0, 50), min_size=1, max_size=30), st.integers(64, 300))
def test_each_epoch_reads_every_scored_text_once(counts, group_tokens):
    texts = [tokenized([5] * n) for n in [*counts, 64]]
    options = replace(SMALL, epochs=3, group_tokens=group_tokens)
    groups = plan_groups(texts, options)
    assert sorted(i for group in groups for i in group) == sorted(list(range(len(texts))) * 3)
    assert all(sum(texts[i].n_scored for i in group) > 0 for group in groups)


def test_too_little_text_is_refused():
    with pytest.raises(DataError, match="have 10 scored tokens, fewer than one batch of 64; add"):
        train_sae(tiny_lm(), [tokenized(range(3, 13))], layer=1, settings=SMALL)


def test_a_layer_that_the_model_lacks_is_refused():
    with pytest.raises(ModelError, match="has the layers 0 to 2, not 3"):
        train_sae(tiny_lm(), random_texts(), layer=3, settings=SMALL)


@pytest.mark.parametrize(
    "values",
    [
        {"k": 0},
        {"k": 33},
        {"epochs": 0},
        {"batch_tokens": 0},
        {"group_tokens": 63},
    ],
)
def test_settings_outside_their_range_are_refused(values):
    with pytest.raises(DataError, match=str(*values.values())):
        replace(SMALL, **values)


@settings(deadline=None)
@given(st.sets(st.text(max_size=6), max_size=30), st.sets(st.text(max_size=6)), st.randoms())
def test_the_holdout_does_not_depend_on_order_or_company(ids, more, rng):
    samples = [Sample(i, text=i) for i in sorted(ids)]
    shuffled = [Sample(i, text=i) for i in ids | more]
    rng.shuffle(shuffled)
    used, held = split_holdout(samples, share=0.5)
    assert [s for s in samples if s in held] == held
    assert {s.sample_id for s in split_holdout(shuffled, share=0.5)[1]} & ids == {
        s.sample_id for s in held
    }
    assert {s.sample_id for s in used + held} == ids


def test_the_holdout_has_about_the_share_that_was_asked_for():
    samples = [Sample(f"s{i}", text="") for i in range(5000)]
    assert len(split_holdout(samples, share=0.1)[1]) == pytest.approx(500, abs=80)
    assert split_holdout(samples, share=0.0)[1] == []


@pytest.mark.parametrize("share", [-0.1, 1.0])
def test_a_holdout_outside_its_range_is_refused(share):
    with pytest.raises(DataError, match=f"--holdout is a share in .* not {share}"):
        split_holdout([], share=share)
