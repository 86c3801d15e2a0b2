"""Where a language model comes from, and what is known of it without its weights.

Nothing here loads torch before a model's files are found.
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facsynth.errors import ModelError
from facsynth.models.default_model import DEFAULT_MODEL, default_model_folder
from facsynth.models.gguf import convert_gguf
from facsynth.models.hub import HubReference, hub_files, hub_folder, one_line, parse_hub

__all__ = ["ModelShape", "load_tokenizer", "model_folder", "model_shape"]


@dataclass(frozen=True)
class ModelShape:
    """What an SAE must fit, as the model's configuration states it."""

    name: str
    """What the user asked for."""

    d_model: int
    """Width of the residual stream."""

    n_layers: int
    """Number of decoder layers of the whole model."""


def model_folder(source: str | None, *, code: bool = False) -> Path:
    """Local folder of a model, downloaded or converted if need be.

    Args:
        source: See `load_language_model`.
        code: Whether to download Python code, too.

    Raises:
        ModelError: It does not exist, cannot be downloaded or converted, or is a classifier.
    """
    if source is None or source == DEFAULT_MODEL:
        return default_model_folder()
    if Path(source).is_dir():
        _refuse_classifier(Path(source))
        return Path(source)
    is_file = Path(source).is_file() or source.startswith(("/", ".", "~")) or source.count("/") < 2
    if source.endswith(".gguf") and is_file:
        return convert_gguf(Path(source))
    found = _download(source, code=code)
    return convert_gguf(found) if found.suffix == ".gguf" else found


def model_shape(source: str | None = None, *, trust_remote_code: bool = False) -> ModelShape:
    """Width and number of layers of a model, from its configuration; see `load_language_model`."""
    from transformers import AutoConfig

    folder = model_folder(source, code=trust_remote_code)
    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=trust_remote_code)
        text = config.get_text_config()
        return ModelShape(
            source or DEFAULT_MODEL, int(text.hidden_size), int(text.num_hidden_layers)
        )
    except (OSError, ValueError, KeyError, AttributeError) as error:
        raise ModelError(f"{folder} has no readable config.json: {one_line(error)}") from error


def load_tokenizer(source: str | None = None) -> Any:
    """Only the tokenizer of a model; see `load_language_model`."""
    from transformers import AutoTokenizer

    folder = model_folder(source)
    try:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except (OSError, ValueError, KeyError) as error:
        if "trust_remote_code" in str(error):
            raise ModelError(
                f"the tokenizer of {folder} needs Python code of its own, which is not run here; "
                "take a model whose tokenizer Transformers knows"
            ) from error
        raise ModelError(f"{folder} has no readable tokenizer: {one_line(error)}") from error


def _refuse_classifier(folder: Path) -> None:
    """Say clearly that a classifier, or an adapter that makes one, writes no text.

    Transformers would load it with the model that it was trained on, as if it were a language
    model.
    """
    for name, key, ending in (
        ("adapter_config.json", "task_type", "SEQ_CLS"),
        ("config.json", "architectures", "ForSequenceClassification"),
    ):
        with suppress(OSError, ValueError):
            found = json.loads((folder / name).read_text(encoding="utf-8")).get(key) or ""
            if str(found).strip("[]'").endswith(ending):
                raise ModelError(
                    f"{folder} is a classifier ({key} {ending} in {name}), which gives scores and "
                    "writes no text; name a language model, or evaluate it with `fac task`"
                )


def _download(source: str, *, code: bool = False) -> Path:
    """Local copy of a Hub model, or of one GGUF file in it; what is not needed stays there."""
    reference = parse_hub(source)
    if reference is None:
        raise ModelError(
            f"{source!r} is neither a folder, a .gguf file nor a Hub id (owner/name, with "
            "@revision if need be)"
        )
    files = hub_files(reference, "model")
    if reference.inside.endswith(".gguf"):
        if reference.inside not in files:
            raise ModelError(_no_weights(reference, files))
        return hub_folder(reference, [reference.inside], "model") / reference.inside
    start = f"{reference.inside}/" if reference.inside else ""
    inside = [f for f in files if f.startswith(start) and "/" not in f.removeprefix(start)]
    if f"{start}config.json" not in inside or not any(f.endswith(".safetensors") for f in inside):
        raise ModelError(_no_weights(reference, files))
    endings = [".safetensors", ".json", ".model", ".jinja", ".txt", ".tiktoken"]
    endings += [".py"] * code
    wanted = [f for f in inside if f.endswith(tuple(endings))]
    return hub_folder(reference, wanted, "model") / reference.inside


def _no_weights(reference: HubReference, files: Sequence[str]) -> str:
    """Why a repository cannot be used, with the way out that it has."""
    gguf = [file for file in files if file.endswith(".gguf")]
    if gguf:
        some = ", ".join(f"{reference.repo}/{file}" for file in gguf[:10])
        return f"{str(reference)!r} holds {len(gguf)} GGUF files; name one of them: {some}"
    if any(file.endswith((".bin", ".pt", ".pth")) for file in files):
        return (
            f"the model {str(reference)!r} has only pickled weights, which can run code and are "
            "not read; take a revision with safetensors (owner/name@refs/pr/N)"
        )
    return (
        f"{str(reference)!r} holds no model: a config.json beside .safetensors files, or a .gguf "
        f"file, is expected; found {', '.join(files[:10]) or 'nothing'}"
    )
