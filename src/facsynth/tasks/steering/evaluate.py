"""Steering: how well vectors steer answers, beside random, shuffled and prompt-only controls."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from facsynth.progress import SILENT, Progress
from facsynth.show import TextTable, as_html
from facsynth.tasks.folder import TrainedTask, near_copies
from facsynth.tasks.results import Headline, rows_table, values_table
from facsynth.tasks.settings import Loader
from facsynth.tasks.steering.data import Item
from facsynth.tasks.steering.settings import ControlSettings

__all__ = ["SteeringResult", "evaluate_steering"]

_TITLES = {
    "steering control rate": "scr",
    "  standard deviation over random seeds": "scr_sd",
    "  of random vectors": "random_scr",
    "  of vectors of shuffled answers": "shuffled_scr",
    "rate in the given order only": "plain_scr",
    "rate without the preference for a letter": "balanced_scr",
    "layer, chosen on training questions": "layer",
}


@dataclass(frozen=True)
class SteeringResult:
    """Steering control rates of vectors, in [-1, 1]; see `facsynth.tasks.steering.rates`."""

    scr: float
    """At `layer`, mean over random seeds."""

    scr_sd: float | None
    plain_scr: float
    """By the given order of the options alone."""

    balanced_scr: float
    """By the mean log-odds of both orders."""

    layer: int
    """Chosen on training questions."""

    random_scr: float | None
    """Mean of random vectors of the same length."""

    shuffled_scr: float
    """Mean of vectors of randomly exchanged answers."""

    base: dict[str, float]
    """How questions are answered without steering."""

    layers: tuple[dict[str, Any], ...]
    """The rates at every layer, `vectors` with their curves over multipliers, and controls."""

    prompt_only: dict[str, Any] | None
    """Rates of showing answered questions instead of steering."""

    n_items: int
    near_copies: tuple[str, ...]

    def headline(self) -> Headline:
        """Control rate against random vectors."""
        return Headline("scr", self.scr, self.scr_sd, self.random_scr, self.shuffled_scr)

    def row(self) -> dict[str, Any]:
        """The fields by name."""
        return asdict(self)

    def tables(self) -> Sequence[TextTable]:
        """Rates, how the model answers without steering, and every layer."""
        keys = ("layer", "strength", "scr", "scr_sd", "plain_scr", "balanced_scr")
        base = {
            "right in both orders": "robust",
            "same answer in both orders": "consistent",
            "probability of the two letters": "letter_mass",
        }
        return [
            values_table("Steering", self.row(), _TITLES),
            values_table("Without steering", self.base, base),
            *rows_table("Control rate by layer", self.layers, *keys),
        ]

    _repr_html_ = as_html


def evaluate_steering(
    trained: TrainedTask,
    items: Sequence[Item],
    load: Loader,
    settings: ControlSettings | None = None,
    *,
    demonstrations: Sequence[Item] = (),
    allow_overlap: bool = False,
    progress: Progress = SILENT,
) -> SteeringResult:
    """Steering control rate at every layer, with its controls.

    Args:
        trained: What `train_steering` wrote.
        items: Evaluation items.
        load: Loads the model, after the input is checked.
        settings: What is measured beside the vectors.
        demonstrations: Questions for the prompt-only control, shown with matching answers
            against others.
        allow_overlap: Evaluate also on near-copies of training questions.
        progress: Where the bar is drawn.

    Raises:
        DataError: Evaluation items are near-copies of training items.
        MismatchError: The model is another one.
    """
    settings = settings or ControlSettings()
    questions = [(item.item_id, item.question) for item in items]
    copies = near_copies(trained, questions, allow=allow_overlap)
    from facsynth.tasks.steering.measure import measure_vectors  # loads torch: after the checks

    lm = load()
    trained.check_model(lm)
    shown = demonstrations[: settings.n_shown]
    found = measure_vectors(
        trained, items, lm, n_random=settings.random_vectors, shown=shown, progress=progress
    )
    chosen = next(row for row in found["layers"] if row["layer"] == trained.config["layer"])
    same = ("scr", "scr_sd", "plain_scr", "balanced_scr", "layer")
    return SteeringResult(
        **{key: chosen[key] for key in same},
        random_scr=float(np.mean(chosen["random"])) if chosen["random"] else None,
        shuffled_scr=float(np.mean(chosen["shuffled"])),
        **found,
        n_items=len(items),
        near_copies=copies,
    )
