"""Settings of the task steering."""

from dataclasses import dataclass
from typing import Literal

from facsynth.errors import DataError
from facsynth.settings import Settings
from facsynth.tasks.settings import check_random_seeds

__all__ = ["ControlSettings", "SteeringSettings"]

_SWEPT = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
"""Strengths to try on the scale of the states, from no effect to broken answers."""


@dataclass(frozen=True)
class SteeringSettings(Settings):
    """How steering vectors are made."""

    layer: tuple[int, ...] = ()
    """0-based decoder layer; repeatable. By default five, from 3/8 to 7/8 of the depth."""

    all_layers: bool = False
    """Make a vector for every layer."""

    random_seed: tuple[int, ...] = (42, 43, 44)
    """Make vectors for each random seed, if there are questions to draw; repeatable."""

    max_samples: int | None = None
    """Draw at most N questions for each random seed."""

    scale: Literal["residual", "difference", "unit"] = "residual"
    """Length at strength 1: of a median state of the layer, of the mean difference, or 1."""

    strength: tuple[float, ...] = ()
    """Strength to try; repeatable. By default 0.02 to 0.8 on the scale residual, else 1."""

    sweep_items: int = 20
    """Questions kept out of the vectors to choose strength and layer; at most half of all."""

    both_orders: bool = True
    """Read training questions also with their two answers exchanged."""

    sae_features: int = 10
    """Features that make the vector, with --sae."""

    def __post_init__(self) -> None:
        """Check ranges."""
        check_random_seeds(self.random_seed)
        if self.layer and self.all_layers:
            raise DataError("--layer and --all-layers exclude each other")
        if min(self.max_samples or 1, self.sweep_items, self.sae_features) < 1:
            raise DataError("--max-samples, --sweep-items and --sae-features must be 1 or more")
        if any(strength <= 0 for strength in self.strength):
            raise DataError(f"--strength must be above 0, not {min(self.strength)}")

    def candidates(self) -> tuple[float, ...]:
        """Strengths to try."""
        return self.strength or (_SWEPT if self.scale == "residual" else (1.0,))

    def layers(self, n_layers: int) -> tuple[int, ...]:
        """Layers of a model of this depth: from the paper's 3/8 to 7/8 where none is named.

        Small models tie the letter to its answer late, so that 3/8 may be too early.

        >>> SteeringSettings().layers(32)
        (12, 16, 20, 24, 28)
        """
        if self.all_layers:
            return tuple(range(n_layers))
        return self.layer or tuple(sorted({eighths * n_layers // 8 for eighths in range(3, 8)}))


@dataclass(frozen=True)
class ControlSettings(Settings):
    """What is measured beside the vectors."""

    random_vectors: int = 3
    """Random vectors of equal length to try at each layer."""

    n_shown: int = 4
    """Answered questions to show, with --demonstrations."""

    def __post_init__(self) -> None:
        """Check ranges."""
        if min(self.random_vectors, self.n_shown) < 0:
            raise DataError("--random-vectors and --n-shown must be 0 or more")
