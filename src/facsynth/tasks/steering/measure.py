"""Answers under steering vectors and their controls, as control rates."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np

from facsynth.models.lm import LanguageModel
from facsynth.progress import SILENT, Progress, Task
from facsynth.tasks.folder import TrainedTask
from facsynth.tasks.results import mean_and_sd
from facsynth.tasks.steering.answers import Steer, answer_log_probs, ask
from facsynth.tasks.steering.data import Item, swapped
from facsynth.tasks.steering.rates import LogProbs, accuracies, rate_row
from facsynth.tasks.steering.vectors import of_length

__all__ = ["measure_vectors"]

_MULTIPLIERS = (-1.0, -0.5, 0.0, 0.5, 1.0)
_BASE = ("base",)


def measure_vectors(
    trained: TrainedTask,
    items: Sequence[Item],
    lm: LanguageModel,
    *,
    n_random: int,
    shown: Sequence[Item] = (),
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """How questions are answered without steering, at every layer, and after shown answers.

    Args:
        trained: Vectors.
        items: Evaluation items.
        lm: The model that the vectors were made with.
        n_random: Random vectors of the same length for each layer.
        shown: Items for the prompt-only control.
        progress: Where the bar is drawn.

    Returns:
        `base`, `layers` and `prompt_only` of `SteeringResult`.
    """
    both = [*items, *map(swapped, items)]
    asked = [ask(item, lm) for item in both]
    steers = _steers(trained, n_random)
    total = (len(steers) + (2 if shown else 0)) * len(both)
    with progress.task("answering", total, "answers") as task:
        answers = answer_log_probs(asked, lm, list(steers.values()), task=task)
        prompted = _prompted(both, shown, lm, task) if shown else None
    found = dict(zip(steers, answers, strict=True))
    layers = trained.config["layers"]
    return {
        "base": accuracies(found[_BASE]),
        "layers": tuple(_layer_row(layer, trained, found, n_random) for layer in layers),
        "prompt_only": prompted,
    }


def _steers(trained: TrainedTask, n_random: int) -> dict[Hashable, Steer | None]:
    """Everything that is added, by layer, kind, number (random seed or draw) and multiplier."""
    steers: dict[Hashable, Steer | None] = {_BASE: None}
    for layer in trained.config["layers"]:
        vectors = {
            (kind, seed): trained.tensors[f"{kind}.{seed}.{layer}"]
            for seed in trained.config["random_seeds"]
            for kind in ("vector", "shuffled")
        }
        first = vectors["vector", trained.config["random_seeds"][0]]
        for i in range(n_random):
            drawn = np.random.default_rng([layer, i]).standard_normal(first.size)
            vectors["random", i] = of_length(drawn, float(np.linalg.norm(first)))
        for (kind, number), vector in vectors.items():
            for m in _MULTIPLIERS if kind == "vector" else (-1.0, 1.0):
                steers[layer, kind, number, m] = Steer(layer, m * vector) if m else None
    return steers


def _layer_row(
    layer: int, trained: TrainedTask, found: Mapping[Hashable, LogProbs], n_random: int
) -> dict[str, Any]:
    def rate(kind: str, number: int) -> dict[str, Any]:
        return rate_row(found[layer, kind, number, 1.0], found[layer, kind, number, -1.0])

    vectors = []
    random_seeds = trained.config["random_seeds"]
    for seed in random_seeds:
        curve = [
            {"multiplier": m, **accuracies(found[layer, "vector", seed, m])} for m in _MULTIPLIERS
        ]
        norm = float(np.linalg.norm(trained.tensors[f"vector.{seed}.{layer}"]))
        vectors.append({"random_seed": seed, **rate("vector", seed), "norm": norm, "curve": curve})
    scr, scr_sd = mean_and_sd([row["scr"] for row in vectors])
    return {
        "layer": layer,
        "scr": scr,
        "scr_sd": scr_sd,
        "plain_scr": mean_and_sd([row["plain_scr"] for row in vectors])[0],
        "balanced_scr": mean_and_sd([row["balanced_scr"] for row in vectors])[0],
        "strength": trained.config["strengths"][str(layer)],
        "vectors": vectors,
        "shuffled": [rate("shuffled", seed)["scr"] for seed in random_seeds],
        "random": [rate("random", i)["scr"] for i in range(n_random)],
    }


def _prompted(
    both: Sequence[Item], shown: Sequence[Item], lm: LanguageModel, task: Task
) -> dict[str, Any]:
    """Control rate of showing items with matching answers, against showing them with the others."""
    up, down = (
        answer_log_probs(
            [ask(item, lm, shown=[(one, matches) for one in shown]) for item in both],
            lm,
            task=task,
        )[0]
        for matches in (True, False)
    )
    return rate_row(up, down)
