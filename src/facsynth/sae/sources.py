"""Where an SAE comes from: a local path, the Hub, or sae-lens' registry; all become a local path.

| `--sae` | what it names |
|---|---|
| `runs/sae`, `layer7.sae.pt` | a folder or a file, in any layout of `facsynth.sae.formats` |
| `default` | the embedded one, unless a file or folder has that name |
| `owner/name`, `owner/name/folder` | a Hub repository with one SAE, or a folder or file of it |
| `owner/name/folder@revision` | the same at a branch, tag or commit |
| `saelens:RELEASE/ID` | an SAE of sae-lens' registry, through the extra `facsynth[saelens]` |

A missing path is found without loading torch, which the formats need.
"""

from pathlib import Path, PurePosixPath
from typing import Any

from facsynth.data.write import write_json
from facsynth.errors import ModelError
from facsynth.folders import atomic_path, cache_folder
from facsynth.models.default_model import default_sae_folder
from facsynth.models.hub import HubReference, hub_files, hub_folder, one_line, parse_hub

__all__ = ["find_sae", "saes_among"]

SAELENS = "saelens:"


def find_sae(source: str | Path) -> Path:
    """Local path of an SAE, downloaded if it is on the Hub or in sae-lens' registry.

    Raises:
        ModelError: The SAE does not exist or cannot be downloaded, several fit, or `sae-lens` is
            missing.
    """
    if Path(source).exists() or isinstance(source, Path):
        return Path(source)
    if source == "default":
        return default_sae_folder()
    if source.startswith(SAELENS):
        return _from_saelens(source.removeprefix(SAELENS))
    reference = parse_hub(source)
    if reference is None:
        raise ModelError(
            f"the SAE {source!r} does not exist; expected a folder, a file, a Hub repository "
            "(owner/name/folder@revision), saelens:RELEASE/ID or default"
        )
    return _from_hub(reference)


def saes_among(files: list[str]) -> list[str]:
    """Folders and pickles among the files of a repository that hold an SAE; "." is the top."""
    from facsynth.sae.formats.layouts import LAYOUTS

    present = set(files)
    folders = {str(parent) for file in files for parent in PurePosixPath(file).parents}
    markers = [layout.files for layout in LAYOUTS if layout.files]
    found = [
        folder
        for folder in folders
        if any(all(_join(folder, name) in present for name in names) for names in markers)
    ]
    pickles = [
        file
        for file in files
        if file.endswith((".pt", ".pth")) and str(PurePosixPath(file).parent) not in found
    ]
    return sorted([*found, *pickles])


def _from_hub(reference: HubReference) -> Path:
    files = hub_files(reference, "SAE")
    inside = reference.inside
    within = [f for f in files if f == inside or f.startswith(f"{inside}/") or not inside]
    if not within:
        raise ModelError(
            f"the Hub repository {reference.repo} has nothing at {inside!r}; it holds "
            f"{_some(saes_among(files) or files)}"
        )
    choices = [within[0]] if within == [inside] else saes_among(within)
    if not choices:
        raise ModelError(f"{str(reference)!r} holds no SAE of a known layout: {_some(within)}")
    if len(choices) > 1:
        raise ModelError(
            f"{str(reference)!r} holds {len(choices)} SAEs; name one as {reference.repo}/…: "
            f"{_some(choices)}"
        )
    folder = hub_folder(reference, _needed(choices[0], files), "SAE")
    return folder / choices[0]


def _needed(choice: str, files: list[str]) -> list[str]:
    """The files of one SAE: its own, and the settings of its run in the folder above."""
    from facsynth.sae.formats.layouts import LAYOUTS

    if choice in files:
        beside = str(PurePosixPath(choice).parent)
        return [choice] + [f for f in files if f == _join(beside, "config.json") and f != choice]
    above = _join(str(PurePosixPath(choice).parent), "config.json")
    known = {_join(choice, name) for layout in LAYOUTS for name in layout.files}
    known |= {_join(choice, n) for n in ("config.json", "activation_scaler.json", "README.md")}
    return [f for f in files if f in known or f == above]


def _join(folder: str, name: str) -> str:
    return name if folder == "." else f"{folder}/{name}"


def _some(names: list[str]) -> str:
    more = f", … ({len(names)} in all)" if len(names) > 10 else ""
    return ", ".join(names[:10]) + more


def _from_saelens(name: str) -> Path:
    """An SAE of the registry as a cached folder in SAELens' layout, read by sae-lens once."""
    release, _, sae_id = name.partition("/")
    if not release or not sae_id:
        raise ModelError(f"saelens:{name} is not of the form saelens:RELEASE/ID")
    target = cache_folder() / "saelens" / release / sae_id
    if not (target / "cfg.json").is_file():
        cfg, weights = _read_registry(release, sae_id)
        _write(cfg, weights, target)
    return target


def _read_registry(release: str, sae_id: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Settings and tensors of an SAE as sae-lens reads it, with its input scale folded in."""
    try:
        from sae_lens import SAE
        from sae_lens.loading.pretrained_saes_directory import get_pretrained_saes_directory
    except ImportError as error:
        raise ModelError(
            f"saelens:{release}/{sae_id} needs sae-lens ({one_line(error)}): pip install "
            "'facsynth[saelens]'"
        ) from error
    registry = get_pretrained_saes_directory()
    if release not in registry:
        near = [known for known in registry if release.split("-")[0] in known] or list(registry)
        raise ModelError(f"sae-lens has no release {release!r}; it has {_some(sorted(near))}")
    ids = list(registry[release].saes_map)
    if sae_id not in ids:
        raise ModelError(
            f"sae-lens' release {release!r} has no SAE {sae_id!r}; it has {_some(ids)}"
        )
    try:
        sae = SAE.from_pretrained(release, sae_id, device="cpu")
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise ModelError(
            f"sae-lens could not load {release}/{sae_id}: {one_line(error)}; check the network"
        ) from error
    cfg = dict(sae.cfg.to_dict())
    cfg["metadata"] = {
        **(cfg.get("metadata") or {}),
        "source_format": "saelens registry",
        "source_name": f"{release}/{sae_id}",
    }
    return cfg, dict(sae.state_dict())


def _write(cfg: dict[str, Any], weights: dict[str, Any], target: Path) -> None:
    from safetensors.torch import save_file

    tensors = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
    with atomic_path(target) as temporary:
        temporary.mkdir()
        save_file(tensors, temporary / "sae_weights.safetensors")
        write_json(cfg, temporary / "cfg.json")
