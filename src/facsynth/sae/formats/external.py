"""Readers of the layouts that are not SAELens': the paper's own and those of six other projects.

Each returns `SaeParts`: matrices turned to [d_model, n_features] and back, scales folded in, the
layer counted from 0. What our SAE cannot express exactly is an error, never an approximation.
"""

import re
from collections.abc import Mapping
from dataclasses import replace
from math import isclose, sqrt
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from facsynth.errors import ModelError
from facsynth.sae.formats.parts import (
    ReadOptions,
    SaeParts,
    fold_decoder_norm,
    fold_gated,
    fold_input_scale,
    hooked_layer,
    named,
    read_arrays,
    read_json,
    read_pickle,
    read_safetensors,
    tensor,
)

__all__ = [
    "read_dictionary_learning",
    "read_gemma_scope",
    "read_gemma_scope_2",
    "read_goodfire",
    "read_llama_scope",
    "read_paper",
    "read_qwen_scope",
    "read_sparsify",
]


def read_paper(path: Path, options: ReadOptions) -> SaeParts:
    """The paper's `TopK7_l16_h4096_epoch3.pth`: tied weights, layers counted from 1.

    `topK` is annealed during training, so the file of an early epoch holds a larger value than
    the final one; `k` overrides it. The `mask` belongs to training and is not used.
    """
    content = read_pickle(path)
    weights, config = content["weight"], content["config"]
    if not (isinstance(weights, Mapping) and isinstance(config, Mapping)):
        raise ModelError(f"{path} holds no tables `weight` and `config`, as the paper's files do")
    encoder = tensor(weights, "W_enc", path)
    counted = named(path, r"_l(\d+)_")
    return SaeParts(
        w_enc=encoder,
        w_dec=encoder.T,
        b_enc=tensor(weights, "b_enc", path),
        b_dec=tensor(weights, "b_dec", path),
        layer=int(counted[1]) - 1 if counted else None,
        subtract_b_dec=True,
        k=_kept(options.k, config.get("topK"), path),
    )


def read_goodfire(path: Path, options: ReadOptions) -> SaeParts:
    """Goodfire's `Llama-3.1-8B-Instruct-SAE-l19.pth`: two linear layers and a ReLU."""
    weights = read_pickle(path)
    name = named(path, r"([\w.-]+)-SAE-l(\d+)")
    return SaeParts(
        w_enc=tensor(weights, "encoder_linear.weight", path).T,
        w_dec=tensor(weights, "decoder_linear.weight", path).T,
        b_enc=tensor(weights, "encoder_linear.bias", path),
        b_dec=tensor(weights, "decoder_linear.bias", path),
        layer=int(name[2]) if name else None,
        subtract_b_dec=False,
        model_name=f"meta-llama/{name[1]}" if name else "",
    )


def read_qwen_scope(path: Path, options: ReadOptions) -> SaeParts:
    """Qwen-Scope's `layer7.sae.pt`; `k` and the model stand in the name of the repository."""
    weights = read_pickle(path)
    repository = named(path, r"SAE-Res-([\w.-]+?)-W\d+K-L0_(\d+)")
    counted = named(path, r"layer(\d+)\.sae\.pt")
    return SaeParts(
        w_enc=tensor(weights, "W_enc", path).T,
        w_dec=tensor(weights, "W_dec", path).T,
        b_enc=tensor(weights, "b_enc", path),
        b_dec=tensor(weights, "b_dec", path),
        layer=int(counted[1]) if counted else None,
        subtract_b_dec=False,
        k=_kept(options.k, repository and repository[2], path),
        model_name=f"Qwen/{repository[1]}" if repository else "",
    )


def read_sparsify(folder: Path, options: ReadOptions) -> SaeParts:
    """Sparsify's `layers.7/{cfg.json, sae.safetensors}`: top-k, the decoder by rows."""
    config_path, path = folder / "cfg.json", folder / "sae.safetensors"
    config = read_json(config_path)
    weights = read_safetensors(path)
    refused = {
        "a transcoder": config.get("transcode"),
        "built with a skip connection": config.get("skip_connection") or "W_skip" in weights,
        "one that keeps negative activations": config.get("signed"),
        f"one with {config.get('activation')}": config.get("activation", "topk") != "topk",
    }
    for what, is_so in refused.items():
        if is_so:
            raise ModelError(f"{config_path}: this SAE is {what}, which is not supported")
    run = folder.parent / "config.json"
    return SaeParts(
        w_enc=tensor(weights, "encoder.weight", path).T,
        w_dec=tensor(weights, "W_dec", path),
        b_enc=tensor(weights, "encoder.bias", path),
        b_dec=tensor(weights, "b_dec", path),
        layer=_sparsify_layer(folder, options),
        subtract_b_dec=True,
        k=_kept(options.k, config.get("k"), config_path),
        model_name=str(read_json(run).get("model", "")) if run.is_file() else "",
    )


def _sparsify_layer(folder: Path, options: ReadOptions) -> int | None:
    """Layer by the folder, which carries the name of the hooked module."""
    name = folder.absolute().name
    block = re.fullmatch(r"(?:[\w.]+\.)?(?:layers|h|blocks)[._](\d+)", name)
    if block:
        return int(block[1])
    if options.layer is None or re.search(r"(?:layers|h|blocks)[._]\d+[._]|embed", name):
        raise ModelError(
            f"the folder {folder} is not named after a decoder layer, as layers.7 is; pass the "
            "layer if it reads the residual stream, SAEs of other modules are not supported"
        )
    return None


def read_dictionary_learning(folder: Path, options: ReadOptions) -> SaeParts:
    """dictionary_learning's `{ae.pt, config.json}`; `dict_class` names the gate.

    `AutoEncoder` gets decoder rows of norm 1, as its own loader does. The batch top-k classes are
    read with their threshold, or per token when `k` is given.
    """
    config_path, path = folder / "config.json", folder / "ae.pt"
    trainer = read_json(config_path).get("trainer")
    if not isinstance(trainer, dict):
        raise ModelError(f"{config_path} has no table `trainer`, which names the kind of SAE")
    submodule = str(trainer.get("submodule_name") or "")
    if re.search(r"mlp|att", submodule):
        raise ModelError(f"{config_path} reads {submodule}; use an SAE of the residual stream")
    weights = read_pickle(path)
    parts = _dictionary(weights, trainer, path)
    kind = trainer.get("dict_class")
    if kind == "AutoEncoderNew":
        return parts
    if kind == "AutoEncoder":
        norms = parts.w_dec.norm(dim=1)
        return parts if torch.allclose(norms, torch.ones(())) else fold_decoder_norm(parts)
    if kind == "GatedAutoEncoder":
        gate = {"b_gate": "gate_bias", "b_mag": "mag_bias", "r_mag": "r_mag"}
        return fold_gated(
            parts, **{ours: tensor(weights, name, path) for ours, name in gate.items()}
        )
    batch = kind in ("BatchTopKSAE", "MatryoshkaBatchTopKSAE")
    if kind == "AutoEncoderTopK" or (batch and options.k is not None):
        stored = weights.get("k", trainer.get("k"))
        return replace(parts, k=_kept(options.k, stored, path))
    if kind == "JumpReluAutoEncoder" or batch:
        return replace(parts, threshold=_dictionary_threshold(parts, weights, path))
    raise ModelError(f"{config_path}: the dict_class {kind!r} is not supported")


def _dictionary(weights: Mapping[str, Any], trainer: Mapping[str, Any], path: Path) -> SaeParts:
    bare = "W_enc" in weights  # JumpReLU and Matryoshka keep matrices, the others linear layers
    biases = ("b_enc", "encoder.bias", "mag_bias")
    outputs = ("b_dec", "bias", "decoder_bias", "decoder.bias")
    layer = trainer.get("layer")
    return SaeParts(
        w_enc=tensor(weights, "W_enc", path) if bare else tensor(weights, "encoder.weight", path).T,
        w_dec=tensor(weights, "W_dec", path) if bare else tensor(weights, "decoder.weight", path).T,
        b_enc=tensor(weights, next((n for n in biases if n in weights), biases[0]), path),
        b_dec=tensor(weights, next((n for n in outputs if n in weights), outputs[0]), path),
        layer=None if layer is None else int(layer),
        subtract_b_dec=trainer.get("dict_class") not in ("JumpReluAutoEncoder", "AutoEncoderNew"),
        model_name=str(trainer.get("lm_name") or ""),
    )


def _dictionary_threshold(parts: SaeParts, weights: Mapping[str, Any], path: Path) -> Tensor:
    threshold = tensor(weights, "threshold", path)
    if threshold.ndim == 0 and threshold < 0:
        raise ModelError(
            f"{path} was saved before training set its threshold ({threshold:g}); pass k to keep "
            "the k largest features of each token instead"
        )
    return threshold.expand_as(parts.b_enc)


def read_gemma_scope(folder: Path, options: ReadOptions) -> SaeParts:
    """Gemma Scope's `layer_20/width_16k/average_l0_71/params.npz`: JumpReLU."""
    path = folder / "params.npz"
    repository = named(path, r"gemma-scope-(\w+)-(pt|it)-(\w+)")
    if named(path, r"/embedding/|transcoder") or (repository and repository[3] != "res"):
        raise ModelError(f"{path} is not an SAE of the residual stream; use one of a -res release")
    counted = named(path, r"layer_(\d+)")
    ending = "-it" if repository and repository[2] == "it" else ""
    parts = _jumprelu_parts(read_arrays(path), path)
    return replace(
        parts,
        layer=int(counted[1]) if counted else None,
        model_name=f"google/gemma-2-{repository[1]}{ending}" if repository else "",
    )


def read_gemma_scope_2(folder: Path, options: ReadOptions) -> SaeParts:
    """Gemma Scope 2's `{config.json, params.safetensors}`: JumpReLU, tensors in small letters."""
    path, config_path = folder / "params.safetensors", folder / "config.json"
    config = read_json(config_path) if config_path.is_file() else {}
    weights = read_safetensors(path)
    hook = config.get("hf_hook_point_in")
    if config.get("architecture", "jump_relu") != "jump_relu":
        raise ModelError(f"{config_path}: the architecture {config['architecture']!r} is not read")
    if config.get("hf_hook_point_out", hook) != hook or "affine_skip_connection" in weights:
        raise ModelError(f"{folder} is a transcoder; use an SAE of the residual stream")
    if hook is None and named(path, r"transcoder|clt|attn_out|mlp_out"):
        raise ModelError(f"{path} is not an SAE of the residual stream; use one of resid_post")
    counted = named(path, r"layer_(\d+)")
    by_name = int(counted[1]) if counted else None
    parts = _jumprelu_parts(weights, path)
    return replace(
        parts,
        layer=by_name if hook is None else hooked_layer(str(hook), config_path),
        model_name=_gemma_3_name(str(config.get("model_name") or "")),
    )


def _gemma_3_name(name: str) -> str:
    """Name on the Hub: the files say `gemma-v3-270m-pt`, which is `google/gemma-3-270m`."""
    if not name:
        return ""
    short = name.rpartition("/")[2].replace("-v3-", "-3-")
    return f"google/{short.removesuffix('-pt') if '-270m' in short else short}"


def _jumprelu_parts(weights: Mapping[str, Tensor], path: Path) -> SaeParts:
    """Parts of Gemma Scope's tensors, which the two releases spell differently."""
    upper = {re.sub("^w_", "W_", name): value for name, value in weights.items()}
    return SaeParts(
        w_enc=tensor(upper, "W_enc", path),
        w_dec=tensor(upper, "W_dec", path),
        b_enc=tensor(upper, "b_enc", path),
        b_dec=tensor(upper, "b_dec", path),
        threshold=tensor(upper, "threshold", path),
        layer=None,
        subtract_b_dec=False,
    )


def read_llama_scope(folder: Path, options: ReadOptions) -> SaeParts:
    """Llama Scope's `{hyperparams.json, checkpoints/final.safetensors}`.

    Inputs were scaled to a mean norm of sqrt(d_model). The threshold is stored for activations in
    units of the unscaled input and of decoder rows of norm 1, so it is multiplied by that scale
    and the norms are folded first. Activations are then in the units that SAELens reads them in.
    """
    config_path, path = folder / "hyperparams.json", folder / "checkpoints" / "final.safetensors"
    config = read_json(config_path)
    weights = read_safetensors(path)
    scale = _llama_scale(config, config_path)
    encoder = tensor(weights, "encoder.weight", path).T
    has_bias = "decoder.bias" in weights
    parts = SaeParts(
        w_enc=encoder,
        w_dec=tensor(weights, "decoder.weight", path).T,
        b_enc=tensor(weights, "encoder.bias", path),
        b_dec=tensor(weights, "decoder.bias", path)
        if has_bias
        else encoder.new_zeros(len(encoder)),
        layer=hooked_layer(str(config.get("hook_point_in")), config_path),
        subtract_b_dec=bool(config.get("apply_decoder_bias_to_pre_encoder", False)),
        model_name="meta-llama/Llama-3.1-8B" if named(path, "Llama3_1-8B-Base") else "",
    )
    norms = parts.w_dec.norm(dim=1)
    if config.get("sparsity_include_decoder_norm", True) and not torch.allclose(
        norms,
        torch.ones(()),
        atol=0.01,  # what bfloat16 makes of a norm of 1
    ):
        parts = fold_decoder_norm(parts)
    threshold = float(config.get("jump_relu_threshold") or 0)
    if threshold > 0:
        parts = replace(parts, threshold=torch.full_like(parts.b_enc, threshold * scale))
    elif config.get("act_fn") == "topk":
        parts = replace(parts, k=_kept(options.k, config.get("top_k"), config_path))
    return fold_input_scale(parts, scale)


def _llama_scale(config: Mapping[str, Any], path: Path) -> float:
    if config.get("use_glu_encoder") or config.get("hook_point_out") not in (
        None,
        config.get("hook_point_in"),
    ):
        raise ModelError(f"{path}: a transcoder or a gated linear unit, not an SAE of one hook")
    normalised = config.get("norm_activation", "dataset-wise")
    if normalised == "inference":
        return 1.0
    norms = config.get("dataset_average_activation_norm") or {}
    width, norm = config.get("d_model"), norms.get("in")
    if normalised != "dataset-wise" or not width or not norm:
        raise ModelError(
            f"{path} scales each input by {normalised} norms without a constant "
            "dataset_average_activation_norm, which cannot be folded into the weights"
        )
    if not isclose(norm, norms.get("out", norm), rel_tol=1e-6):
        raise ModelError(f"{path} scales input and output differently ({norms}), as transcoders do")
    return sqrt(width) / float(norm)


def _kept(given: int | None, stored: Any, source: Path) -> int:
    """Features per token: what the caller says, else what the files say."""
    value = stored if given is None else given
    if value is None:
        raise ModelError(f"{source} does not say how many features a token keeps; pass k")
    return int(value)
