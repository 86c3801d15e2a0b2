"""Loading a language model and its tokenizer."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from facsynth.errors import ModelError
from facsynth.features.hashes import content_hash

__all__ = [
    "LanguageModel",
    "load_language_model",
    "load_tokenizer",
    "one_line",
    "pick_device",
    "pick_dtype",
    "text_config",
]

_DTYPES = {
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float32": torch.float32,
    "float64": torch.float64,
}


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
        return torch.device(self.model.device)

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
        dtype: `auto` (bfloat16 where the hardware has it, else float32), `bfloat16`, `float16`,
            `float32` or `float64`.
        trust_remote_code: Run model code from the Hub repository; off unless asked for.

    Raises:
        ModelError: It is not there, cannot be read, or cannot be downloaded.
    """
    folder = _folder(source)
    where = pick_device(device)
    model, tokenizer = _load(folder, where, pick_dtype(where, dtype), trust_remote_code)
    return LanguageModel(model, tokenizer, name=_name(source), content_hash=content_hash(folder))


def load_tokenizer(source: str | None = None) -> Any:
    """Only the tokenizer of a model; see `load_language_model`."""
    from transformers import AutoTokenizer

    folder = _folder(source)
    try:
        return AutoTokenizer.from_pretrained(folder)
    except (OSError, ValueError, KeyError) as error:
        raise ModelError(f"{folder} has no readable tokenizer: {one_line(error)}") from error


def _name(source: str | None) -> str:
    from facsynth.features.default_model import DEFAULT_MODEL

    return source or DEFAULT_MODEL


def _folder(source: str | None) -> Path:
    """Local folder of a model, downloaded or converted if need be."""
    from facsynth.features.default_model import DEFAULT_MODEL, default_model_folder
    from facsynth.features.gguf import convert_gguf

    if source is None or source == DEFAULT_MODEL:
        return default_model_folder()
    if source.endswith(".gguf"):
        return convert_gguf(Path(source))
    return Path(source) if Path(source).is_dir() else _download(source)


def pick_device(device: str) -> torch.device:
    """`auto` is CUDA where present, else the CPU."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:  # AssertionError: PyTorch without CUDA
        raise ModelError(f"--device {device!r} cannot be used: {one_line(error)}") from error


def pick_dtype(device: torch.device, dtype: str = "auto") -> torch.dtype:
    """`auto` is bfloat16 where the hardware multiplies it natively, else float32."""
    if dtype != "auto":
        if dtype not in _DTYPES:
            raise ModelError(f"unknown --dtype {dtype!r}; choose one of {', '.join(_DTYPES)}")
        return _DTYPES[dtype]
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    flags = torch.cpu.get_capabilities() if device.type == "cpu" else {}
    native = flags.get("avx512_bf16") or flags.get("amx_bf16") or flags.get("bf16")
    return torch.bfloat16 if native else torch.float32


def _load(folder: Path, device: torch.device, dtype: torch.dtype, trust: bool) -> tuple[Any, Any]:
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    unreadable = (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust)
        model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype, trust_remote_code=trust)
    except unreadable as error:
        raise ModelError(f"{folder} cannot be loaded as a causal LM: {one_line(error)}") from error
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
            f"({one_line(error)}); check the name and the network, or pass a local folder"
        ) from error


def one_line(error: BaseException) -> str:
    """An error's message without line breaks, at most 240 characters."""
    text = " ".join(str(error).split())
    return text if len(text) <= 240 else text[:240] + "…"


def text_config(model: Any) -> Any:
    """Configuration of the text part, for models that have others beside it."""
    return model.config.get_text_config()
