"""Settings of the task steering."""

from dataclasses import dataclass

from facsynth.errors import DataError
from facsynth.settings import Settings
from facsynth.tasks.settings import check_random_seeds

__all__ = ["ControlSettings", "SteeringSettings"]


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

    strength: tuple[float, ...] = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
    """Length of the vector to try, as a share of the median state of the layer; repeatable."""

    sweep_items: int = 20
    """Questions kept out of the vectors to choose strength and layer; at most half of all, and none
    where one layer and one strength are given."""

    sae_features: int = 10
    """Features that make the vector, with --sae."""

    def __post_init__(self) -> None:
        check_random_seeds(self.random_seed)
        if self.layer and self.all_layers:
            raise DataError("--layer and --all-layers exclude each other")
        if min(self.max_samples or 1, self.sweep_items, self.sae_features) < 1:
            raise DataError("--max-samples, --sweep-items and --sae-features must be 1 or more")
        if not self.strength or min(self.strength) <= 0:
            raise DataError("--strength must be above 0")

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
        if min(self.random_vectors, self.n_shown) < 0:
            raise DataError("--random-vectors and --n-shown must be 0 or more")
