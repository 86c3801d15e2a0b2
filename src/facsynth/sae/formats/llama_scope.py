"""Llama Scope."""

from collections.abc import Mapping
from dataclasses import replace
from math import isclose, sqrt
from pathlib import Path
from typing import Any

import torch

from facsynth.errors import ModelError
from facsynth.sae.formats.parts import (
    Layout,
    ReadOptions,
    SaeParts,
    check_sizes,
    flag,
    fold_decoder_norm,
    fold_input_scale,
    hooked_layer,
    kept_features,
    named,
    scale_factor,
    tensor,
)
from facsynth.sae.formats.stored import read_json, read_safetensors

__all__ = ["LAYOUT"]


def read_llama_scope(folder: Path, options: ReadOptions) -> SaeParts:
    """Llama Scope's `{hyperparams.json, checkpoints/final.safetensors}`.

    Inputs were scaled to a mean norm of sqrt(d_model). The threshold is stored for activations in
    units of the unscaled input and of decoder rows of norm 1, so it is multiplied by that scale
    and the norms are folded first. Activations are then in the units that SAELens reads them in.
    """
    config_path, path = folder / "hyperparams.json", folder / "checkpoints" / "final.safetensors"
    config = read_json(config_path)
    weights = read_safetensors(path)
    scale = _scale(config, config_path)
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
        subtract_b_dec=flag(config, "apply_decoder_bias_to_pre_encoder", False, config_path),
        model_name="meta-llama/Llama-3.1-8B" if named(path, "Llama3_1-8B-Base") else "",
    )
    check_sizes(parts, {name: config.get(name) for name in ("d_model", "d_sae")}, config_path)
    norms = parts.w_dec.norm(dim=1)
    if flag(config, "sparsity_include_decoder_norm", True, config_path) and not torch.allclose(
        norms,
        torch.ones(()),
        atol=0.01,  # what bfloat16 makes of a norm of 1
    ):
        parts = fold_decoder_norm(parts)
    threshold = config.get("jump_relu_threshold") or 0
    if threshold:
        threshold = scale_factor(threshold, "jump_relu_threshold", config_path)
        parts = replace(parts, threshold=torch.full_like(parts.b_enc, threshold * scale))
    elif config.get("act_fn") == "topk":
        parts = replace(parts, k=kept_features(options.k, config.get("top_k"), config_path))
    return fold_input_scale(parts, scale)


def _scale(config: Mapping[str, Any], path: Path) -> float:
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
    one, other = (scale_factor(n, "a norm or width", path) for n in (width, norm))
    return sqrt(one) / other


LAYOUT = Layout(
    "llama_scope",
    read_llama_scope,
    files=("hyperparams.json", "checkpoints/final.safetensors"),
)
