"""SAELens' layout: `cfg.json` + `sae_weights.safetensors`, of any version and for any gate.

Configurations from before version 6 keep everything at the top level and use other names;
training checkpoints of the batch top-k kinds keep one threshold instead of one per feature.
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from facsynth.errors import ModelError
from facsynth.sae.formats.parts import (
    Layout,
    ReadOptions,
    SaeParts,
    check_sizes,
    flag,
    fold_decoder_norm,
    fold_gated,
    fold_input_scale,
    hooked_layer,
    scale_factor,
    tensor,
    whole_number,
)
from facsynth.sae.formats.stored import read_json, read_safetensors

__all__ = ["CONFIG_FILE", "LAYOUT", "SCALER_FILE", "WEIGHTS_FILE"]

CONFIG_FILE = "cfg.json"
WEIGHTS_FILE = "sae_weights.safetensors"
SCALER_FILE = "activation_scaler.json"

_RENAMED = {
    "hook_point": "hook_name",
    "hook_point_layer": "hook_layer",
    "activation_fn_str": "activation_fn",
}
"""Names of old configurations, by today's."""

_BATCH_TOPK = ("batchtopk", "matryoshka_batchtopk")
_ARCHITECTURES = ("standard", "topk", "jumprelu", "gated", *_BATCH_TOPK)

_FACTS = ("dataset_path", "context_size", "prepend_bos", "sae_lens_version", "neuronpedia_id")
"""What an old configuration has at the top level and today's in `metadata`."""


def read_saelens(folder: Path, options: ReadOptions) -> SaeParts:
    """Parts of an SAE in SAELens' layout; scales and decoder norms are folded in.

    Raises:
        ModelError: The SAE cannot be expressed exactly, or a file is incomplete.
    """
    config_path, weights_path = folder / CONFIG_FILE, folder / WEIGHTS_FILE
    config = _migrated(read_json(config_path))
    weights = read_safetensors(weights_path)
    architecture = config["architecture"]
    if architecture not in _ARCHITECTURES or config.get("activation_fn", "relu") not in (
        "relu",
        "topk",
    ):
        raise ModelError(
            f"{config_path}: the architecture {architecture!r} with activation "
            f"{config.get('activation_fn', 'relu')!r} is not supported; supported are "
            f"{', '.join(_ARCHITECTURES)} with relu"
        )
    parts = _ungated_parts(config, weights, folder)
    check_sizes(parts, {name: config.get(name) for name in ("d_in", "d_sae")}, config_path)
    if flag(config, "rescale_acts_by_decoder_norm", False, config_path):
        parts = fold_decoder_norm(parts)
    parts = _with_gate(parts, config, weights, folder, k=options.k)
    scale = _input_scale(config, folder, options)
    return parts if scale is None else fold_input_scale(parts, scale)


def _migrated(raw: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration of any version with today's names, `metadata` also at the top level."""
    metadata = raw.get("metadata") or {}
    if not isinstance(metadata, dict):
        raise ModelError(f"{CONFIG_FILE}: metadata is {str(metadata)[:40]!r}, not a table")
    facts = {name: raw[name] for name in _FACTS if raw.get(name) is not None}
    config: dict[str, Any] = {**metadata, "metadata": {**facts, **metadata}}
    config |= {
        _RENAMED.get(key, key): value
        for key, value in raw.items()
        if key != "metadata" and value is not None
    }
    config.setdefault("architecture", "standard")
    if config.get("activation_fn") == "topk":
        config["architecture"] = "topk"
        config.setdefault("k", (config.get("activation_fn_kwargs") or {}).get("k"))
    if isinstance(config.get("normalize_activations"), bool):
        config["normalize_activations"] = (
            "expected_average_only_in" if config["normalize_activations"] else "none"
        )
    return config


def _ungated_parts(
    config: Mapping[str, Any], weights: Mapping[str, Tensor], folder: Path
) -> SaeParts:
    path = folder / WEIGHTS_FILE
    hook = config.get("hf_hook_name") or config.get("hook_name")
    bias = "b_mag" if config["architecture"] == "gated" else "b_enc"
    return SaeParts(
        w_enc=tensor(weights, "W_enc", path),
        w_dec=_tuned_decoder(config, weights, path),
        b_enc=tensor(weights, bias, path),
        b_dec=tensor(weights, "b_dec", path),
        layer=hooked_layer(str(hook), folder / CONFIG_FILE) if hook else None,
        subtract_b_dec=flag(config, "apply_b_dec_to_input", True, folder / CONFIG_FILE),
        model_name=str(config.get("model_name") or ""),
        metadata=config["metadata"],
    )


def _tuned_decoder(config: Mapping[str, Any], weights: Mapping[str, Tensor], path: Path) -> Tensor:
    """Decoder with the scales of a fine-tuning, which apply to decoding only."""
    decoder = tensor(weights, "W_dec", path)
    names = [n for n in ("scaling_factor", "finetuning_scaling_factor") if n in weights]
    if not names or bool((weights[names[0]] == 1).all()):
        return decoder
    if not config.get("finetuning_scaling_factor"):
        raise ModelError(
            f"{path} has a {names[0]} but {CONFIG_FILE} says that it is not used; set "
            "finetuning_scaling_factor to true or drop the tensor"
        )
    return decoder * tensor(weights, names[0], path)[:, None]


def _with_gate(
    parts: SaeParts,
    config: Mapping[str, Any],
    weights: Mapping[str, Tensor],
    folder: Path,
    *,
    k: int | None,
) -> SaeParts:
    path = folder / WEIGHTS_FILE
    architecture = config["architecture"]
    if architecture == "topk" or (architecture in _BATCH_TOPK and k is not None):
        kept = config.get("k") if k is None else k
        if kept is None:
            raise ModelError(f"{folder / CONFIG_FILE} has no k; pass the k of the SAE")
        return replace(parts, k=whole_number(kept, "k", folder / CONFIG_FILE))
    if architecture == "gated":
        gate = {name: tensor(weights, name, path) for name in ("b_gate", "b_mag", "r_mag")}
        return fold_gated(parts, **gate)
    if architecture in _BATCH_TOPK and "topk_threshold" in weights:
        single = tensor(weights, "topk_threshold", path)
        return replace(parts, threshold=single.expand_as(parts.b_enc))
    if architecture == "standard":
        return parts
    return replace(parts, threshold=tensor(weights, "threshold", path))


def _input_scale(config: Mapping[str, Any], folder: Path, options: ReadOptions) -> float | None:
    """Constant by which inputs have to be multiplied; None when there is none."""
    wanted = config.get("normalize_activations") or "none"
    if wanted == "none":
        if options.input_scale is not None:
            raise ModelError(
                f"{folder / CONFIG_FILE} does not scale its input; drop input_scale="
                f"{options.input_scale:g}"
            )
        return None
    if wanted != "expected_average_only_in":
        raise ModelError(
            f"{folder / CONFIG_FILE} asks for normalize_activations={wanted!r}, which is not a "
            "constant factor and is not folded into the weights; use an SAE without it"
        )
    scale = options.input_scale or config.get("norm_scaling_factor")
    if scale is None and (folder / SCALER_FILE).is_file():
        scale = read_json(folder / SCALER_FILE).get("scaling_factor")
    if not scale:
        raise ModelError(
            f"{folder / CONFIG_FILE} multiplies its input by a constant that no file names; pass "
            "input_scale: sqrt(d_in) divided by the mean norm of the activations (SAELens' "
            "registry calls it norm_scaling_factor)"
        )
    return scale_factor(scale, "the scale of the input", folder)


LAYOUT = Layout("saelens", read_saelens, files=(CONFIG_FILE, WEIGHTS_FILE))
