"""Facts about an SAE and the files that it was read from."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from facsynth.sae.files import load_sae
from facsynth.sae.formats.layouts import detect_format, stored_files
from facsynth.sae.formats.stored import read_arrays, read_pickle, read_safetensors
from facsynth.sae.sources import find_sae
from facsynth.show import TextTable, as_html

__all__ = ["SaeFacts", "describe_sae"]

_LICENCE_KEYS = ("licence", "license")

_TITLES = {
    "n_features": "features",
    "d_model": "width of the model",
    "layer": "layer, 0-based (model.layers[n])",
    "hidden_states_index": "layer, 1-based (hidden_states[n])",
    "n_bytes": "bytes on disk",
}
"""Names for people, where that of the field is not clear enough."""


@dataclass(frozen=True)
class SaeFacts:
    """Facts about an SAE; None for what its files do not say."""

    n_features: int

    d_model: int
    """Width of the residual stream that it reads."""

    gate: str
    """`standard` (ReLU), `topk` or `jumprelu`."""

    k: int | None
    """Features kept per token, of a `topk` SAE."""

    layer: int
    """0-based decoder layer: it reads the output of `model.layers[layer]`."""

    hidden_states_index: int
    """`layer` + 1, the index into Transformers' `hidden_states`."""

    subtracts_decoder_bias: bool
    model_name: str | None
    model_hash: str | None

    layout: str
    """Format of the files, or the one that they were converted from."""

    dtype: str | None
    """Precision of the stored encoder."""

    n_bytes: int
    """Size of the stored files."""

    licence: str | None
    content_hash: str

    def row(self) -> dict[str, Any]:
        """The facts under the names of the fields."""
        return asdict(self)

    def tables(self) -> list[TextTable]:
        """One table, a fact a row."""
        rows = [(_TITLES.get(n, n.replace("_", " ")), value) for n, value in self.row().items()]
        return [TextTable("SAE", ("what", "value"), rows)]

    _repr_html_ = as_html


def describe_sae(source: str | Path = "default") -> SaeFacts:
    """Read an SAE and say what it is.

    Args:
        source: Whatever `load_sae` takes.
    """
    path = find_sae(source)
    sae = load_sae(path)
    config = sae.config
    files = stored_files(path)
    return SaeFacts(
        n_features=config.d_sae,
        d_model=config.d_in,
        gate=config.architecture,
        k=config.k,
        layer=config.layer,
        hidden_states_index=config.layer + 1,
        subtracts_decoder_bias=config.apply_b_dec_to_input,
        model_name=config.model_name or None,
        model_hash=config.model_hash or None,
        layout=config.metadata.get("source_format") or detect_format(path),
        dtype=_stored_dtype(files),
        n_bytes=sum(file.stat().st_size for file in files),
        licence=_licence(config.metadata, files),
        content_hash=sae.content_hash,
    )


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
        lines = _first_lines(card) if card.is_file() else []
        front = (
            lines[1 : lines.index("---", 1)] if lines[:1] == ["---"] and "---" in lines[1:] else []
        )
        for line in front:
            name, _, value = line.partition(":")
            if name in _LICENCE_KEYS and value.strip():
                return value.strip().strip("\"'")
    return None


def _first_lines(path: Path) -> list[str]:
    with path.open(encoding="utf-8", errors="replace") as stream:
        return stream.read(1 << 16).splitlines()
