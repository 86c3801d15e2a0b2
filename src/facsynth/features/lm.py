"""Loading a language model and its tokenizer."""

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from facsynth.data.write import atomic_path, write_json
from facsynth.errors import ModelError

__all__ = [
    "LanguageModel",
    "cache_folder",
    "load_language_model",
    "pick_device",
    "pick_dtype",
    "text_config",
]


@dataclass(frozen=True)
class LanguageModel:
    """A causal language model with its tokenizer."""

    model: Any
    """A Hugging Face causal LM in evaluation mode."""

    tokenizer: Any

    name: str
    """What the user asked for: a Hub id, a path, or the embedded default's name."""

    content_hash: str
    """sha256 over configuration and weights."""

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.model.parameters()).device

    @property
    def d_model(self) -> int:
        """Width of the residual stream."""
        return int(text_config(self.model).hidden_size)

    @property
    def n_layers(self) -> int:
        """Number of decoder layers of the whole model."""
        return int(text_config(self.model).num_hidden_layers)


def load_language_model(
    source: str | None = None,
    *,
    device: str = "auto",
    dtype: str = "auto",
    trust_remote_code: bool = False,
) -> LanguageModel:
    """Load a causal language model.

    Args:
        source: A Hub id, a local folder, a `.gguf` file; None for the embedded default.
        device: `auto` (CUDA where present, else CPU) or a torch device.
        dtype: `auto` (bfloat16 where the hardware has it, else float32) or a torch dtype's name.
        trust_remote_code: Run model code from the Hub repository; off unless asked for.

    Raises:
        ModelError: It is not there, cannot be read, or cannot be downloaded.
    """
    from facsynth.features.default_model import DEFAULT_MODEL, default_model_folder

    folder: str | Path = source or DEFAULT_MODEL
    if source is None or source == DEFAULT_MODEL:
        folder = default_model_folder()
    elif source.endswith(".gguf"):
        folder = convert_gguf(Path(source))
    elif not Path(source).is_dir():
        folder = _download(source)
    where = pick_device(device)
    model, tokenizer = _load(Path(folder), where, pick_dtype(where, dtype), trust_remote_code)
    return LanguageModel(
        model, tokenizer, name=source or DEFAULT_MODEL, content_hash=content_hash(Path(folder))
    )


def pick_device(device: str) -> torch.device:
    """`auto` is CUDA where present, else the CPU."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.device(device)
    except RuntimeError as error:
        raise ModelError(f"unknown --device {device!r}: {error}") from error


def pick_dtype(device: torch.device, dtype: str = "auto") -> torch.dtype:
    """`auto` is bfloat16 where the hardware multiplies it natively, else float32."""
    if dtype != "auto":
        found = getattr(torch, dtype, None)
        if not isinstance(found, torch.dtype):
            raise ModelError(f"unknown --dtype {dtype!r}; try bfloat16 or float32")
        return found
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    flags = torch.cpu.get_capabilities() if device.type == "cpu" else {}
    native = flags.get("avx512_bf16") or flags.get("amx_bf16") or flags.get("bf16")
    return torch.bfloat16 if native else torch.float32


def _load(folder: Path, device: torch.device, dtype: torch.dtype, trust: bool) -> tuple[Any, Any]:
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, trust_remote_code=trust)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ModelError(f"{folder} cannot be loaded as a causal LM: {_line(error)}") from error
    return model.to(device).eval(), tokenizer


def _download(repo: str) -> Path:
    """Local snapshot of a Hub model; respects HF_HUB_OFFLINE."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        patterns = ["*.json", "*.safetensors", "*.model", "*.jinja", "*.txt"]
        return Path(snapshot_download(repo, allow_patterns=patterns))
    except HFValidationError as error:
        raise ModelError(
            f"{repo!r} is neither a folder, a .gguf file nor a Hub id (owner/name)"
        ) from error
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise ModelError(
            f"the model {repo!r} is no local folder and could not be fetched from the Hub "
            f"({_line(error)}); check the name and the network, or pass a local folder"
        ) from error


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 240 else text[:240] + "…"


def cache_folder() -> Path:
    """Where converted models are kept: `FACSYNTH_CACHE` or `~/.cache/facsynth`."""
    return Path(os.environ.get("FACSYNTH_CACHE") or Path.home() / ".cache" / "facsynth")


def convert_gguf(path: Path) -> Path:
    """Convert a GGUF file once to a cached folder that Transformers loads quickly."""
    if not path.is_file():
        raise ModelError(f"{path} does not exist")
    target = cache_folder() / "models" / f"{path.stem}-{_file_hash(path)[:12]}"
    if (target / "config.json").is_file():
        return target
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    from transformers.utils import logging

    logging.disable_progress_bar()
    asked = {"gguf_file": path.name}
    try:
        tokenizer = AutoTokenizer.from_pretrained(path.parent, **asked)
        loaded = AutoModelForCausalLM.from_pretrained(
            path.parent,
            dtype=torch.float32,
            quantization_config=GgufConfig(dequantize=True),
            **asked,
        )
    except (OSError, ValueError, KeyError, ImportError, NotImplementedError) as error:
        raise ModelError(f"{path} cannot be read as a GGUF model: {_line(error)}") from error
    config = loaded.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    plain = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    plain.load_state_dict(loaded.state_dict())
    with atomic_path(target) as temporary:
        plain.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
    return target


def content_hash(folder: Path) -> str:
    """sha256 over `config.json` and the weight files, remembered by path, size and time."""
    files = [folder / "config.json", *sorted(folder.glob("*.safetensors"))]
    files = [file for file in files if file.is_file()]
    digest = hashlib.sha256()
    for file in files:
        digest.update(_remembered_hash(file).encode())
    return digest.hexdigest()


def _remembered_hash(file: Path) -> str:
    stat = file.resolve().stat()
    key = hashlib.sha256(f"{file.resolve()}|{stat.st_size}|{stat.st_mtime_ns}".encode())
    memo = cache_folder() / "hashes" / f"{key.hexdigest()}.json"
    if memo.is_file():
        return str(json.loads(memo.read_text())["sha256"])
    value = _file_hash(file)
    memo.parent.mkdir(parents=True, exist_ok=True)
    write_json({"file": str(file), "sha256": value}, memo)
    return value


def _file_hash(file: Path) -> str:
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def text_config(model: Any) -> Any:
    """Configuration of the text part, for models that have others beside it."""
    return model.config.get_text_config()
