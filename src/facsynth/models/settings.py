"""Which language model is used, and how it runs."""

from dataclasses import dataclass
from typing import Literal

from facsynth.settings import Settings

__all__ = ["ModelSettings", "Precision"]

Precision = Literal["auto", "mixed", "bfloat16", "float16", "float32", "float64"]
"""What `load_language_model` takes as `dtype`."""


@dataclass(frozen=True)
class ModelSettings(Settings):
    """Which language model is used, and how it runs."""

    model: str | None = None
    """Hub id, folder or .gguf file; by default the embedded SmolLM2-135M-Instruct."""

    device: str = "auto"
    """cpu, cuda, cuda:1, …; auto takes CUDA if there is a GPU."""

    dtype: Precision = "auto"
    """Precision of the model. mixed: large products in bfloat16, the residual stream and attention
    in float32. auto: mixed on a processor that multiplies bfloat16, bfloat16 on a GPU, else
    float32."""

    trust_remote_code: bool = False
    """Run Python code from the model's repository."""
