"""Which training samples each model gets: drawn by its random seed."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int64

from facsynth.progress import Progress

__all__ = ["Draw", "distinct_draws", "is_control"]


@dataclass(frozen=True)
class Draw:
    """What one model is trained on."""

    name: str
    """`model-42`, or `shuffled-42` for a control."""

    random_seed: int
    rows: Int64[np.ndarray, " n_drawn"] | Int64[np.ndarray, "n_drawn 2"]
    """Positions of samples; of pairs, the better and the worse one."""

    positive: Bool[np.ndarray, " n_drawn"] | None = None
    """Class that each sample is trained as; None for pairs."""


def is_control(name: str) -> bool:
    """Whether a model is trained on shuffled labels."""
    return name.startswith("shuffled-")


def distinct_draws(draws: Sequence[Draw], progress: Progress) -> list[Draw]:
    """Drop repeated heads: a head depends on its samples alone, not on the random seed."""
    models = [draw for draw in draws if not is_control(draw.name)]
    first = models[0]
    if len(models) == 1 or any(not np.array_equal(one.rows, first.rows) for one in models):
        return list(draws)
    progress.say("every random seed draws all samples, so all heads are equal; keeping one")
    return [draw for draw in draws if draw.random_seed == first.random_seed]
