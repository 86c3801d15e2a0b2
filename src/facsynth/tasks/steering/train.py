"""Steering: can a vector make a model show a behaviour? Training of vectors."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from facsynth.errors import DataError
from facsynth.progress import SILENT, Progress
from facsynth.tasks.folder import TrainedTask, check_enough, check_output, save_task
from facsynth.tasks.settings import Loader
from facsynth.tasks.steering.data import Item
from facsynth.tasks.steering.settings import SteeringSettings

__all__ = ["train_steering"]


def train_steering(
    items: Sequence[Item],
    load: Loader,
    folder: Path,
    settings: SteeringSettings | None = None,
    *,
    sae: Any = None,
    progress: Progress = SILENT,
) -> TrainedTask:
    """Make one vector per layer and random seed, and one of exchanged answers as a control.

    Args:
        items: Questions with two answers.
        load: Loads the model, after the input is checked.
        folder: Where to write.
        settings: How vectors are made.
        sae: Make the vectors of the features of this `SparseAutoencoder`, at its layer.
        progress: Where bars are drawn.

    Raises:
        DataError: There are fewer than two items, or one exceeds the context.
        ModelError: There is no such layer, no chat template, or letters are not single tokens.
    """
    settings = settings or SteeringSettings()
    check_enough(items, "training questions")
    check_output(folder)
    if sae is not None and (settings.all_layers or settings.layer not in ((), (sae.config.layer,))):
        raise DataError(
            f"the SAE reads layer {sae.config.layer}, so its features steer only there; leave "
            "out --layer and --all-layers"
        )
    from facsynth.tasks.steering.vectors import make_vectors  # loads torch: after the checks

    lm = load()
    layers = settings.layers(lm.n_layers) if sae is None else (sae.config.layer,)
    config, tensors = make_vectors(items, lm, layers, settings, sae=sae, progress=progress)
    questions = [item.question for item in items]
    return save_task("steering", folder, config, questions, tensors)
