"""Loading a language model and its tokenizer."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from facsynth.errors import ModelError
from facsynth.models.default_model import DEFAULT_MODEL
from facsynth.models.hardware import multiplies_bfloat16
from facsynth.models.hub import one_line
from facsynth.models.source import ModelShape, model_folder
from facsynth.models.weights import check_complete, content_hash

__all__ = [
    "LanguageModel",
    "check_layer",
    "load_language_model",
    "named_dtype",
    "pick_device",
    "pick_precision",
    "text_config",
]

MIXED = "mixed"
"""Large products in bfloat16, the residual stream and attention in float32; see `precision`."""

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

    is_mixed: bool = False
    """Whether activations are read in the precision `mixed`; text is written in bfloat16."""

    @property
    def dtype(self) -> str:
        """Precision in which activations are read: `mixed`, or that of the weights."""
        return MIXED if self.is_mixed else str(self.model.dtype).removeprefix("torch.")

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
    weights: bool = True,
) -> LanguageModel:
    """Load a causal language model.

    Args:
        source: A local folder or `.gguf` file; on the Hub `owner/name`, a folder or `.gguf` file
            in it (`owner/name/file.gguf`), with `@revision` if need be; None for the embedded
            default. Weights are read from safetensors and GGUF, never from pickles.
        device: `auto` (CUDA where present, else CPU) or a torch device.
        dtype: `auto`, `bfloat16`, `float16`, `float32`, `float64`, or `mixed`: large products in
            bfloat16, the residual stream and attention in float32, which keeps activations closer
            to those in float32. `auto` is `mixed` on a processor that multiplies bfloat16,
            `bfloat16` on such a GPU, else `float32` (`float16` on a GPU).
        trust_remote_code: Run Python code that comes with the model.
        weights: Whether to load them; without, the model only says what it is and cannot run.

    Raises:
        ModelError: It is not there, cannot be read or downloaded, or lacks weights.
    """
    where = pick_device(device)
    precision = pick_precision(where, dtype)
    folder = model_folder(source, code=trust_remote_code)
    load = _load if weights else _load_shape
    model, tokenizer = load(folder, where, named_dtype(precision), trust_remote_code)
    return LanguageModel(
        model,
        tokenizer,
        name=source or DEFAULT_MODEL,
        content_hash=content_hash(folder),
        is_mixed=precision == MIXED,
    )


def check_layer(model: ModelShape | LanguageModel, layer: int) -> None:
    """Raise a ModelError unless the model has this 0-based decoder layer."""
    if not 0 <= layer < model.n_layers:
        raise ModelError(f"{model.name} has the layers 0 to {model.n_layers - 1}, not {layer}")


def pick_device(device: str) -> torch.device:
    """`auto` is CUDA where present, else the CPU."""
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        return torch.empty(0, device=device).device
    except (RuntimeError, AssertionError) as error:  # AssertionError: PyTorch without CUDA
        raise ModelError(f"--device {device!r} cannot be used: {one_line(error)}") from error


def pick_precision(device: torch.device, dtype: str = "auto") -> str:
    """Resolve `auto` to the fastest precision of the device that is close to float32.

    That is `mixed` on a processor that multiplies bfloat16. `mixed` has not been measured on GPUs,
    so there it is `bfloat16`, or `float16` on a GPU too old for that.

    Raises:
        ModelError: No such precision.
    """
    if dtype == "auto":
        if device.type == "cuda":
            return "bfloat16" if multiplies_bfloat16(device) else "float16"
        return MIXED if multiplies_bfloat16(device) else "float32"
    if dtype not in (*_DTYPES, MIXED):
        known = ", ".join([*_DTYPES, MIXED])
        raise ModelError(f"unknown --dtype {dtype!r}; choose one of {known}")
    return dtype


def named_dtype(precision: str) -> torch.dtype:
    """Type of the weights in one of the precisions; see `pick_precision`."""
    return torch.bfloat16 if precision == MIXED else _DTYPES[precision]


def _load(folder: Path, device: torch.device, dtype: torch.dtype, trust: bool) -> tuple[Any, Any]:
    from safetensors import SafetensorError
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from transformers.utils import logging

    logging.disable_progress_bar()
    unreadable = (OSError, ValueError, KeyError, ImportError, RuntimeError, SafetensorError)
    _refuse_pickles(folder)
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust)
        model, info = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=dtype,
            trust_remote_code=trust,
            use_safetensors=True,
            output_loading_info=True,
        )
    except unreadable as error:
        if not trust and "trust_remote_code" in str(error):
            raise ModelError(
                f"{folder} needs Python code of its own, which is not run unasked; read its .py "
                "files, then pass --trust-remote-code"
            ) from error
        raise ModelError(f"{folder} cannot be loaded as a causal LM: {one_line(error)}") from error
    check_complete(info["missing_keys"], folder)
    return model.to(device).eval(), tokenizer


def _load_shape(
    folder: Path, device: torch.device, dtype: torch.dtype, trust: bool
) -> tuple[Any, Any]:
    """A model whose weights have sizes and no values."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust)
        config = AutoConfig.from_pretrained(folder, trust_remote_code=trust)
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(config, dtype=dtype, trust_remote_code=trust)
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise ModelError(f"{folder} cannot be loaded as a causal LM: {one_line(error)}") from error
    return model.eval(), tokenizer


def _refuse_pickles(folder: Path) -> None:
    """Say clearly that weights which can run code are not read."""
    pickles = sorted(p.name for s in ("bin", "pt", "pth") for p in folder.glob(f"*.{s}"))
    if pickles and not any(folder.glob("*.safetensors")):
        raise ModelError(
            f"{folder} has only pickled weights ({pickles[0]}), which can run code and are not "
            "read; take a revision with model.safetensors, or convert it where you trust it: "
            "AutoModelForCausalLM.from_pretrained(...).save_pretrained(...)"
        )


def text_config(model: Any) -> Any:
    """Configuration of the text part, for models that have others beside it."""
    return model.config.get_text_config()
