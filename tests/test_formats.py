"""SAEs in the layouts of other projects, against each layout's own definition of encoding."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file

from facsynth.cli import main
from facsynth.errors import ModelError
from facsynth.sae.describe import describe_sae
from facsynth.sae.files import load_sae, save_sae
from facsynth.sae.formats.layouts import LAYOUTS, ReadOptions, detect_format, read_sae, stored_files
from tiny import random_sae

D, M, K = 12, 40, 5
X = torch.randn(30, D, generator=torch.Generator().manual_seed(9)) * 2


def draw(seed, *shape):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


W, V, B, C = draw(1, D, M) / 3, draw(2, M, D), draw(3, M) / 4, draw(4, D) / 2
"""Encoder by columns, decoder by rows (of unequal norms), encoder bias, decoder bias."""

THRESHOLD = draw(5, M).abs() / 2


def relu(pre):
    return pre.clamp_min(0)


def jump(pre, threshold):
    return torch.where(pre > threshold, relu(pre), 0.0)


def largest(pre, k=K):
    """Keep the k largest of each row, and of those the positive ones."""
    kept = pre >= pre.sort(dim=1).values[:, -k].unsqueeze(1)
    return torch.where(kept, relu(pre), 0.0)


def assert_same(sae, codes, output, layer=7):
    assert (codes > 0).any()
    assert (codes == 0).any()
    assert sae.config.layer == layer
    assert (sae.encode(X) - codes).abs().max() <= 1e-5
    assert (sae.decode(sae.encode(X)) - output).abs().max() <= 1e-5


def write(folder, name, config, tensors=None, weights_name="sae_weights.safetensors"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(json.dumps(config))
    if tensors:
        save_file({n: t.contiguous() for n, t in tensors.items()}, folder / weights_name)
    return folder


class Sneaky:
    """Creates a file when it is unpickled."""

    def __init__(self, marker):
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


# SAELens -------------------------------------------------------------------------------------


def saelens(folder, architecture, tensors=None, **config):
    config = {
        "architecture": architecture,
        "d_in": D,
        "d_sae": M,
        "apply_b_dec_to_input": True,
        "normalize_activations": "none",
        "metadata": {"hook_name": "blocks.7.hook_resid_post", "model_name": "tiny"},
        **config,
    }
    usual = {"W_enc": W, "W_dec": V, "b_enc": B, "b_dec": C}
    return write(folder, "cfg.json", config, {**usual, **(tensors or {})})


def test_saelens_standard(tmp_path):
    codes = relu((X - C) @ W + B)
    sae = read_sae(saelens(tmp_path, "standard"))
    assert_same(sae, codes, codes @ V + C)
    assert sae.config.model_name == "tiny"


def test_saelens_without_the_decoder_bias_in_the_input(tmp_path):
    codes = relu(X @ W + B)
    sae = read_sae(saelens(tmp_path, "standard", apply_b_dec_to_input=False))
    assert_same(sae, codes, codes @ V + C)


def test_saelens_topk(tmp_path):
    codes = largest((X - C) @ W + B)
    assert_same(read_sae(saelens(tmp_path, "topk", k=K)), codes, codes @ V + C)


def test_saelens_topk_that_weighs_by_decoder_norm(tmp_path):
    codes = largest(((X - C) @ W + B) * V.norm(dim=1))
    sae = read_sae(saelens(tmp_path, "topk", k=K, rescale_acts_by_decoder_norm=True))
    assert_same(sae, codes, (codes / V.norm(dim=1)) @ V + C)


def test_saelens_jumprelu(tmp_path):
    codes = jump((X - C) @ W + B, THRESHOLD)
    sae = read_sae(saelens(tmp_path, "jumprelu", {"threshold": THRESHOLD}))
    assert_same(sae, codes, codes @ V + C)


def test_a_threshold_below_zero_lets_nothing_negative_through(tmp_path):
    codes = relu((X - C) @ W + B)
    sae = read_sae(saelens(tmp_path, "jumprelu", {"threshold": THRESHOLD - 9}))
    assert_same(sae, codes, codes @ V + C)


@pytest.mark.parametrize("kind", ["batchtopk", "matryoshka_batchtopk"])
def test_saelens_training_checkpoints_of_batch_topk_have_one_threshold(tmp_path, kind):
    norms = V.norm(dim=1)
    codes = jump(((X - C) @ W + B) * norms, 1.5)
    folder = saelens(
        tmp_path,
        kind,
        {"topk_threshold": torch.tensor(1.5)},
        k=K,
        rescale_acts_by_decoder_norm=True,
    )
    assert_same(read_sae(folder), codes, (codes / norms) @ V + C)


def test_batch_topk_keeps_k_per_token_when_asked(tmp_path):
    folder = saelens(tmp_path, "batchtopk", {"topk_threshold": torch.tensor(1.5)}, k=99)
    codes = largest((X - C) @ W + B)
    assert_same(read_sae(folder, ReadOptions(k=K)), codes, codes @ V + C)


def test_saelens_gated_is_jumprelu_exactly(tmp_path):
    gate, magnitude, scale = draw(6, M) / 3, draw(7, M) / 3, draw(8, M) / 2
    pre = (X - C) @ W
    codes = (pre + gate > 0) * relu((X - C) @ (W * scale.exp()) + magnitude)
    parts = {"W_enc": W, "W_dec": V, "b_dec": C, "b_gate": gate, "b_mag": magnitude, "r_mag": scale}
    folder = saelens(tmp_path, "gated")
    save_file(parts, folder / "sae_weights.safetensors")
    assert_same(read_sae(folder), codes, codes @ V + C)


OLD = {
    "hook_point": "blocks.8.hook_resid_pre",
    "hook_point_layer": 8,
    "d_in": D,
    "d_sae": M,
    "model_name": "gpt2-small",
    "prepend_bos": True,
    "normalize_activations": False,
}


def old_saelens(folder, **config):
    tensors = {"W_enc": W, "W_dec": V, "b_enc": B, "b_dec": C}
    return write(folder, "cfg.json", {**OLD, **config}, tensors)


def test_old_saelens_without_an_architecture_is_standard(tmp_path):
    sae = read_sae(old_saelens(tmp_path))
    codes = relu((X - C) @ W + B)
    assert_same(sae, codes, codes @ V + C)
    assert sae.config.model_name == "gpt2-small"
    assert sae.config.metadata["prepend_bos"] is True


def test_old_saelens_names_topk_by_its_activation(tmp_path):
    kwargs = {"activation_fn_str": "topk", "activation_fn_kwargs": {"k": K}}
    codes = largest((X - C) @ W + B)
    assert_same(read_sae(old_saelens(tmp_path, **kwargs)), codes, codes @ V + C)


def test_old_saelens_scales_of_a_fine_tuning_apply_to_decoding_only(tmp_path):
    tuned = draw(6, M).exp()
    folder = saelens(
        tmp_path, "standard", {"scaling_factor": tuned}, finetuning_scaling_factor=True
    )
    codes = relu((X - C) @ W + B)
    assert_same(read_sae(folder), codes, (codes * tuned) @ V + C)


@pytest.mark.parametrize("value", ["expected_average_only_in", True])
def test_a_constant_input_scale_is_folded(tmp_path, value):
    codes = relu((X * 0.7 - C) @ W + B)
    folder = saelens(tmp_path, "standard", normalize_activations=value)
    sae = read_sae(folder, ReadOptions(input_scale=0.7))
    assert_same(sae, codes, (codes @ V + C) / 0.7)


def test_the_input_scale_of_a_training_checkpoint_is_found(tmp_path):
    codes = jump((X * 0.7 - C) @ W + B, THRESHOLD)
    folder = saelens(
        tmp_path,
        "jumprelu",
        {"threshold": THRESHOLD},
        normalize_activations="expected_average_only_in",
    )
    (folder / "activation_scaler.json").write_text('{"scaling_factor": 0.7}')
    assert_same(read_sae(folder), codes, (codes @ V + C) / 0.7)


def test_a_constant_input_scale_that_no_file_names_is_asked_for(tmp_path):
    folder = saelens(tmp_path, "standard", normalize_activations="expected_average_only_in")
    with pytest.raises(ModelError, match="pass input_scale"):
        read_sae(folder)


@pytest.mark.parametrize("value", ["layer_norm", "constant_norm_rescale", "covariance_whitening"])
def test_scaling_by_token_is_refused(tmp_path, value):
    with pytest.raises(ModelError, match=f"{value}.*not a constant factor"):
        read_sae(saelens(tmp_path, "standard", normalize_activations=value))


@pytest.mark.parametrize("kind", ["transcoder", "temporal", "abstopk"])
def test_saelens_kinds_that_are_no_such_sae_are_refused(tmp_path, kind):
    with pytest.raises(ModelError, match=f"'{kind}'.* is not supported"):
        read_sae(saelens(tmp_path, kind))


def test_our_own_files_are_saelens(tmp_path):
    folder = save_sae(random_sae("jumprelu"), tmp_path / "sae")
    assert detect_format(folder) == "saelens"
    again, ours = read_sae(folder), load_sae(folder)
    assert again.config == ours.config
    assert all(
        torch.equal(a, b) for a, b in zip(again.parameters(), ours.parameters(), strict=True)
    )


def test_what_was_read_can_be_saved_and_loaded(tmp_path):
    sae = read_sae(paper(tmp_path), ReadOptions(model_name="tiny"))
    folder = save_sae(sae, tmp_path / "saved")
    for loaded in (load_sae(folder), read_sae(folder)):
        assert torch.equal(loaded.encode(X), sae.encode(X))
        assert (loaded.config.layer, loaded.config.model_name) == (15, "tiny")
        assert loaded.config.metadata["source_format"] == "paper"


# The paper -----------------------------------------------------------------------------------


def paper(folder, name="TopK7_l16_h12_epoch3.pth"):
    weight = {"mask": torch.zeros(M), "W_enc": W, "b_enc": B, "b_dec": C}
    config = {"d_inp": D, "d_hide": M, "topK": K}
    torch.save({"weight": weight, "config": config}, folder / name)
    return folder / name


def test_paper_is_tied_and_counts_layers_from_1(tmp_path):
    codes = largest((X - C) @ W + B)
    assert_same(read_sae(paper(tmp_path)), codes, codes @ W.T + C, layer=15)


def test_k_of_the_caller_wins_over_the_annealed_one(tmp_path):
    codes = largest((X - C) @ W + B, 3)
    sae = read_sae(paper(tmp_path), ReadOptions(k=3))
    assert_same(sae, codes, codes @ W.T + C, layer=15)
    assert sae.config.k == 3


def test_a_name_without_a_layer_asks_for_it(tmp_path):
    path = paper(tmp_path, "sae.pth")
    with pytest.raises(ModelError, match="pass its layer, counted from 0"):
        read_sae(path)
    assert read_sae(path, ReadOptions(layer=3)).config.layer == 3


# Sparsify ------------------------------------------------------------------------------------


def sparsify(folder, **config):
    tensors = {"encoder.weight": W.T, "encoder.bias": B, "W_dec": V, "b_dec": C}
    config = {"d_in": D, "num_latents": M, "k": K, "activation": "topk", **config}
    return write(folder, "cfg.json", config, tensors, "sae.safetensors")


@pytest.mark.parametrize("normalized", [True, False])
def test_sparsify_subtracts_the_decoder_bias_whatever_the_decoder(tmp_path, normalized):
    codes = relu((X - C) @ W + B)
    codes = codes * (codes >= codes.topk(K).values[:, -1:])
    folder = sparsify(tmp_path / "layers.7", normalize_decoder=normalized)
    (tmp_path / "config.json").write_text('{"model": "EleutherAI/pythia-70m"}')
    sae = read_sae(folder)
    assert_same(sae, codes, codes @ V + C)
    assert sae.config.model_name == "EleutherAI/pythia-70m"


@pytest.mark.parametrize(
    "setting", [{"activation": "groupmax"}, {"transcode": True}, {"skip_connection": True}]
)
def test_sparsify_kinds_that_are_no_topk_sae_are_refused(tmp_path, setting):
    with pytest.raises(ModelError, match="is not supported"):
        read_sae(sparsify(tmp_path / "layers.7", **setting))


def test_sparsify_of_another_module_is_refused_even_with_a_layer(tmp_path):
    with pytest.raises(ModelError, match="other modules are not supported"):
        read_sae(sparsify(tmp_path / "layers.7.mlp"), ReadOptions(layer=7))


# dictionary_learning -------------------------------------------------------------------------


def dictionary(folder, kind, tensors, **trainer):
    trainer = {"dict_class": kind, "layer": 7, "lm_name": "tiny/lm", **trainer}
    write(folder, "config.json", {"trainer": trainer, "buffer": {"ctx_len": 128}})
    torch.save(tensors, folder / "ae.pt")
    return folder


LINEAR = {"encoder.weight": W.T.clone(), "encoder.bias": B, "decoder.weight": V.T.clone()}
MATRICES = {"W_enc": W, "W_dec": V, "b_enc": B, "b_dec": C}


def test_dictionary_learning_autoencoder_gets_decoder_rows_of_norm_1(tmp_path):
    codes = relu((X - C) @ W + B)
    folder = dictionary(tmp_path, "AutoEncoder", {**LINEAR, "bias": C})
    sae = read_sae(folder)
    assert_same(sae, codes * V.norm(dim=1), codes @ V + C)
    assert sae.config.model_name == "tiny/lm"


def test_dictionary_learning_new_autoencoder(tmp_path):
    codes = relu(X @ W + B)
    folder = dictionary(tmp_path, "AutoEncoderNew", {**LINEAR, "decoder.bias": C})
    assert_same(read_sae(folder), codes, codes @ V + C)


def test_dictionary_learning_topk_ignores_its_threshold(tmp_path):
    stored = {"b_dec": C, "k": torch.tensor(K), "threshold": torch.tensor(0.3)}
    codes = largest((X - C) @ W + B)
    folder = dictionary(tmp_path, "AutoEncoderTopK", {**LINEAR, **stored}, k=K)
    assert_same(read_sae(folder), codes, codes @ V + C)


def test_dictionary_learning_batch_topk_is_one_threshold(tmp_path):
    stored = {"b_dec": C, "k": torch.tensor(K), "threshold": torch.tensor(0.3)}
    codes = jump((X - C) @ W + B, 0.3)
    folder = dictionary(tmp_path, "BatchTopKSAE", {**LINEAR, **stored}, k=K)
    assert_same(read_sae(folder), codes, codes @ V + C)


def test_dictionary_learning_batch_topk_without_a_threshold_asks_for_k(tmp_path):
    stored = {"b_dec": C, "k": torch.tensor(K), "threshold": torch.tensor(-1.0)}
    folder = dictionary(tmp_path, "BatchTopKSAE", {**LINEAR, **stored})
    with pytest.raises(ModelError, match="pass k"):
        read_sae(folder)
    codes = largest((X - C) @ W + B)
    assert_same(read_sae(folder, ReadOptions(k=K)), codes, codes @ V + C)


def test_dictionary_learning_matryoshka(tmp_path):
    stored = {"k": torch.tensor(K), "threshold": torch.tensor(0.3)}
    stored["group_sizes"] = torch.tensor([10, 30])
    codes = jump((X - C) @ W + B, 0.3)
    folder = dictionary(tmp_path, "MatryoshkaBatchTopKSAE", {**MATRICES, **stored})
    assert_same(read_sae(folder), codes, codes @ V + C)


def test_dictionary_learning_jumprelu_does_not_subtract(tmp_path):
    codes = jump(X @ W + B, THRESHOLD)
    folder = dictionary(tmp_path, "JumpReluAutoEncoder", {**MATRICES, "threshold": THRESHOLD})
    assert_same(read_sae(folder), codes, codes @ V + C)


def test_dictionary_learning_gated(tmp_path):
    gate, magnitude, scale = draw(6, M) / 3, draw(7, M) / 3, draw(8, M) / 2
    pre = (X - C) @ W
    codes = (pre + gate > 0) * relu(scale.exp() * pre + magnitude)
    biases = {"gate_bias": gate, "mag_bias": magnitude, "r_mag": scale, "decoder_bias": C}
    linear = {name: LINEAR[name] for name in ("encoder.weight", "decoder.weight")}
    folder = dictionary(tmp_path, "GatedAutoEncoder", {**linear, **biases})
    assert_same(read_sae(folder), codes, codes @ V + C)


def test_dictionary_learning_of_another_module_is_refused(tmp_path):
    folder = dictionary(tmp_path, "AutoEncoder", LINEAR, submodule_name="mlp_out_layer_7")
    with pytest.raises(ModelError, match="mlp_out_layer_7"):
        read_sae(folder)


# Gemma Scope ---------------------------------------------------------------------------------


def gemma_scope(folder, site="res"):
    folder = folder / f"gemma-scope-2b-pt-{site}" / "layer_7" / "width_16k" / "average_l0_71"
    folder.mkdir(parents=True)
    arrays = {name: value.numpy() for name, value in MATRICES.items()}
    np.savez(folder / "params.npz", threshold=THRESHOLD.numpy(), **arrays)
    return folder


def test_gemma_scope(tmp_path):
    codes = jump(X @ W + B, THRESHOLD)
    sae = read_sae(gemma_scope(tmp_path))
    assert_same(sae, codes, codes @ V + C)
    assert sae.config.model_name == "google/gemma-2-2b"


@pytest.mark.parametrize("site", ["att", "mlp", "transcoders"])
def test_gemma_scope_elsewhere_is_refused(tmp_path, site):
    with pytest.raises(ModelError, match="not an SAE of the residual stream"):
        read_sae(gemma_scope(tmp_path, site))


def test_arrays_of_objects_are_not_unpickled(tmp_path):
    folder, marker = tmp_path / "layer_7", tmp_path / "ran"
    folder.mkdir()
    np.savez(folder / "params.npz", W_enc=np.array([Sneaky(marker)], dtype=object))
    with pytest.raises(ModelError, match="without pickles"):
        read_sae(folder)
    assert not marker.exists()


def gemma_scope_2(folder, **config):
    tensors = {"w_enc": W, "w_dec": V, "b_enc": B, "b_dec": C, "threshold": THRESHOLD}
    config = {
        "architecture": "jump_relu",
        "model_name": "gemma-v3-270m-pt",
        "hf_hook_point_in": "model.layers.7.output",
        **config,
    }
    return write(folder, "config.json", config, tensors, "params.safetensors")


def test_gemma_scope_2(tmp_path):
    codes = jump(X @ W + B, THRESHOLD)
    sae = read_sae(gemma_scope_2(tmp_path))
    assert_same(sae, codes, codes @ V + C)
    assert sae.config.model_name == "google/gemma-3-270m"


def test_gemma_scope_2_without_settings_goes_by_its_folder(tmp_path):
    folder = gemma_scope_2(tmp_path / "resid_post" / "layer_7_width_16k_l0_small")
    (folder / "config.json").unlink()
    assert read_sae(folder).config.layer == 7


@pytest.mark.parametrize(
    "setting",
    [
        {"hf_hook_point_in": "model.layers.7.self_attn.o_proj.input"},
        {"hf_hook_point_out": "model.layers.7.post_feedforward_layernorm.output"},
    ],
)
def test_gemma_scope_2_elsewhere_is_refused(tmp_path, setting):
    with pytest.raises(ModelError, match="use an SAE of the residual stream"):
        read_sae(gemma_scope_2(tmp_path, **setting))


# Llama Scope ---------------------------------------------------------------------------------

NORM = 2.5
SCALE = math.sqrt(D) / NORM


def llama_scope(folder, decoder=V, **config):
    folder = folder / "Llama3_1-8B-Base-L7R-8x"
    config = {
        "d_model": D,
        "d_sae": M,
        "hook_point_in": "blocks.7.hook_resid_post",
        "hook_point_out": "blocks.7.hook_resid_post",
        "act_fn": "jumprelu",
        "jump_relu_threshold": 0.4,
        "norm_activation": "dataset-wise",
        "dataset_average_activation_norm": {"in": NORM, "out": NORM},
        "sparsity_include_decoder_norm": True,
        **config,
    }
    write(folder, "hyperparams.json", config)
    tensors = {"encoder.weight": W.T, "encoder.bias": B}
    tensors |= {"decoder.weight": decoder.T, "decoder.bias": C}
    write(folder / "checkpoints", "notes.json", {}, tensors, "final.safetensors")
    return folder


def llama_inference(x, decoder):
    """Its own inference: constants folded as there, rows of norm 1, then the threshold.

    Activations come out in units of the unscaled input, SCALE times smaller than ours.
    """
    norms = decoder.norm(dim=1)
    encoder, bias = W * norms, B / SCALE * norms
    codes = jump(x @ encoder + bias, 0.4)
    return codes, codes @ (decoder / norms[:, None]) + C / SCALE


def test_llama_scope_rescales_norms_and_threshold(tmp_path):
    codes, output = llama_inference(X, V)
    sae = read_sae(llama_scope(tmp_path))
    assert_same(sae, codes * SCALE, output)
    assert sae.config.model_name == "meta-llama/Llama-3.1-8B"


def test_llama_scope_with_a_decoder_of_norm_1_is_as_saelens_reads_it(tmp_path):
    decoder = V / V.norm(dim=1, keepdim=True)
    codes = jump(X @ (W * SCALE) + B, 0.4 * SCALE)
    sae = read_sae(llama_scope(tmp_path, decoder))
    assert_same(sae, codes, codes @ (decoder / SCALE) + C / SCALE)


def test_llama_scope_before_its_conversion_is_topk(tmp_path):
    codes = largest((X * SCALE @ W + B) * V.norm(dim=1))
    folder = llama_scope(tmp_path, jump_relu_threshold=0, act_fn="topk", top_k=K)
    assert_same(read_sae(folder), codes, ((codes / V.norm(dim=1)) @ V + C) / SCALE)


def test_llama_scope_transcoders_are_refused(tmp_path):
    with pytest.raises(ModelError, match="transcoder"):
        read_sae(llama_scope(tmp_path, hook_point_out="blocks.7.hook_mlp_out"))


def test_llama_scope_norms_of_each_token_are_refused(tmp_path):
    with pytest.raises(ModelError, match="token-wise"):
        read_sae(llama_scope(tmp_path, norm_activation="token-wise"))


# Qwen-Scope and Goodfire ---------------------------------------------------------------------


def qwen_scope(folder, name=f"SAE-Res-Qwen3-1.7B-Base-W32K-L0_{K}"):
    path = folder / name / "layer7.sae.pt"
    path.parent.mkdir()
    torch.save({"W_enc": W.T.clone(), "W_dec": V.T.clone(), "b_enc": B, "b_dec": C}, path)
    return path


def test_qwen_scope_does_not_subtract_and_finds_k_in_the_repository(tmp_path):
    codes = largest(X @ W + B)
    sae = read_sae(qwen_scope(tmp_path))
    assert_same(sae, codes, codes @ V + C)
    assert sae.config.model_name == "Qwen/Qwen3-1.7B-Base"


def test_qwen_scope_outside_its_repository_asks_for_k(tmp_path):
    path = qwen_scope(tmp_path, "renamed")
    with pytest.raises(ModelError, match="pass k"):
        read_sae(path)
    assert read_sae(path, ReadOptions(k=3)).config.k == 3


def goodfire(folder):
    weights = {"encoder_linear.weight": W.T.clone(), "encoder_linear.bias": B}
    weights |= {"decoder_linear.weight": V.T.clone(), "decoder_linear.bias": C}
    path = folder / "Llama-3.1-8B-Instruct-SAE-l7.pth"
    torch.save(weights, path)
    return path


def test_goodfire(tmp_path):
    codes = relu(X @ W + B)
    sae = read_sae(goodfire(tmp_path))
    assert_same(sae, codes, codes @ V + C)
    assert sae.config.model_name == "meta-llama/Llama-3.1-8B-Instruct"


# Detection and errors ------------------------------------------------------------------------

WRITERS = {
    "saelens": lambda folder: saelens(folder, "standard"),
    "paper": paper,
    "sparsify": lambda folder: sparsify(folder / "layers.7"),
    "dictionary_learning": lambda folder: dictionary(folder, "AutoEncoder", {**LINEAR, "bias": C}),
    "gemma_scope": gemma_scope,
    "gemma_scope_2": gemma_scope_2,
    "llama_scope": llama_scope,
    "qwen_scope": qwen_scope,
    "goodfire": goodfire,
}


def test_every_layout_has_a_test():
    assert sorted(WRITERS) == sorted(layout.name for layout in LAYOUTS)


@pytest.mark.parametrize("name", WRITERS)
def test_layouts_are_told_apart(tmp_path, name):
    assert detect_format(WRITERS[name](tmp_path)) == name


@pytest.mark.parametrize("name", WRITERS)
def test_any_file_of_a_layout_stands_for_it(tmp_path, name):
    path = WRITERS[name](tmp_path)
    files = next(layout.files for layout in LAYOUTS if layout.name == name)
    inside = [path / file for file in files] or [path.parent]  # a folder with a single pickle
    assert {detect_format(file) for file in inside} == {name}


GATES = {
    "saelens": "standard",
    "paper": "topk",
    "sparsify": "topk",
    "dictionary_learning": "standard",
    "gemma_scope": "jumprelu",
    "gemma_scope_2": "jumprelu",
    "llama_scope": "jumprelu",
    "qwen_scope": "topk",
    "goodfire": "standard",
}


@pytest.mark.parametrize("name", WRITERS)
def test_info_describes_every_layout(tmp_path, name):
    path = WRITERS[name](tmp_path)
    done = CliRunner().invoke(main, ["sae", "info", str(path), "--json"])
    assert done.exit_code == 0, done.output
    facts = json.loads(done.stdout)
    layer = 15 if name == "paper" else 7
    assert (facts["layer"], facts["hidden_states_index"]) == (layer, layer + 1)
    assert (facts["n_features"], facts["d_model"], facts["dtype"]) == (M, D, "float32")
    assert (facts["gate"], facts["layout"]) == (GATES[name], name)
    assert facts["k"] == (K if GATES[name] == "topk" else None)
    assert facts["n_bytes"] == sum(file.stat().st_size for file in stored_files(path))
    assert len(facts["content_hash"]) == 64
    assert facts == describe_sae(path).row()


@pytest.mark.parametrize("name", WRITERS)
def test_convert_writes_saelens_of_every_layout(tmp_path, name):
    path, target = WRITERS[name](tmp_path), tmp_path / "converted"
    done = CliRunner().invoke(main, ["sae", "convert", str(path), str(target)])
    assert done.exit_code == 0, done.output
    assert detect_format(target) == "saelens"
    assert torch.equal(load_sae(target).encode(X), read_sae(path).encode(X))


def test_the_licence_comes_from_the_card_beside_the_files(tmp_path):
    folder = saelens(tmp_path, "standard", {"W_enc": W.bfloat16(), "W_dec": V.bfloat16()})
    assert describe_sae(folder).licence is None
    (folder / "README.md").write_text("---\nlanguage: en\nlicense: cc-by-4.0\n---\n# An SAE\n")
    facts = describe_sae(folder)
    assert (facts.licence, facts.dtype) == ("cc-by-4.0", "bfloat16")


def test_an_unknown_layout_lists_what_is_there_and_what_is_known(tmp_path):
    (tmp_path / "model.bin").write_bytes(b"?")
    with pytest.raises(ModelError, match=r"found model\.bin; known are saelens \(cfg\.json"):
        detect_format(tmp_path)


def test_half_a_layout_names_the_missing_file(tmp_path):
    folder = saelens(tmp_path, "standard")
    (folder / "cfg.json").unlink()
    with pytest.raises(ModelError, match=r"for saelens cfg\.json is missing; known are"):
        read_sae(folder)


def test_an_unknown_pickle_lists_its_tensors(tmp_path):
    torch.save({"lin.weight": W}, tmp_path / "x.pt")
    with pytest.raises(ModelError, match=r"found x\.pt with lin\.weight"):
        detect_format(tmp_path / "x.pt")


def test_several_pickles_in_a_folder_must_be_chosen_from(tmp_path):
    paper(tmp_path), goodfire(tmp_path)
    with pytest.raises(ModelError, match="2 pickles.*name one of them"):
        read_sae(tmp_path)


def test_a_missing_path_is_an_error(tmp_path):
    with pytest.raises(ModelError, match="does not exist"):
        detect_format(tmp_path / "nothing")


def test_code_in_a_pickle_is_never_run(tmp_path):
    path, marker = tmp_path / "TopK7_l16_h12_epoch3.pth", tmp_path / "ran"
    torch.save({"weight": Sneaky(marker), "config": {}}, path)
    with pytest.raises(ModelError, match="can run code"):
        read_sae(path)
    assert not marker.exists()


def test_a_damaged_pickle_is_an_error(tmp_path):
    (tmp_path / "x.pth").write_bytes(b"\x80\x02nonsense")
    with pytest.raises(ModelError, match="damaged"):
        read_sae(tmp_path / "x.pth")


def test_a_missing_tensor_is_named_beside_those_there(tmp_path):
    folder = saelens(tmp_path, "jumprelu")
    with pytest.raises(ModelError, match="lacks the tensor threshold; it has W_dec, W_enc"):
        read_sae(folder)


def test_a_configuration_of_another_size_is_an_error(tmp_path):
    with pytest.raises(ModelError, match=r"says d_sae=64, and the encoder has shape \(12, 40\)"):
        read_sae(saelens(tmp_path, "standard", d_sae=64))


def test_a_transposed_matrix_is_an_error(tmp_path):
    folder = saelens(tmp_path, "standard", {"W_dec": V.T})
    with pytest.raises(ModelError, match=r"w_dec has shape \(12, 40\).*needs \(40, 12\)"):
        read_sae(folder)


def test_options_that_a_layout_has_no_use_for_are_refused(tmp_path):
    path = goodfire(tmp_path)
    with pytest.raises(ModelError, match="drop k=3"):
        read_sae(path, ReadOptions(k=3))
    with pytest.raises(ModelError, match="takes no input_scale"):
        read_sae(path, ReadOptions(input_scale=2.0))


def test_the_caller_wins_over_the_files(tmp_path):
    sae = read_sae(saelens(tmp_path, "standard"), ReadOptions(layer=2, model_name="mine"))
    assert (sae.config.layer, sae.config.model_name) == (2, "mine")


def test_half_precision_files_are_read_in_float32(tmp_path):
    half = {name: value.bfloat16() for name, value in MATRICES.items()}
    sae = read_sae(saelens(tmp_path, "standard", half))
    codes = relu((X - half["b_dec"].float()) @ half["W_enc"].float() + half["b_enc"].float())
    assert_same(sae, codes, codes @ half["W_dec"].float() + half["b_dec"].float())
