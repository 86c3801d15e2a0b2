"""SAEs on disk in SAELens' layout: a folder with `cfg.json` and `sae_weights.safetensors`."""

import hashlib
import json
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from facsynth.data.write import atomic_path, write_json
from facsynth.errors import ModelError
from facsynth.models.default_model import default_sae_folder
from facsynth.sae.formats.layouts import read_external_sae
from facsynth.sae.module import Gate, SaeConfig, SparseAutoencoder, hooked_layer
from facsynth.sae.sources import find_sae

__all__ = ["load_sae", "save_sae"]

CONFIG_FILE = "cfg.json"

WEIGHTS_FILE = "sae_weights.safetensors"

_SAELENS_VERSION = "6.0.0"
"""First version of SAELens with this layout; without it SAELens drops the metadata it reads."""

_TO_FOLD = ("normalize_activations", "rescale_acts_by_decoder_norm")
"""SAELens' settings that `facsynth.sae.formats.layouts` folds into the weights."""


def load_sae(
    path: str | Path | None = None, *, device: str | torch.device = "cpu"
) -> SparseAutoencoder:
    """Read an SAE; without a path the embedded one.

    Args:
        path: A folder or file in a layout that `facsynth.sae.formats.layouts` knows, a repository of
            the Hub, `saelens:RELEASE/ID` or `default`, the embedded one; see
            `facsynth.sae.sources`.
        device: Where the weights go.

    Raises:
        ModelError: A file is missing or unreadable, or names, shapes or kinds do not fit.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    folder = default_sae_folder() if path is None else find_sae(path)
    if path is not None and not _needs_no_folding(folder):
        return read_external_sae(folder).to(device)
    try:
        raw = dict(json.loads((folder / CONFIG_FILE).read_text()))
        weights = load_file(folder / WEIGHTS_FILE)
    except (OSError, ValueError, TypeError, SafetensorError) as error:
        raise ModelError(f"{folder} cannot be read as an SAE: {error}") from error
    sae = SparseAutoencoder(_parse_config(raw, folder))
    _fill(sae, weights, folder)
    sae._file_hash = _hash_files(folder / CONFIG_FILE, folder / WEIGHTS_FILE)
    return sae.to(device).eval()


def save_sae(
    sae: SparseAutoencoder, path: str | Path, *, dtype: torch.dtype = torch.float32
) -> Path:
    """Write an SAE in SAELens' layout; matrices in `dtype`, biases in float32."""
    from safetensors.torch import save_file

    folder = Path(path)
    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        name: (value.to(dtype) if name.startswith("W_") else value.float()).contiguous().cpu()
        for name, value in sae.state_dict().items()
    }
    with atomic_path(folder / WEIGHTS_FILE) as temporary:
        save_file(weights, temporary)
    write_json(_config_row(sae.config), folder / CONFIG_FILE)
    return folder


def _needs_no_folding(folder: Path) -> bool:
    """Whether it is SAELens' layout with a gate and an input that are taken as they are."""
    if not all((folder / name).is_file() for name in (CONFIG_FILE, WEIGHTS_FILE)):
        return False
    try:
        raw = json.loads((folder / CONFIG_FILE).read_text())
    except (OSError, ValueError):
        return True  # an error that `load_sae` reports
    return not isinstance(raw, dict) or (
        raw.get("architecture") in get_args(Gate)
        and all(raw.get(key) in (None, False, "none") for key in _TO_FOLD)
    )


def _config_row(config: SaeConfig) -> dict[str, Any]:
    metadata = {
        **config.metadata,
        "model_name": config.model_name,
        "model_hash": config.model_hash,
        "hook_name": f"blocks.{config.layer}.hook_resid_post",
        "hf_hook_name": f"model.layers.{config.layer}",
        "hook_layer": config.layer,
        "sae_lens_version": _SAELENS_VERSION,
    }
    row: dict[str, Any] = {
        "architecture": config.architecture,
        "d_in": config.d_in,
        "d_sae": config.d_sae,
        "dtype": "float32",
        "device": "cpu",
        "apply_b_dec_to_input": config.apply_b_dec_to_input,
        "normalize_activations": "none",
        "reshape_activations": "none",
        "metadata": metadata,
    }
    if config.k is not None:
        row |= {"k": config.k, "rescale_acts_by_decoder_norm": False}
    return row


def _parse_config(raw: dict[str, Any], folder: Path) -> SaeConfig:
    metadata = dict(raw.get("metadata") or {})
    hook = metadata.get("hf_hook_name") or metadata.get("hook_name") or raw.get("hook_name", "")
    missing = [key for key in ("d_in", "d_sae", "architecture") if key not in raw]
    if missing or not hook:
        raise ModelError(
            f"{folder / CONFIG_FILE} lacks {', '.join(missing) or 'a hook name with a layer'}; "
            f"it has {', '.join(sorted(raw))}"
        )
    return SaeConfig(
        d_in=raw["d_in"],
        d_sae=raw["d_sae"],
        architecture=raw["architecture"],
        layer=hooked_layer(str(hook), folder / CONFIG_FILE),
        k=raw.get("k"),
        apply_b_dec_to_input=raw.get("apply_b_dec_to_input", True),
        model_name=metadata.get("model_name", ""),
        model_hash=metadata.get("model_hash", ""),
        metadata=metadata,
    )


def _fill(sae: SparseAutoencoder, weights: dict[str, Tensor], folder: Path) -> None:
    for name, parameter in sae.named_parameters():
        if name not in weights:
            raise ModelError(
                f"{folder / WEIGHTS_FILE} lacks the tensor {name}; it has "
                f"{', '.join(sorted(weights))}"
            )
        if weights[name].shape != parameter.shape:
            raise ModelError(
                f"{folder / WEIGHTS_FILE}: {name} has shape {tuple(weights[name].shape)}, but "
                f"{CONFIG_FILE} implies {tuple(parameter.shape)}"
            )
        parameter.data = weights[name].float()


def _hash_files(*paths: Path) -> str:
    digest = hashlib.sha256()
    for path in paths:
        digest.update(path.read_bytes())
    return digest.hexdigest()
