"""The parts of an SAE that every layout holds, and what has to be folded into them.

A reader of a layout turns its files into `SaeParts`; `build_sae` makes the SAE from them. Pickles
are read with `weights_only`, so no file can run code.
"""

import json
import pickle
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from facsynth.errors import ModelError
from facsynth.sae.module import Gate, SaeConfig, SparseAutoencoder, hooked_layer

__all__ = [
    "ReadOptions",
    "SaeParts",
    "build_sae",
    "fold_decoder_norm",
    "fold_gated",
    "fold_input_scale",
    "hooked_layer",
    "named",
    "read_arrays",
    "read_json",
    "read_pickle",
    "read_safetensors",
    "tensor",
]


@dataclass(frozen=True)
class ReadOptions:
    """What the caller knows about an SAE; it wins over the files."""

    layer: int | None = None
    """0-based decoder layer whose output the SAE reads."""

    k: int | None = None
    """Features kept per token."""

    input_scale: float | None = None
    """Factor by which the residual stream was multiplied in training."""

    model_name: str = ""
    """Model that the SAE was trained on."""


@dataclass(frozen=True)
class SaeParts:
    """An SAE as z = gate((x - b_dec) w_enc + b_enc), x̂ = z w_dec + b_dec, in float32."""

    w_enc: Tensor
    """One column per feature: [d_model, n_features]."""

    w_dec: Tensor
    """One row per feature: [n_features, d_model]."""

    b_enc: Tensor
    """[n_features]."""

    b_dec: Tensor
    """[d_model]."""

    layer: int | None
    """0-based decoder layer whose output is read; None when the files do not say."""

    subtract_b_dec: bool
    """Whether `b_dec` is subtracted from the input."""

    threshold: Tensor | None = None
    """Pre-activation that a feature has to exceed, [n_features]; makes it a `jumprelu` SAE."""

    k: int | None = None
    """Features kept per token; makes it a `topk` SAE."""

    model_name: str = ""
    """Model that it was trained on, when the files say so."""

    metadata: dict[str, Any] = field(default_factory=dict)
    """Everything else worth keeping."""


def build_sae(parts: SaeParts, source: Path, *, options: ReadOptions) -> SparseAutoencoder:
    """Make the SAE of its parts, after checking that they fit together.

    Raises:
        ModelError: Shapes do not fit, the layer is unknown, or `k` is out of range.
    """
    d_in, d_sae = _check_shapes(parts, source)
    layer = parts.layer if options.layer is None else options.layer
    if layer is None or layer < 0:
        raise ModelError(
            f"{source} names no decoder layer (found {layer}); pass its layer, counted from 0 as "
            "in model.layers[n]"
        )
    gate: Gate = "standard" if parts.k is None else "topk"
    config = SaeConfig(
        d_in=d_in,
        d_sae=d_sae,
        architecture=gate if parts.threshold is None else "jumprelu",
        layer=layer,
        k=parts.k,
        apply_b_dec_to_input=parts.subtract_b_dec,
        model_name=options.model_name or parts.model_name,
        model_hash=str(parts.metadata.get("model_hash") or ""),
        metadata=parts.metadata,
    )
    tensors = {
        "W_enc": parts.w_enc,
        "W_dec": parts.w_dec,
        "b_enc": parts.b_enc,
        "b_dec": parts.b_dec,
    }
    if parts.threshold is not None:  # below zero nothing is active, whatever the threshold
        tensors["threshold"] = parts.threshold.clamp_min(0)
    with torch.device("meta"):  # no memory for zeros that are replaced at once
        sae = SparseAutoencoder(config)
    for name, value in tensors.items():
        setattr(sae, name, nn.Parameter(value.contiguous(), requires_grad=False))
    return sae.eval()


def _check_shapes(parts: SaeParts, source: Path) -> tuple[int, int]:
    if parts.w_enc.ndim != 2:
        raise ModelError(
            f"{source}: the encoder has shape {tuple(parts.w_enc.shape)}, not two axes; is it an "
            "SAE of one layer?"
        )
    d_in, d_sae = parts.w_enc.shape
    expected = {"w_dec": (d_sae, d_in), "b_enc": (d_sae,), "b_dec": (d_in,)}
    if parts.threshold is not None:
        expected["threshold"] = (d_sae,)
    for name, shape in expected.items():
        found = tuple(getattr(parts, name).shape)
        if found != shape:
            raise ModelError(
                f"{source}: {name} has shape {found}, but an encoder of {d_in} inputs and {d_sae} "
                f"features needs {shape}; the file may be incomplete or transposed"
            )
    return d_in, d_sae


def fold_input_scale(parts: SaeParts, scale: float) -> SaeParts:
    """The same SAE for inputs that are not multiplied by `scale` first; activations stay."""
    return replace(
        parts,
        w_enc=parts.w_enc * scale,
        w_dec=parts.w_dec / scale,
        b_dec=parts.b_dec / scale,
    )


def fold_decoder_norm(parts: SaeParts) -> SaeParts:
    """Decoder rows of norm 1; pre-activations and activations grow by the old norms."""
    assert parts.threshold is None, "set the threshold afterwards, in the units of its format"
    norms = parts.w_dec.norm(dim=1).clamp_min(1e-8)
    return replace(
        parts,
        w_enc=parts.w_enc * norms,
        b_enc=parts.b_enc * norms,
        w_dec=parts.w_dec / norms[:, None],
    )


def fold_gated(parts: SaeParts, *, b_gate: Tensor, b_mag: Tensor, r_mag: Tensor) -> SaeParts:
    """A gated SAE as JumpReLU, which it is exactly.

    With p = x w_enc a gated feature is relu(exp(r_mag) p + b_mag) where p + b_gate > 0; the
    condition is exp(r_mag) p + b_mag > b_mag - exp(r_mag) b_gate.
    """
    scale = r_mag.exp()
    return replace(parts, w_enc=parts.w_enc * scale, b_enc=b_mag, threshold=b_mag - scale * b_gate)


def named(path: Path, pattern: str) -> re.Match[str] | None:
    """Last match of a pattern in a path: layers and models often stand only in its folders."""
    found = list(re.finditer(pattern, path.absolute().as_posix()))
    return found[-1] if found else None


def tensor(weights: Mapping[str, Any], name: str, source: Path) -> Tensor:
    """A tensor of a file, in float32 on the CPU.

    Raises:
        ModelError: The file has none of that name.
    """
    value = weights.get(name)
    if not isinstance(value, Tensor):
        raise ModelError(f"{source} lacks the tensor {name}; it has {', '.join(sorted(weights))}")
    return value.detach().float()


def read_json(path: Path) -> dict[str, Any]:
    """Read an object of a JSON file; a ModelError when it is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(value, dict):
        raise ModelError(f"{path} holds a {type(value).__name__}, not the settings of an SAE")
    return value


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Read all tensors of a safetensors file; a ModelError when it is none."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return dict(load_file(path))
    except (OSError, SafetensorError) as error:
        raise ModelError(f"{path} cannot be read as safetensors: {error}") from error


def read_arrays(path: Path) -> dict[str, Tensor]:
    """Read all arrays of an `.npz` file, without pickles; a ModelError when it is none."""
    try:
        with np.load(path, allow_pickle=False) as arrays:
            return {name: torch.from_numpy(np.asarray(arrays[name])) for name in arrays.files}
    except (OSError, ValueError, TypeError, AttributeError, zipfile.BadZipFile) as error:
        raise ModelError(f"{path} cannot be read as arrays without pickles: {error}") from error


def read_pickle(path: Path) -> dict[str, Any]:
    """Read tensors and plain values of a file of `torch.save`; code in it is never run.

    Raises:
        ModelError: The file needs more than tensors and plain values, or is damaged.
    """
    try:
        value = torch.load(
            path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path)
        )
    except (OSError, RuntimeError, ValueError, EOFError, pickle.UnpicklingError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ModelError(
            f"{path} is damaged or holds more than tensors and plain values, which facsynth does "
            f"not read because it can run code ({reason}); ask for a file of tensors only"
        ) from error
    if not isinstance(value, Mapping):
        raise ModelError(f"{path} holds a {type(value).__name__}, not named tensors")
    return {str(name): item for name, item in value.items()}
