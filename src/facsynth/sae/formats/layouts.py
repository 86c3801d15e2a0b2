"""SAEs of other projects, read as ours: which layout a path holds, and the SAE in it.

| layout | files |
|---|---|
| `saelens` | `cfg.json`, `sae_weights.safetensors` |
| `paper` | `TopK7_l16_h4096_epoch3.pth`, of arXiv 2602.10388 |
| `sparsify` | `layers.7/cfg.json`, `layers.7/sae.safetensors` |
| `dictionary_learning` | `ae.pt`, `config.json` |
| `gemma_scope` | `layer_20/.../params.npz` |
| `gemma_scope_2` | `config.json`, `params.safetensors` |
| `llama_scope` | `hyperparams.json`, `checkpoints/final.safetensors` |
| `qwen_scope` | `layer7.sae.pt` |
| `goodfire` | `Llama-3.1-8B-Instruct-SAE-l19.pth` |
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from facsynth.errors import ModelError
from facsynth.sae.formats import external as external
from facsynth.sae.formats.parts import ReadOptions, SaeParts, build_sae, read_pickle
from facsynth.sae.formats.saelens import read_saelens
from facsynth.sae.module import SparseAutoencoder

__all__ = ["LAYOUTS", "Layout", "detect_format", "read_external_sae", "stored_files"]


@dataclass(frozen=True)
class Layout:
    """How the SAEs of one project lie on disk."""

    name: str
    """Name of the layout."""

    files: tuple[str, ...]
    """Files that a folder in this layout has; empty when it is a single pickle."""

    tensors: frozenset[str]
    """Names at the top of the pickle; empty when it is a folder."""

    read: Callable[[Path, ReadOptions], SaeParts]
    """Reader of the folder or of the pickle."""


def _folder(name: str, read: Callable[[Path, ReadOptions], SaeParts], *files: str) -> Layout:
    return Layout(name=name, files=files, tensors=frozenset(), read=read)


def _pickle(name: str, read: Callable[[Path, ReadOptions], SaeParts], *tensors: str) -> Layout:
    return Layout(name=name, files=(), tensors=frozenset(tensors), read=read)


LAYOUTS = (
    _folder("saelens", read_saelens, "cfg.json", "sae_weights.safetensors"),
    _folder("sparsify", external.read_sparsify, "cfg.json", "sae.safetensors"),
    _folder("dictionary_learning", external.read_dictionary_learning, "ae.pt", "config.json"),
    _folder("gemma_scope", external.read_gemma_scope, "params.npz"),
    _folder("gemma_scope_2", external.read_gemma_scope_2, "params.safetensors"),
    _folder(
        "llama_scope",
        external.read_llama_scope,
        "hyperparams.json",
        "checkpoints/final.safetensors",
    ),
    _pickle("paper", external.read_paper, "weight", "config"),
    _pickle("goodfire", external.read_goodfire, "encoder_linear.weight", "decoder_linear.weight"),
    _pickle("qwen_scope", external.read_qwen_scope, "W_enc", "W_dec", "b_enc", "b_dec"),
)
"""Every layout that can be read, the more specific ones first."""


def detect_format(path: str | Path) -> str:
    """Name of the layout of an SAE on disk: a folder, a pickle, or any file of the folder.

    Raises:
        ModelError: The path does not exist, or holds no known layout.
    """
    return _find(Path(path))[0].name


def stored_files(path: str | Path) -> list[Path]:
    """The files of an SAE on disk, by its layout.

    Raises:
        ModelError: As for `detect_format`.
    """
    layout, source = _find(Path(path))
    return [source / name for name in layout.files] or [source]


def read_external_sae(
    path: str | Path,
    *,
    layer: int | None = None,
    k: int | None = None,
    input_scale: float | None = None,
    model_name: str = "",
) -> SparseAutoencoder:
    """Read an SAE of any known layout as ours, with everything folded into the weights.

    Pickles are read as tensors and plain values only.

    Args:
        path: A folder, a pickle, or any file of the folder.
        layer: 0-based decoder layer whose output it reads, when the files do not say or are wrong.
        k: Features kept per token, for top-k kinds; makes a batch top-k SAE keep k per token.
        input_scale: Factor by which inputs were multiplied, for SAELens files that leave it out.
        model_name: Model that it was trained on, when the files do not say.

    Raises:
        ModelError: Unknown layout, incomplete files, something that our SAE cannot express
            exactly, or a missing fact, with the name of the argument that supplies it.
    """
    layout, source = _find(Path(path))
    options = ReadOptions(layer=layer, k=k, input_scale=input_scale, model_name=model_name)
    if input_scale is not None and layout.name != "saelens":
        raise ModelError(f"{source}: the layout {layout.name} takes no input_scale; drop it")
    parts = layout.read(source, options)
    if k is not None and parts.k is None:
        raise ModelError(f"{source} is not a top-k SAE; drop k={k}")
    if layout.name != "saelens":  # which says itself where it comes from
        origin = {"source_format": layout.name, "source_name": source.absolute().name}
        parts = replace(parts, metadata=origin)
    return build_sae(parts, source, options=options)


def _find(path: Path) -> tuple[Layout, Path]:
    """The layout, and the folder or pickle that its reader wants."""
    if not path.exists():
        raise ModelError(f"{path} does not exist; expected the folder or the file of an SAE")
    folders = [path] if path.is_dir() else [path.parent, path.parent.parent]
    for layout in LAYOUTS:
        for folder in folders if layout.files else ():
            inside = [folder / name for name in layout.files]
            if all(file.is_file() for file in inside) and (path == folder or path in inside):
                return layout, folder
    pickle = _single_pickle(path)
    names = read_pickle(pickle).keys() if pickle else set[str]()
    for layout in LAYOUTS:
        if pickle and layout.tensors and layout.tensors <= names:
            return layout, pickle
    raise ModelError(_unknown(path, sorted(names)))


def _single_pickle(path: Path) -> Path | None:
    """The pickle that the path is, or the only one in the folder."""
    if path.is_file():
        return path if path.suffix in (".pt", ".pth") else None
    found = sorted(file for file in path.iterdir() if file.suffix in (".pt", ".pth"))
    if len(found) > 1:
        names = ", ".join(file.name for file in found[:12])
        raise ModelError(f"{path} holds {len(found)} pickles ({names}); name one of them")
    return found[0] if found else None


def _unknown(path: Path, tensors: list[str]) -> str:
    found = sorted(file.name for file in path.iterdir())[:12] if path.is_dir() else [path.name]
    known = "; ".join(
        f"{layout.name} ({' + '.join(layout.files or sorted(layout.tensors))})"
        for layout in LAYOUTS
    )
    inside = f" with {', '.join(tensors[:12])}" if tensors else ""
    halves = [
        f"for {layout.name} {' and '.join(missing)} is missing; "
        for layout in LAYOUTS
        if (missing := [name for name in layout.files if not (path / name).is_file()])
        and len(missing) < len(layout.files)
    ]
    return (
        f"{path} is no known layout of an SAE: found {', '.join(found) or 'nothing'}{inside}; "
        f"{''.join(halves)}known are {known}"
    )
