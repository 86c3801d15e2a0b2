"""How coverage is measured. Imports nothing heavy: commands read it for help."""

from dataclasses import dataclass

from facsynth.errors import DataError
from facsynth.settings import Settings, check_threshold

__all__ = ["CoverageSettings"]


@dataclass(frozen=True)
class CoverageSettings(Settings):
    """How coverage is measured."""

    threshold: float | None = None
    """Activation above which a feature is active, in SAE units; by default the lowest quantile of
    the anchor's activations at which random samples leave room."""

    controls: bool = False
    """Show all controls: richness at equal size and what more samples would bring, features of
    each class, and features that fire too much or too little."""

    resamples: int = 200
    """Resamples of the seed behind the interval of FAC."""

    draws: int = 20
    """Random draws behind each control."""

    random_seed: int = 0
    """Number that starts the random draws."""

    def __post_init__(self) -> None:
        check_threshold(self.threshold)
        if min(self.resamples, self.draws) < 1:
            raise DataError("resamples and draws must be at least 1")
