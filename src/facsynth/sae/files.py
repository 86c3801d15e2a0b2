"""SAEs on disk: read from any format, written in SAELens' layout."""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from facsynth.data.write import write_json
from facsynth.folders import atomic_path
from facsynth.models.default_model import default_sae_folder
from facsynth.sae.formats.layouts import detect_format, read_sae
from facsynth.sae.formats.saelens import CONFIG_FILE, SCALER_FILE, WEIGHTS_FILE
from facsynth.sae.module import SaeConfig, SparseAutoencoder
from facsynth.sae.sources import find_sae

__all__ = ["load_sae", "save_sae"]

_SAELENS_VERSION = "6.0.0"
"""First version of SAELens with this layout; without it SAELens drops the metadata it reads."""

_HASHED = (CONFIG_FILE, WEIGHTS_FILE, SCALER_FILE)
"""Files that together determine an SAE in SAELens' layout."""


def load_sae(
    path: str | Path | None = None, *, device: str | torch.device = "cpu"
) -> SparseAutoencoder:
    """Read an SAE; without a path the embedded one.

    Args:
        path: A folder or file in a format of `facsynth.sae.formats`, a repository of the Hub,
            `saelens:RELEASE/ID` or `default`, the embedded one; see `facsynth.sae.sources`.
        device: Where the weights go.

    Raises:
        ModelError: A file is missing or unreadable, or names, shapes or kinds do not fit.
    """
    source = default_sae_folder() if path is None else find_sae(path)
    sae = read_sae(source)
    if detect_format(source) == "saelens":
        folder = source if source.is_dir() else source.parent
        sae.set_content_hash(_hash_files(folder / name for name in _HASHED))
    return sae.to(device)


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


def _hash_files(paths: Iterable[Path]) -> str:
    digest = hashlib.sha256()
    for path in paths:
        if path.is_file():
            digest.update(path.read_bytes())
    return digest.hexdigest()
