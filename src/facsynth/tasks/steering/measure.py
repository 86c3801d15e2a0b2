"""Answers under steering vectors and their controls, as control rates."""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from facsynth.models.lm import LanguageModel
from facsynth.progress import SILENT, Progress, Task
from facsynth.tasks.folder import TrainedTask
from facsynth.tasks.results import mean_and_sd
from facsynth.tasks.steering.answers import Steer, answer_log_probs, ask
from facsynth.tasks.steering.data import Item, swapped
from facsynth.tasks.steering.rates import LogProbs, accuracies, control_rate, rate_row
from facsynth.tasks.steering.vectors import of_length

__all__ = ["Measured", "measure_vectors"]

_MULTIPLIERS = (-1.0, -0.5, 0.0, 0.5, 1.0)
_BASE = ("base",)


@dataclass(frozen=True)
class Measured:
    """How questions are answered with and without vectors."""

    unsteered: dict[str, float]
    """See `facsynth.tasks.steering.rates.accuracies`."""

    layers: list[dict[str, Any]]
    """The rates at every layer, `vectors` with their curves over multipliers, and controls."""

    chosen_layer: dict[str, Any]
    """Of these, the one that was chosen on training questions."""

    models: list[dict[str, Any]]
    """Rates of its vectors, `shuffled-…` of exchanged answers among them."""

    rates: dict[str, Float64[np.ndarray, " n_items"]]
    """What each question adds to the rate of each of these vectors."""

    prompt_only: dict[str, Any] | None
    """Rates of showing answered questions instead of steering."""


def measure_vectors(
    trained: TrainedTask,
    items: Sequence[Item],
    lm: LanguageModel,
    *,
    n_random: int,
    shown: Sequence[Item] = (),
    progress: Progress = SILENT,
) -> Measured:
    """How questions are answered without steering, at every layer, and after shown answers."""
    both = [*items, *map(swapped, items)]
    asked = [ask(item, lm) for item in both]
    steers = _steers(trained, n_random)
    total = (len(steers) + (2 if shown else 0)) * len(both)
    with progress.task("answering", total, "answers") as task:
        answers = answer_log_probs(asked, lm, list(steers.values()), task=task)
        prompted = _prompted(both, shown, lm, task) if shown else None
    found = dict(zip(steers, answers, strict=True))
    layers = [_layer_row(k, trained, found, n_random) for k in trained.config["layers"]]
    layer, models, rates = trained.config["layer"], [], {}
    for seed in trained.config["random_seeds"]:
        for kind in ("vector", "shuffled"):
            up, down = found[layer, kind, seed, 1.0], found[layer, kind, seed, -1.0]
            name = f"{kind}-{seed}"
            models.append({"model": name, **rate_row(up, down)})
            rates[name] = control_rate(up, down)
    chosen = next(row for row in layers if row["layer"] == layer)
    return Measured(accuracies(found[_BASE]), layers, chosen, models, rates, prompted)


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
    rates = ("scr", "plain_scr", "balanced_scr")
    return {
        "layer": layer,
        **{name: mean_and_sd([row[name] for row in vectors])[0] for name in rates},
        "scr_sd": mean_and_sd([row["scr"] for row in vectors])[1],
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
