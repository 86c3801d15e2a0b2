"""Facts about an SAE and the files that it was read from, with names that stay."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from facsynth.sae.formats.layouts import detect_format, stored_files
from facsynth.sae.formats.stored import read_arrays, read_pickle, read_safetensors
from facsynth.sae.module import SparseAutoencoder

__all__ = ["describe_sae"]

_LICENCE_KEYS = ("licence", "license")


def describe_sae(sae: SparseAutoencoder, path: Path) -> dict[str, Any]:
    """Facts about an SAE, for people and for machines.

    Args:
        sae: The SAE as it was read.
        path: The local folder or file that it was read from.

    Returns:
        `n_features`, `d_model`, `gate`, `k`, `layer` (0-based decoder layer, `model.layers[n]`),
        `hidden_states_index` (`layer` + 1), `subtracts_decoder_bias`, `model_name`, `model_hash`,
        `layout`, `dtype` (of the stored encoder), `n_bytes` (of the stored files), `licence`,
        `content_hash`; None for what the files do not say.
    """
    config = sae.config
    files = stored_files(path)
    return {
        "n_features": config.d_sae,
        "d_model": config.d_in,
        "gate": config.architecture,
        "k": config.k,
        "layer": config.layer,
        "hidden_states_index": config.layer + 1,
        "subtracts_decoder_bias": config.apply_b_dec_to_input,
        "model_name": config.model_name or None,
        "model_hash": config.model_hash or None,
        "layout": config.metadata.get("source_format") or detect_format(path),
        "dtype": _stored_dtype(files),
        "n_bytes": sum(file.stat().st_size for file in files),
        "licence": _licence(config.metadata, files),
        "content_hash": sae.content_hash,
    }


def _stored_dtype(files: Iterable[Path]) -> str | None:
    """Precision of the largest stored tensor."""
    readers = {
        ".safetensors": read_safetensors,
        ".npz": read_arrays,
        ".pt": read_pickle,
        ".pth": read_pickle,
    }
    tensors = [t for f in files if f.suffix in readers for t in _tensors(readers[f.suffix](f))]
    if not tensors:
        return None
    return str(max(tensors, key=lambda t: t.numel()).dtype).removeprefix("torch.")


def _tensors(values: Mapping[str, Any]) -> list[Tensor]:
    """All tensors of a table, those of tables in it too."""
    nested = [t for v in values.values() if isinstance(v, Mapping) for t in _tensors(v)]
    return [v for v in values.values() if isinstance(v, Tensor)] + nested


def _licence(metadata: Mapping[str, Any], files: Iterable[Path]) -> str | None:
    """Licence in the metadata, or in the front matter of a README beside the files."""
    for key in _LICENCE_KEYS:
        if metadata.get(key):
            return str(metadata[key])
    for folder in dict.fromkeys(file.parent for file in files):
        card = folder / "README.md"
        lines = card.read_text(encoding="utf-8").splitlines() if card.is_file() else []
        front = (
            lines[1 : lines.index("---", 1)] if lines[:1] == ["---"] and "---" in lines[1:] else []
        )
        for line in front:
            name, _, value = line.partition(":")
            if name in _LICENCE_KEYS and value.strip():
                return value.strip().strip("\"'")
    return None
