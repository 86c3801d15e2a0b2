"""Steering vectors by contrastive activation addition (CAA, arXiv 2312.06681).

Settings of the paper (arXiv 2602.10388): mean difference of the states at the letter of the
matching and of the other answer, normalised, added after the user's words. A normalised vector
needs a length. It is measured in median lengths of the states at that layer, so that it means the
same for every behaviour, layer and model. Of several lengths and layers, those are taken that
steer training questions best; these questions are kept out of the vectors. With one length and
one layer nothing is chosen, and every question goes into the vectors.

Where this differs: every training item is read in both option orders, so that the vector holds
nothing of the letters themselves. With an SAE the vector is made of the decoder directions of the
few features whose activations at the two letters differ most.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int64

from facsynth.models.lm import LanguageModel, check_layer
from facsynth.progress import SILENT, Progress
from facsynth.sae.module import SparseAutoencoder
from facsynth.tasks.steering.answers import Asked, Steer, answer_log_probs, ask, letter_states
from facsynth.tasks.steering.data import Item, swapped
from facsynth.tasks.steering.polarity import word_odds
from facsynth.tasks.steering.rates import accuracies, control_rate
from facsynth.tasks.steering.settings import SteeringSettings

__all__ = ["make_vectors", "of_length"]

_LEAST_MASS = 0.5
"""Smallest share of their probability that the letters may keep; below it the model no longer
answers the question."""


def make_vectors(
    items: Sequence[Item],
    lm: LanguageModel,
    layers: tuple[int, ...],
    settings: SteeringSettings,
    *,
    sae: SparseAutoencoder | None = None,
    progress: Progress = SILENT,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """What task.json holds, and the vectors as `<vector or shuffled>.<random seed>.<layer>`."""
    for layer in layers:
        check_layer(lm, layer)
    given = len(layers) == len(settings.strength) == 1
    kept, swept = _split(items, 0 if given else settings.sweep_items)
    random_seeds = _drawing_seeds(settings, len(kept), progress)
    read = [*kept, *map(swapped, kept)]
    tested = [ask(item, lm) for item in [*swept, *map(swapped, swept)]]
    with progress.task("reading answers", len(read) + len(tested), "questions") as task:
        asked = [ask(item, lm) for item in read]
        states = letter_states(asked, lm, layers, task=task)
        held_out = letter_states(tested, lm, layers, task=task)
    directions, features = _directions(states, len(kept), random_seeds, settings, sae)
    first = {layer: directions[f"vector.{random_seeds[0]}.{layer}"] for layer in layers}
    medians = {k: float(np.median(np.linalg.norm(states[k], axis=-1))) for k in layers}
    tried = [(k, strength, strength * medians[k]) for k in layers for strength in settings.strength]
    sweep = _sweep(tested, lm, first, tried, progress) if tested else []
    best = {k: max((r for r in sweep if r["layer"] == k), key=_rank) for k in first if sweep}
    for layer, strength, length in tried if not sweep else ():
        best[layer] = {"layer": layer, "strength": strength, "length": length}
    tensors = {"words": word_odds(items)} | {
        name: of_length(vector, best[int(name.rsplit(".", 1)[1])]["length"])
        for name, vector in directions.items()
    }
    config = {
        "model": lm.name,
        "model_hash": lm.content_hash,
        "dtype": lm.dtype,
        "settings": asdict(settings),
        "random_seeds": list(random_seeds),
        "n_train": min(len(kept), settings.max_samples or len(kept)),
        "n_sweep": len(swept),
        "layers": list(layers),
        "layer": max(best.values(), key=_rank)["layer"] if sweep else layers[0],
        "strengths": {str(layer): row["strength"] for layer, row in best.items()},
        "read_share": {str(k): _read_share(held_out[k], v) for k, v in first.items() if tested},
        "sweep": sweep,
        "features": features,
    }
    return config, tensors


def of_length(vector: Any, length: float) -> Any:
    """The vector scaled to another length; a vector of zeros stays as it is."""
    return vector * (length / max(float(np.linalg.norm(vector)), 1e-12))


def _drawing_seeds(settings: SteeringSettings, n_items: int, progress: Progress) -> tuple[int, ...]:
    """The random seeds; only the first where all would draw every item."""
    if len(settings.random_seed) > 1 and (settings.max_samples or n_items) >= n_items:
        progress.say("every random seed draws all questions, so all vectors are equal; keeping one")
        return settings.random_seed[:1]
    return settings.random_seed


def _split(items: Sequence[Item], n_swept: int) -> tuple[list[Item], list[Item]]:
    """Items for the vectors, and those on which strengths and layers are tried, at most half."""
    order = np.random.default_rng(0).permutation(len(items))
    n = min(n_swept, len(items) // 2)
    return [items[i] for i in sorted(order[n:])], [items[i] for i in sorted(order[:n])]


def _directions(
    states: Mapping[int, Float32[np.ndarray, "n_rows 2 d_model"]],
    n_items: int,
    random_seeds: Sequence[int],
    settings: SteeringSettings,
    sae: SparseAutoencoder | None,
) -> tuple[dict[str, Any], list[dict[str, Any]] | None]:
    """Directions by name, with controls, and the features of the first one."""
    directions: dict[str, Any] = {}
    features = None
    for random_seed in random_seeds:
        rng = np.random.default_rng(random_seed)
        drawn = rng.permutation(n_items)[: settings.max_samples]
        rows = np.concatenate([drawn, drawn + n_items])  # in both orders
        signs = rng.choice([-1.0, 1.0], rows.size)
        for layer in states:
            chosen = states[layer][rows].astype(np.float64)
            for kind, sign in (("vector", np.ones(rows.size)), ("shuffled", signs)):
                if sae is None:
                    vector = (sign[:, None] * (chosen[:, 0] - chosen[:, 1])).mean(axis=0)
                else:
                    vector, found = _feature_direction(chosen, sign, sae, settings.sae_features)
                    features = features or found
                directions[f"{kind}.{random_seed}.{layer}"] = vector
    return directions, features


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


def _sweep(
    tested: Sequence[Asked],
    lm: LanguageModel,
    directions: Mapping[int, Any],
    tried: Sequence[tuple[int, float, float]],
    progress: Progress,
) -> list[dict[str, Any]]:
    """How well vectors steer held-out training questions, by layer, strength and length."""
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
