"""Encoding, decoding, reading and writing of SAEs."""

import hashlib
import json
from typing import get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from facsynth.errors import ModelError
from facsynth.sae.files import load_sae, save_sae
from facsynth.sae.module import Gate, SaeConfig, SparseAutoencoder
from tiny import D_MODEL, coordinate_sae, random_sae

GATES = get_args(Gate)
X = torch.randn(40, D_MODEL, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def folder(tmp_path):
    return save_sae(random_sae(), tmp_path / "sae")


def change(folder, **values):
    """Set values of `cfg.json`; None deletes one."""
    path = folder / "cfg.json"
    row = {**json.loads(path.read_text()), **values}
    path.write_text(json.dumps({k: v for k, v in row.items() if v is not None}))


@pytest.mark.parametrize("gate", GATES)
@pytest.mark.parametrize("subtract", [True, False])
def test_sparse_codes_are_the_dense_ones(gate, subtract):
    sae = random_sae(gate, apply_b_dec_to_input=subtract)
    dense = torch.zeros(len(X), 48)
    tokens, features, values = sae.encode_sparse(X)
    dense[tokens, features] = values
    assert torch.equal(dense, sae.encode(X))
    assert (values > 0).all()


@pytest.mark.parametrize("gate", GATES)
@settings(max_examples=20)
@given(tile=st.integers(1, 60))
def test_tiles_do_not_change_the_sparse_codes(gate, tile):
    sae, dense = random_sae(gate), torch.zeros(len(X), 48)
    tokens, features, values = sae.encode_sparse(X, tile=tile)
    assert (tokens.diff() >= 0).all()
    dense[tokens, features] = values
    assert torch.equal(dense > 0, sae.encode(X) > 0)
    torch.testing.assert_close(dense, sae.encode(X), atol=1e-5, rtol=0)


def test_tiles_of_positive_pre_activations_ignore_the_gate():
    sae = random_sae("jumprelu")
    tiles = dict(sae.encode_tiles(X, positive=True, tile=20))
    assert list(tiles) == [0, 20, 40]
    torch.testing.assert_close(torch.cat([*tiles.values()], 1), sae.pre_activations(X).relu())


@pytest.mark.parametrize("gate", GATES)
def test_codes_follow_the_formula(gate):
    sae = random_sae(gate)
    pre = (X.double() - sae.b_dec) @ sae.W_enc.double() + sae.b_enc
    floor = {
        "standard": torch.zeros(1),
        "jumprelu": sae.threshold if gate == "jumprelu" else None,
        "topk": pre.sort(dim=1).values[:, -5:-4],
    }[gate]
    expected = torch.where(pre > floor, pre, 0).clamp_min(0)
    torch.testing.assert_close(sae.encode(X).double(), expected, atol=1e-5, rtol=1e-5)


def test_topk_keeps_at_most_k_of_a_token_and_the_largest():
    sae = random_sae("topk")
    codes, pre = sae.encode(X), sae.pre_activations(X)
    assert ((codes > 0).sum(1) <= 4).all()
    assert ((codes > 0).sum(1) == 4).any()
    assert (codes.max(1).values == pre.max(1).values).all()


def test_a_negative_value_among_the_k_largest_counts_as_zero():
    sae = random_sae("topk", k=40)
    assert (sae.pre_activations(X).sort(dim=1).values[:, 8] < 0).all()
    assert torch.equal(sae.encode(X), sae.pre_activations(X).relu())
    torch.testing.assert_close(sae.reconstruct(X), sae.decode(sae.encode(X)))


@pytest.mark.parametrize("gate", GATES)
def test_reconstruction_decodes_the_codes(gate):
    sae = random_sae(gate)
    torch.testing.assert_close(sae.reconstruct(X), sae.decode(sae.encode(X)))


def test_a_hand_made_sae_gives_the_numbers_on_paper():
    sae = coordinate_sae(d_in=2)
    x = torch.tensor([[3.0, -2.0]])
    assert sae.encode(x).tolist() == [[3.0, 0.0, 0.0, 2.0]]
    assert sae.reconstruct(x).tolist() == [[3.0, -2.0]]


def test_no_tokens_give_no_codes():
    assert [part.numel() for part in random_sae().encode_sparse(X[:0])] == [0, 0, 0]


@pytest.mark.parametrize("gate", GATES)
def test_a_saved_sae_is_read_back(gate, tmp_path):
    sae = random_sae(gate, model_name="m", model_hash="h", apply_b_dec_to_input=False)
    loaded = load_sae(save_sae(sae, tmp_path))
    assert torch.equal(loaded.encode(X), sae.encode(X))
    for name in ("architecture", "layer", "k", "d_in", "d_sae", "model_name", "model_hash"):
        assert getattr(loaded.config, name) == getattr(sae.config, name)
    assert loaded.content_hash == load_sae(tmp_path).content_hash


def test_a_smaller_dtype_rounds_only_the_matrices(tmp_path):
    sae = random_sae()
    loaded = load_sae(save_sae(sae, tmp_path, dtype=torch.bfloat16))
    assert torch.equal(loaded.W_enc, sae.W_enc.bfloat16().float())
    assert torch.equal(loaded.b_enc, sae.b_enc)


def test_the_file_names_its_hook_in_both_dialects(folder):
    metadata = json.loads((folder / "cfg.json").read_text())["metadata"]
    assert metadata["hook_name"] == "blocks.1.hook_resid_post"
    assert metadata["hf_hook_name"] == "model.layers.1"


def test_saes_of_other_weights_have_other_hashes_before_they_are_saved():
    same, other = random_sae(seed=0), random_sae(seed=1)
    assert same.content_hash == random_sae(seed=0).content_hash
    assert len({same.content_hash, other.content_hash, random_sae(layer=2).content_hash}) == 3


@pytest.fixture
def counted(monkeypatch):
    """How often the tensors of an SAE are hashed."""
    calls, compute = [], SparseAutoencoder._hash_of_tensors
    monkeypatch.setattr(
        SparseAutoencoder, "_hash_of_tensors", lambda sae: calls.append(sae) or compute(sae)
    )
    return calls


def test_a_hash_is_computed_once(counted):
    sae = random_sae()
    assert sae.content_hash == sae.content_hash
    assert len(counted) == 1


def test_a_hash_is_that_of_the_weights_after_a_step_of_training():
    sae = random_sae()
    before = sae.content_hash
    sae.W_dec.mul_(2)
    assert sae.content_hash != before
    sae.W_dec.div_(2)
    assert sae.content_hash == before


def test_a_loaded_sae_has_its_files_hash_until_its_weights_change(folder, counted):
    sae = load_sae(folder)
    digest = hashlib.sha256()
    for name in ("cfg.json", "sae_weights.safetensors"):
        digest.update((folder / name).read_bytes())
    assert sae.float().content_hash == digest.hexdigest()
    assert not counted
    sae.b_enc.add_(1)
    assert sae.content_hash == fresh_hash(sae)


def fresh_hash(sae):
    """Hash of an SAE with these weights that was never loaded."""
    fresh = SparseAutoencoder(sae.config)
    fresh.load_state_dict(sae.state_dict())
    return fresh.content_hash


@pytest.mark.parametrize(
    ("hook", "layer"),
    [
        ("blocks.7.hook_resid_post", 7),
        ("blocks.7.hook_resid_pre", 6),
        ("model.layers.7", 7),
        ("model.layers.7.output", 7),
        ("transformer.h.7", 7),
    ],
)
def test_a_hook_name_says_after_which_layer_to_read(folder, hook, layer):
    change(folder, metadata={"hook_name": hook})
    assert load_sae(folder).config.layer == layer


@pytest.mark.parametrize(
    ("change_to", "message"),
    [
        ({"metadata": None}, "names no decoder layer"),
        ({"metadata": {"hook_name": "blocks.7.hook_mlp_out"}}, "reads blocks.7.hook_mlp_out, whi"),
        ({"metadata": {"hook_name": "blocks.0.hook_resid_pre"}}, "not the output of a decoder"),
        ({"architecture": "transcoder"}, "the architecture 'transcoder' with activation 'relu' is"),
        ({"normalize_activations": "layer_norm"}, "normalize_activations='layer_norm', which"),
        ({"k": None}, "cfg.json has no k; pass the k of the SAE"),
        ({"k": 49}, "a topk SAE needs k between 1 and 48, not 49"),
        ({"d_in": 8}, r"says d_in=8, and the encoder has shape \(16, 48\)"),
        ({"architecture": "jumprelu"}, "lacks the tensor threshold; it has W_dec, W_enc, b_dec"),
    ],
)
def test_a_config_that_cannot_be_used_is_a_clear_error(folder, change_to, message):
    change(folder, **change_to)
    with pytest.raises(ModelError, match=message):
        load_sae(folder)


@pytest.mark.parametrize("name", ["cfg.json", "sae_weights.safetensors"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(ModelError, match=f"for saelens {name} is missing"):
        load_sae(folder)


@pytest.mark.parametrize("name", ["cfg.json", "sae_weights.safetensors"])
@pytest.mark.parametrize("content", ["", "{", "[1, 2]", "7"])
def test_a_broken_file_is_a_clear_error(folder, name, content):
    (folder / name).write_text(content)
    with pytest.raises(
        ModelError, match=f"{folder}/{name} (cannot be read as|holds a|is not the settings)"
    ):
        load_sae(folder)


def test_a_missing_tensor_is_named(folder):
    path = folder / "sae_weights.safetensors"
    weights = load_file(path)
    save_file({name: weights[name] for name in weights if name != "b_enc"}, path)
    with pytest.raises(ModelError, match="lacks the tensor b_enc; it has W_dec, W_enc, b_dec"):
        load_sae(folder)


def test_k_belongs_to_a_topk_sae():
    with pytest.raises(ModelError, match="needs k between 1 and 8, not 0"):
        SaeConfig(d_in=4, d_sae=8, architecture="topk", layer=0, k=0)
