"""The list of SAE formats: which one a path holds, and the SAE in it.

To add a format, write one file beside this one and list its `Layout` here.

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

from dataclasses import replace
from pathlib import Path

from facsynth.errors import ModelError
from facsynth.sae.formats import (
    dictionary_learning,
    gemma_scope,
    goodfire,
    llama_scope,
    paper,
    qwen_scope,
    saelens,
    sparsify,
)
from facsynth.sae.formats.parts import Layout, ReadOptions, build_sae
from facsynth.sae.formats.stored import read_pickle
from facsynth.sae.module import SparseAutoencoder

__all__ = ["LAYOUTS", "ReadOptions", "detect_format", "read_sae", "stored_files"]

LAYOUTS = (
    saelens.LAYOUT,
    sparsify.LAYOUT,
    dictionary_learning.LAYOUT,
    gemma_scope.LAYOUT,
    gemma_scope.LAYOUT_2,
    llama_scope.LAYOUT,
    paper.LAYOUT,
    goodfire.LAYOUT,
    qwen_scope.LAYOUT,
)
"""Every format; the first that fits is taken, so the more specific ones stand first."""

_BROKEN = (
    *(ValueError, TypeError, KeyError, IndexError, AttributeError, OverflowError, OSError),
    *(RuntimeError, MemoryError, ZeroDivisionError),
)
"""What a reader meets in files that are not what their names say."""


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


def read_sae(path: str | Path, options: ReadOptions | None = None) -> SparseAutoencoder:
    """Read an SAE of any known format, with everything folded into the weights.

    Pickles are read as tensors and plain values only.

    Args:
        path: A folder, a pickle, or any file of the folder.
        options: What the files do not say.

    Raises:
        ModelError: Unknown format, incomplete files, something that our SAE cannot express
            exactly, or a missing fact, with the name of the option that supplies it.
    """
    options = options or ReadOptions()
    layout, source = _find(Path(path))
    if options.input_scale is not None and layout.name != "saelens":
        raise ModelError(f"{source}: the layout {layout.name} takes no input_scale; drop it")
    try:
        parts = layout.read(source, options)
    except _BROKEN as error:
        raise ModelError(
            f"{source} is not an SAE in the layout {layout.name}: {type(error).__name__} "
            f"{str(error)[:200]}"
        ) from error
    if options.k is not None and parts.k is None:
        raise ModelError(f"{source} is not a top-k SAE; drop k={options.k}")
    if layout.name != "saelens":  # whose metadata already says where the SAE comes from
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
        f"{path} has no known SAE format: found {', '.join(found) or 'nothing'}{inside}; "
        f"{''.join(halves)}known are {known}"
    )
