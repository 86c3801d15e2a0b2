"""Steering control rate: how well vectors steer answers, with its controls.

The rate is that of the paper (arXiv 2602.10388): the share of questions answered robustly, which
is with the matching answer in both orders of the options, at multiplier +1 minus that at -1.

A small model may answer one letter whatever stands behind it. It then answers no question robustly
and cannot be steered to; `consistent` says so. `balanced` is what it would answer without that
preference: the log-odds of the matching answer, averaged over both orders, are above zero.
"""

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64

from facsynth.errors import DataError
from facsynth.models.lm import LanguageModel
from facsynth.progress import SILENT, Progress
from facsynth.tasks.answers import Steer, answer_log_probs, ask
from facsynth.tasks.folder import TrainedTask, check_model
from facsynth.tasks.items import Item, swapped
from facsynth.tasks.metrics import bootstrap_share
from facsynth.tasks.overlap import check_overlap, find_overlap

__all__ = ["EvaluateSettings", "accuracies", "control_rate", "evaluate_steering", "of_length"]

LogProbs = Float64[np.ndarray, "n_rows 2"]
"""Of matching and other letter; exchanged orders behind the given ones."""


@dataclass(frozen=True)
class EvaluateSettings:
    """What is measured beside the vectors at ±1."""

    multipliers: tuple[float, ...] = (-1.0, -0.5, 0.0, 0.5, 1.0)
    n_random: int = 3
    """Random vectors of the same length, as a control at every layer."""

    allow_overlap: bool = False

    def __post_init__(self) -> None:
        """The control rate needs both ends and what lies between them, no steering."""
        if not {-1.0, 0.0, 1.0} <= {*self.multipliers} or self.n_random < 0:
            raise DataError("the multipliers need -1, 0 and 1; --random 0 or more")


def evaluate_steering(
    trained: TrainedTask,
    items: Sequence[Item],
    lm: LanguageModel,
    settings: EvaluateSettings,
    *,
    shown: Sequence[Item] = (),
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Steering control rate at every layer, with its controls.

    Args:
        trained: Vectors.
        items: Evaluation items.
        lm: The model that the vectors were made with.
        settings: What is measured.
        shown: Items for the prompt-only control: shown with matching answers against others.
        progress: Where the bar is drawn.

    Returns:
        `scr` (mean over seeds at `layer`, which was chosen on training items), `base` (without
        steering), `layers` (each with `scr`, the plain rate, `seeds` with curves over the
        multipliers, `random` and `shuffled` rates), `prompt_only`, `overlap`.

    Raises:
        DataError: Evaluation items are near-copies of training items.
        MismatchError: The model is another one.
    """
    check_model(trained, lm)
    overlap = find_overlap(trained.known, [(item.item_id, item.question) for item in items])
    check_overlap(overlap, allow=settings.allow_overlap)
    both = [*items, *map(swapped, items)]
    asked = [ask(item, lm) for item in both]
    steers = _steers(trained, settings)
    total = (len(steers) + (2 if shown else 0)) * len(both)
    with progress.task("answering", total, "answers") as task:
        answers = answer_log_probs(asked, lm, list(steers.values()), task=task)
        prompts = _prompted(both, shown, lm, task) if shown else None
    found = dict(zip(steers, answers, strict=True))
    layers = trained.config["settings"]["layers"]
    rows = [_layer_row(layer, trained, found, settings) for layer in layers]
    chosen = next(row for row in rows if row["layer"] == trained.config["layer"])
    return {
        "scr": chosen["scr"],
        "scr_sd": chosen["scr_sd"],
        "plain_scr": chosen["plain_scr"],
        "balanced_scr": chosen["balanced_scr"],
        "layer": chosen["layer"],
        "random_scr": _mean(chosen["random"]),
        "shuffled_scr": _mean(chosen["shuffled"]),
        "base": accuracies(found[_BASE]),
        "layers": rows,
        "prompt_only": _rate(prompts[1.0], prompts[-1.0]) if prompts else None,
        "n_items": len(items),
        "overlap": {"n": len(overlap.ids), "ids": list(overlap.ids)},
    }


def control_rate(up: LogProbs, down: LogProbs) -> Float64[np.ndarray, " n_items"]:
    """What each item adds to the steering control rate: robustly right at +1 minus at -1.

    Args:
        up: Answers at +1.
        down: Answers at -1.

    Returns:
        -1, 0 or 1 per item; their mean is the rate.
    """
    robust = [_robust(log_probs).astype(np.float64) for log_probs in (up, down)]
    found: Float64[np.ndarray, " n_items"] = robust[0] - robust[1]
    return found


def accuracies(log_probs: LogProbs) -> dict[str, float]:
    """How items are answered.

    Args:
        log_probs: Answers in the given order, and behind them in the exchanged one.

    Returns:
        Shares of items with the matching answer: `plain` in the given order, `robust` in both,
        `balanced` by the mean log-odds of both orders; `consistent`, with the same answer in both
        orders, matching or not; `mean_chance` of the matching letter against the other, and
        `letter_mass`, the probability of both letters together.
    """
    chance = 1 / (1 + np.exp(log_probs[:, 1] - log_probs[:, 0]))
    neither = _robust(log_probs[:, ::-1])
    return {
        "plain": float(_plain(log_probs).mean()),
        "robust": float(_robust(log_probs).mean()),
        "balanced": float(_balanced(log_probs).mean()),
        "consistent": float((_robust(log_probs) | neither).mean()),
        "mean_chance": float(chance.mean()),
        "letter_mass": float(np.exp(log_probs).sum(axis=1).mean()),
    }


def of_length(vector: Any, length: float) -> Any:
    """The vector at another length; of a vector of zeros itself."""
    return vector * (length / max(float(np.linalg.norm(vector)), 1e-12))


_BASE = ("base",)


def _steers(trained: TrainedTask, settings: EvaluateSettings) -> dict[Hashable, Steer | None]:
    """Everything that is added, by layer, kind, number (seed or draw) and multiplier."""
    steers: dict[Hashable, Steer | None] = {_BASE: None}
    for layer in trained.config["settings"]["layers"]:
        vectors = {
            (kind, seed): trained.tensors[f"{kind}.{seed}.{layer}"]
            for seed in trained.config["seeds"]
            for kind in ("vector", "shuffled")
        }
        first = vectors["vector", trained.config["seeds"][0]]
        for i in range(settings.n_random):
            drawn = np.random.default_rng([layer, i]).standard_normal(first.size)
            vectors["random", i] = of_length(drawn, float(np.linalg.norm(first)))
        for (kind, number), vector in vectors.items():
            at = settings.multipliers if kind == "vector" else (-1.0, 1.0)
            for m in at:
                key = (layer, kind, number, m)
                steers[key] = Steer(layer, m * vector) if m else None
    return steers


def _layer_row(
    layer: int, trained: TrainedTask, found: Mapping[Hashable, Any], settings: EvaluateSettings
) -> dict[str, Any]:
    def rate(kind: str, number: int) -> dict[str, Any]:
        return _rate(found[layer, kind, number, 1.0], found[layer, kind, number, -1.0])

    seeds = []
    for seed in trained.config["seeds"]:
        curve = [
            {"multiplier": m, **accuracies(found[layer, "vector", seed, m])}
            for m in sorted(settings.multipliers)
        ]
        norm = float(np.linalg.norm(trained.tensors[f"vector.{seed}.{layer}"]))
        seeds.append({"seed": seed, **rate("vector", seed), "norm": norm, "curve": curve})
    rates = [row["scr"] for row in seeds]
    return {
        "layer": layer,
        "scr": _mean(rates),
        "scr_sd": float(np.std(rates, ddof=1)) if len(rates) > 1 else None,
        "plain_scr": _mean([row["plain_scr"] for row in seeds]),
        "balanced_scr": _mean([row["balanced_scr"] for row in seeds]),
        "strength": trained.config["strengths"][str(layer)],
        "seeds": seeds,
        "shuffled": [rate("shuffled", seed)["scr"] for seed in trained.config["seeds"]],
        "random": [rate("random", i)["scr"] for i in range(settings.n_random)],
    }


def _prompted(
    both: Sequence[Item], shown: Sequence[Item], lm: LanguageModel, task: Any
) -> dict[float, Any]:
    """Answers behind items that are shown with matching answers (1) and with the others (-1)."""
    return {
        sign: answer_log_probs(
            [ask(item, lm, shown=[(one, sign > 0) for one in shown]) for item in both],
            lm,
            task=task,
        )[0]
        for sign in (-1.0, 1.0)
    }


def _plain(log_probs: LogProbs) -> Bool[np.ndarray, " n_items"]:
    """Right in the given order of the options."""
    found: Bool[np.ndarray, " n_items"] = (log_probs[:, 0] > log_probs[:, 1])[: len(log_probs) // 2]
    return found


def _robust(log_probs: LogProbs) -> Bool[np.ndarray, " n_items"]:
    """Right in both orders of the options."""
    right = log_probs[:, 0] > log_probs[:, 1]
    both: Bool[np.ndarray, " n_items"] = _plain(log_probs) & right[len(right) // 2 :]
    return both


def _balanced(log_probs: LogProbs) -> Bool[np.ndarray, " n_items"]:
    """Right by the mean log-odds of both orders, in which a preference for a letter cancels."""
    odds = log_probs[:, 0] - log_probs[:, 1]
    found: Bool[np.ndarray, " n_items"] = odds[: len(odds) // 2] + odds[len(odds) // 2 :] > 0
    return found


def _rate(up: LogProbs, down: LogProbs) -> dict[str, Any]:
    rate = bootstrap_share(control_rate(up, down), rng=np.random.default_rng(0))
    return {
        "scr": rate.value,
        "low": rate.low,
        "high": rate.high,
        "plain_scr": float(_plain(up).mean() - _plain(down).mean()),
        "balanced_scr": float(_balanced(up).mean() - _balanced(down).mean()),
    }


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None
