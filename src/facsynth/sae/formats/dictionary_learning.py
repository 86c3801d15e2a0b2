"""dictionary_learning, which keeps many kinds of SAE in one layout."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from facsynth.errors import ModelError
from facsynth.sae.formats.parts import (
    Layout,
    ReadOptions,
    SaeParts,
    check_sizes,
    fold_decoder_norm,
    fold_gated,
    kept_features,
    tensor,
    whole_number,
)
from facsynth.sae.formats.stored import read_json, read_pickle

__all__ = ["LAYOUT"]


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
    claimed = {name: trainer.get(name) for name in ("activation_dim", "dict_size")}
    parts = check_sizes(_matrices(weights, trainer, path), claimed, config_path)
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
        return replace(parts, k=kept_features(options.k, stored, path))
    if kind == "JumpReluAutoEncoder" or batch:
        return replace(parts, threshold=_threshold(parts, weights, path))
    raise ModelError(f"{config_path}: the dict_class {kind!r} is not supported")


def _matrices(weights: Mapping[str, Any], trainer: Mapping[str, Any], path: Path) -> SaeParts:
    bare = "W_enc" in weights  # JumpReLU and Matryoshka keep matrices, the others linear layers
    biases = ("b_enc", "encoder.bias", "mag_bias")
    outputs = ("b_dec", "bias", "decoder_bias", "decoder.bias")
    layer = trainer.get("layer")
    return SaeParts(
        w_enc=tensor(weights, "W_enc", path) if bare else tensor(weights, "encoder.weight", path).T,
        w_dec=tensor(weights, "W_dec", path) if bare else tensor(weights, "decoder.weight", path).T,
        b_enc=tensor(weights, next((n for n in biases if n in weights), biases[0]), path),
        b_dec=tensor(weights, next((n for n in outputs if n in weights), outputs[0]), path),
        layer=None if layer is None else whole_number(layer, "layer", path),
        subtract_b_dec=trainer.get("dict_class") not in ("JumpReluAutoEncoder", "AutoEncoderNew"),
        model_name=str(trainer.get("lm_name") or ""),
    )


def _threshold(parts: SaeParts, weights: Mapping[str, Any], path: Path) -> Tensor:
    threshold = tensor(weights, "threshold", path)
    if threshold.ndim == 0 and threshold < 0:
        raise ModelError(
            f"{path} was saved before training set its threshold ({threshold:g}); pass k to keep "
            "the k largest features of each token instead"
        )
    return threshold.expand_as(parts.b_enc)


LAYOUT = Layout("dictionary_learning", read_dictionary_learning, files=("ae.pt", "config.json"))
