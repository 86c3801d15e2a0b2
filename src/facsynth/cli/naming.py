"""How commands name the features that they list."""

from dataclasses import dataclass

from facsynth.settings import Settings

__all__ = ["NamingSettings"]


@dataclass(frozen=True)
class NamingSettings(Settings):
    """Whether and how the listed features are named."""

    spans: bool = True
    """Name the shown features by the words at their peaks, with an example each."""

    model: str | None = None
    """Model that extracted the tables; by default the one that they name."""

    sae: str | None = None
    """SAE that extracted the tables, which groups features into topics; by default the one that
    they name."""
