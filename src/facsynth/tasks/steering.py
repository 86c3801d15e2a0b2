"""Steering vectors by contrastive activation addition (CAA, arXiv 2312.06681).

Settings of the paper (arXiv 2602.10388): mean difference of the states at the letter of the
matching and of the other answer, normalised, added behind the user's words. A normalised vector
needs a length. It is measured in median lengths of the states at that layer, so that it means the
same for every behaviour, layer and model, and where several are given, the one that steers
training questions best is taken; so is the layer. These questions are kept out of the vectors.

Where this differs: every training item is read in both option orders, so that the vector holds
nothing of the letters themselves. With an SAE the vector is made of the decoder directions of the
few features whose activations at the two letters differ most.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64

from facsynth.data.copies import KnownTexts
from facsynth.errors import DataError
from facsynth.models.lm import LanguageModel
from facsynth.models.residual import check_layer
from facsynth.progress import SILENT, Progress
from facsynth.sae.module import SparseAutoencoder
from facsynth.tasks.answers import Asked, Steer, answer_log_probs, ask, letter_states
from facsynth.tasks.control import accuracies, control_rate, of_length
from facsynth.tasks.folder import TrainedTask
from facsynth.tasks.items import Item, swapped

__all__ = ["Scale", "SteeringSettings", "spread_layers", "train_steering"]

Scale = Literal["residual", "difference", "unit"]
"""What a strength of 1 is: the median length of the states read, of the mean difference, or 1."""

_SWEPT = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)
"""Strengths that are tried where none is given and the scale is that of the states."""

_LEAST_MASS = 0.5
"""A strength is taken only if the letters keep this share of their probability on either side."""


@dataclass(frozen=True)
class SteeringSettings:
    """How steering vectors are made."""

    layers: tuple[int, ...]
    """0-based decoder layers, one vector each."""

    seeds: tuple[int, ...] = (42, 43, 44)
    """One set of vectors each, where a seed has items to draw."""

    max_items: int | None = None
    """Draw this many training items at most."""

    scale: Scale = "residual"
    strengths: tuple[float, ...] = ()
    """Lengths to try, in units of the scale; without any a fixed list, or 1 for other scales."""

    n_sweep: int = 20
    """Training items on which strength and layer are chosen; at most a half of them."""

    both_orders: bool = True
    """Read every training item also with its two answers exchanged."""

    n_features: int = 10
    """Features of an SAE that make the vector, where one is given."""

    def __post_init__(self) -> None:
        """Check that there is something to do."""
        if not self.layers or not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise DataError("give at least one layer, and seeds that differ")
        if self.scale not in get_args(Scale):
            raise DataError(f"unknown --scale {self.scale!r}; choose of {get_args(Scale)}")
        if (self.max_items or 1) < 1 or self.n_sweep < 1 or self.n_features < 1:
            raise DataError("--max-items, --sweep-items and --sae-features must be above zero")
        if any(strength <= 0 for strength in self.strengths):
            raise DataError(f"--strength must be above zero, not {min(self.strengths)}")

    def candidates(self) -> tuple[float, ...]:
        """Strengths to try."""
        return self.strengths or (_SWEPT if self.scale == "residual" else (1.0,))


def spread_layers(n_layers: int) -> tuple[int, ...]:
    """Layers to try where none is named: from the paper's 3/8 of the depth to 7/8.

    Small models tie the letter to its answer late, so that 3/8 may be too early.

    >>> spread_layers(32)
    (12, 16, 20, 24, 28)
    """
    return tuple(sorted({eighths * n_layers // 8 for eighths in range(3, 8)}))


def train_steering(
    items: Sequence[Item],
    lm: LanguageModel,
    settings: SteeringSettings,
    *,
    sae: SparseAutoencoder | None = None,
    progress: Progress = SILENT,
) -> TrainedTask:
    """Make one vector per layer and seed, and one with randomly exchanged answers as a control.

    Args:
        items: Questions.
        lm: The model.
        settings: How vectors are made.
        sae: Make the vectors of this SAE's features; its layer has to be the only one.
        progress: Where bars are drawn.

    Raises:
        DataError: There are fewer than two items, or one exceeds the context.
        ModelError: No such layer, no chat template, or letters that are no tokens.
    """
    _check(items, lm, settings, sae)
    kept, swept = _split(items, settings)
    seeds = _seeds_that_draw(settings, len(kept), progress)
    read = [*kept, *map(swapped, kept)] if settings.both_orders else kept
    tested = [ask(item, lm) for item in [*swept, *map(swapped, swept)]]
    with progress.task("reading answers", len(read) + len(tested), "questions") as task:
        asked = [ask(item, lm) for item in read]
        states = letter_states(asked, lm, settings.layers, task=task)
        held_out = letter_states(tested, lm, settings.layers, task=task)
    directions, features = _directions(states, len(kept), seeds, settings, sae)
    first = {layer: directions[f"vector.{seeds[0]}.{layer}"] for layer in settings.layers}
    lengths = {k: _lengths(states[k], vector, settings) for k, vector in first.items()}
    sweep = _sweep(tested, lm, first, lengths, progress)
    best = {layer: max((r for r in sweep if r["layer"] == layer), key=_rank) for layer in first}
    tensors = {
        name: of_length(vector, best[int(name.rsplit(".", 1)[1])]["length"])
        for name, vector in directions.items()
    }
    config = {
        "model": lm.name,
        "model_hash": lm.content_hash,
        "dtype": lm.dtype,
        "settings": asdict(settings),
        "seeds": list(seeds),
        "n_train": min(len(kept), settings.max_items or len(kept)),
        "n_sweep": len(swept),
        "layer": max(best.values(), key=_rank)["layer"],
        "strengths": {str(layer): row["strength"] for layer, row in best.items()},
        "read_share": {str(k): _read_share(held_out[k], vector) for k, vector in first.items()},
        "sweep": sweep,
        "features": features,
    }
    return TrainedTask("steering", config, tensors, KnownTexts(item.question for item in items))


def _check(
    items: Sequence[Item],
    lm: LanguageModel,
    settings: SteeringSettings,
    sae: SparseAutoencoder | None,
) -> None:
    if len(items) < 2:
        raise DataError(f"{len(items)} training items; give at least two, one of them to try on")
    for layer in settings.layers:
        check_layer(lm, layer)
    if sae is not None and settings.layers != (sae.config.layer,):
        raise DataError(
            f"the SAE reads layer {sae.config.layer}, so its features steer there and nowhere "
            "else; leave --layer and --all-layers out"
        )


def _seeds_that_draw(
    settings: SteeringSettings, n_items: int, progress: Progress
) -> tuple[int, ...]:
    """The seeds; of several that would all take every item, the first."""
    if len(settings.seeds) > 1 and (settings.max_items or n_items) >= n_items:
        progress.say("every seed takes all items, so the vectors are equal: one is kept")
        return settings.seeds[:1]
    return settings.seeds


def _split(items: Sequence[Item], settings: SteeringSettings) -> tuple[list[Item], list[Item]]:
    """Items for the vectors, and those on which strengths and layers are tried."""
    order = np.random.default_rng(0).permutation(len(items))
    n = min(settings.n_sweep, len(items) // 2)
    return [items[i] for i in sorted(order[n:])], [items[i] for i in sorted(order[:n])]


def _directions(
    states: Mapping[int, Float32[np.ndarray, "n_rows 2 d_model"]],
    n_items: int,
    seeds: Sequence[int],
    settings: SteeringSettings,
    sae: SparseAutoencoder | None,
) -> tuple[dict[str, Any], list[dict[str, Any]] | None]:
    """Directions by name, those of exchanged answers beside them, and the first seed's features."""
    directions: dict[str, Any] = {}
    features = None
    for seed in seeds:
        rng = np.random.default_rng(seed)
        drawn = rng.permutation(n_items)[: settings.max_items]
        rows = np.concatenate(
            [drawn + k for k in range(0, len(states[settings.layers[0]]), n_items)]
        )
        signs = rng.choice([-1.0, 1.0], rows.size)
        for layer in settings.layers:
            chosen = states[layer][rows].astype(np.float64)
            for kind, sign in (("vector", np.ones(rows.size)), ("shuffled", signs)):
                if sae is None:
                    vector = _mean_difference(chosen, sign)
                else:
                    vector, found = _feature_direction(chosen, sign, sae, settings.n_features)
                    features = features or found
                directions[f"{kind}.{seed}.{layer}"] = vector
    return directions, features


def _mean_difference(
    states: Float64[np.ndarray, "n_rows 2 d_model"], signs: Float64[np.ndarray, " n_rows"]
) -> Float64[np.ndarray, " d_model"]:
    found: Float64[np.ndarray, " d_model"] = (signs[:, None] * (states[:, 0] - states[:, 1])).mean(
        axis=0
    )
    return found


def _feature_direction(
    states: Float64[np.ndarray, "n_rows 2 d_model"],
    signs: Float64[np.ndarray, " n_rows"],
    sae: SparseAutoencoder,
    n_features: int,
) -> tuple[Float64[np.ndarray, " d_model"], list[dict[str, Any]]]:
    """Decoder directions of the features that differ most (paired t), by their mean difference."""
    flat = torch.from_numpy(states.astype(np.float32)).flatten(0, 1).to(sae.W_enc.device)
    with torch.inference_mode():
        codes = sae.encode(flat).cpu().double().numpy().reshape(len(states), 2, -1)
    differences = signs[:, None] * (codes[:, 0] - codes[:, 1])
    mean, spread = differences.mean(axis=0), differences.std(axis=0, ddof=1)
    t = mean / np.maximum(spread / np.sqrt(len(states)), 1e-12) * (mean != 0)
    best: Int64[np.ndarray, " n"] = np.argsort(-np.abs(t), kind="stable")[:n_features]
    decoder = sae.W_dec.detach().cpu().double().numpy()
    rows = [
        {"feature_id": int(i), "difference": float(mean[i]), "t": float(t[i])}
        for i in best
        if mean[i]
    ]
    return mean[best] @ decoder[best], rows


def _lengths(
    states: Float32[np.ndarray, "n_rows 2 d_model"], vector: Any, settings: SteeringSettings
) -> dict[float, float]:
    """Length of a vector at each strength."""
    scale = {
        "residual": float(np.median(np.linalg.norm(states, axis=-1))),
        "difference": float(np.linalg.norm(vector)),
        "unit": 1.0,
    }[settings.scale]
    return {strength: strength * scale for strength in settings.candidates()}


def _sweep(
    tested: Sequence[Asked],
    lm: LanguageModel,
    directions: Mapping[int, Any],
    lengths: Mapping[int, Mapping[float, float]],
    progress: Progress,
) -> list[dict[str, Any]]:
    """How well each strength steers, at each layer, on training questions that are kept out."""
    tried = [(k, strength, length) for k in directions for strength, length in lengths[k].items()]
    steers: list[Steer | None] = [None]
    for layer, _, length in tried:
        vector = of_length(directions[layer], length)
        steers += [Steer(layer, sign * vector) for sign in (1.0, -1.0)]
    with progress.task("trying strengths", len(steers) * len(tested), "answers") as task:
        base, *found = answer_log_probs(tested, lm, steers, task=task)
    least = _LEAST_MASS * accuracies(base)["letter_mass"]
    rows = []
    for (layer, strength, length), up, down in zip(tried, found[::2], found[1::2], strict=True):
        ends = [accuracies(up), accuracies(down)]
        mass = min(end["letter_mass"] for end in ends)
        rows.append(
            {
                "layer": layer,
                "strength": strength,
                "length": length,
                "scr": float(control_rate(up, down).mean()),
                "chance_gap": ends[0]["mean_chance"] - ends[1]["mean_chance"],
                "letter_mass": mass,
                "is_fluent": mass >= least,
            }
        )
    return rows


def _rank(row: Mapping[str, Any]) -> tuple[bool, float, float]:
    """What is best: a model that still answers, then the control rate, then the gap in chance."""
    return row["is_fluent"], row["scr"], row["chance_gap"]


def _read_share(states: Float32[np.ndarray, "n_rows 2 d_model"], vector: Any) -> float:
    """Share of kept-out questions whose matching letter lies further along the vector."""
    along = (states[:, 0] - states[:, 1]).astype(np.float64) @ vector
    return float((along > 0).mean() + (along == 0).mean() / 2)
