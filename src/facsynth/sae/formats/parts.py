"""What every SAE format comes down to: `SaeParts`, and what is folded into them.

A format is one file beside this one, with a `Layout` that is listed in `layouts`. Its reader
returns `SaeParts`: matrices as [d_model, n_features] and [n_features, d_model], scales folded in,
the layer counted from 0. What our SAE cannot express exactly is an error, never an approximation.
"""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from facsynth.errors import ModelError
from facsynth.sae.formats.options import ReadOptions
from facsynth.sae.module import Gate, SaeConfig, SparseAutoencoder

__all__ = [
    "Layout",
    "ReadOptions",
    "SaeParts",
    "build_sae",
    "check_sizes",
    "flag",
    "fold_decoder_norm",
    "fold_gated",
    "fold_input_scale",
    "hooked_layer",
    "kept_features",
    "named",
    "scale_factor",
    "tensor",
    "whole_number",
]


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


@dataclass(frozen=True)
class Layout:
    """How the SAEs of one project lie on disk: as files of a folder, or as one pickle."""

    name: str

    read: Callable[[Path, ReadOptions], SaeParts]
    """Reader of the folder or of the pickle."""

    files: tuple[str, ...] = ()
    """Files that a folder in this layout has; empty if it is a single pickle."""

    tensors: frozenset[str] = frozenset()
    """Names at the top of the pickle; empty if it is a folder."""


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
    for name, value in tensors.items():
        # In double precision a sum of finite numbers is finite; it takes no memory.
        if not math.isfinite(value.sum(dtype=torch.float64).item()):
            raise ModelError(f"{source}: {name} is not finite everywhere; the file is damaged")
    if parts.threshold is not None:  # negative pre-activations are never active
        if bool(parts.threshold.isnan().any()):
            raise ModelError(f"{source}: a threshold is not a number; the file is damaged")
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
        found = ", ".join(sorted(weights))[:300]
        raise ModelError(f"{source} lacks the tensor {name}; it has {found}")
    if (
        value.layout != torch.strided
        or value.device.type != "cpu"
        or not value.dtype.is_floating_point
    ):
        raise ModelError(f"{source}: {name} is {value.dtype} ({value.layout}), not plain numbers")
    # A stride of 0 repeats a number without end: its copy would take more memory than the file.
    if value.numel() * value.element_size() > max(value.untyped_storage().nbytes(), 1):
        raise ModelError(
            f"{source}: {name} has shape {tuple(value.shape)}, and the file holds fewer numbers"
        )
    return value.detach().float()


def kept_features(given: int | None, stored: Any, source: Path) -> int:
    """Features per token: what the caller says, else what the files say."""
    value = stored if given is None else given
    if value is None:
        raise ModelError(f"{source} does not say how many features a token keeps; pass k")
    return whole_number(value, "k", source)


def whole_number(value: Any, name: str, source: Path) -> int:
    """A count in a file, as a number or a tensor of one.

    Raises:
        ModelError: It is something else.
    """
    if isinstance(value, Tensor) and value.numel() == 1 and not value.is_meta:
        value = value.item()
    is_whole = isinstance(value, int) or (isinstance(value, float) and value.is_integer())
    if isinstance(value, bool) or not is_whole or not 0 <= value < 2**31:
        raise ModelError(f"{source}: {name} is {str(value)[:40]!r}, not a whole number")
    return int(value)


def flag(config: Mapping[str, Any], name: str, default: bool, source: Path) -> bool:
    """A yes or no of a configuration.

    Raises:
        ModelError: It is something else, such as the text "false".
    """
    value = config.get(name, default)
    if not isinstance(value, bool):
        raise ModelError(f"{source}: {name} is {str(value)[:40]!r}, neither true nor false")
    return value


def scale_factor(value: Any, name: str, source: Path) -> float:
    """A factor of a file.

    Raises:
        ModelError: It is not a finite number above 0.
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not 0 < value < math.inf:
        raise ModelError(f"{source}: {name} is {str(value)[:40]!r}, not a number above 0")
    return float(value)


def check_sizes(parts: SaeParts, claimed: Mapping[str, Any], source: Path) -> SaeParts:
    """The parts, unless the configuration speaks of another width.

    Args:
        parts: What the tensors say.
        claimed: Inputs and features under the names of the format, in this order; None where the
            configuration does not say.
        source: The configuration, for errors.
    """
    for (name, value), size in zip(claimed.items(), parts.w_enc.shape, strict=False):
        if value is not None and (isinstance(value, bool) or value != size):
            raise ModelError(
                f"{source} says {name}={str(value)[:40]}, and the encoder has shape "
                f"{tuple(parts.w_enc.shape)}; the two files do not belong together"
            )
    return parts


def hooked_layer(hook: str, source: Path) -> int:
    """0-based decoder layer whose output is the residual stream at a hook, in either dialect.

    Raises:
        ModelError: The hook is elsewhere: attention, MLP, embeddings, a cross-layer transcoder.
    """
    after = re.fullmatch(r"blocks\.(\d+)\.hook_resid_post|(?:\w+\.)+(\d+)(?:\.output)?", hook)
    if after:
        return int(after[1] or after[2])
    before = re.fullmatch(r"blocks\.([1-9]\d*)\.hook_resid_pre", hook)
    if before:
        return int(before[1]) - 1
    raise ModelError(
        f"{source} reads {hook}, which is not the output of a decoder layer; use an SAE of the "
        "residual stream"
    )
