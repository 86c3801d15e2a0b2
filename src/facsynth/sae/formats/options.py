"""What a user knows about an SAE that its files may not say."""

from dataclasses import dataclass

from facsynth.settings import Settings

__all__ = ["ReadOptions"]


@dataclass(frozen=True)
class ReadOptions(Settings):
    """Facts about an SAE; they take precedence over its files."""

    layer: int | None = None
    """0-based decoder layer whose output the SAE reads, if the files do not say."""

    k: int | None = None
    """Features kept per token, if the files do not say; also reads a batch top-k SAE per token."""

    input_scale: float | None = None
    """Factor on the inputs in training, for SAELens files that leave it out."""

    model_name: str = ""
    """Model that the SAE was trained on, if the files do not say."""
