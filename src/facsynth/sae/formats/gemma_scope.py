"""Gemma Scope 1 and 2."""

import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from facsynth.errors import ModelError
from facsynth.sae.formats.parts import (
    Layout,
    ReadOptions,
    SaeParts,
    hooked_layer,
    named,
    tensor,
)
from facsynth.sae.formats.stored import read_arrays, read_json, read_safetensors

__all__ = ["LAYOUT", "LAYOUT_2"]


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


LAYOUT = Layout("gemma_scope", read_gemma_scope, files=("params.npz",))
LAYOUT_2 = Layout("gemma_scope_2", read_gemma_scope_2, files=("params.safetensors",))
