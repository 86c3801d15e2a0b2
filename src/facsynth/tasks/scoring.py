"""Scores of trained models on samples, whatever was trained: heads, adapters or all weights."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64

from facsynth.errors import DataError
from facsynth.models.lm import LanguageModel
from facsynth.progress import SILENT, Progress
from facsynth.records import Sample
from facsynth.tasks.classifier import padded_tokenizer, score_texts, token_rows, tuned_classifier
from facsynth.tasks.folder import TrainedTask, check_model, tensors_to_heads
from facsynth.tasks.tuning import TuneSettings
from facsynth.tasks.vectors import ReadSettings, read_vectors

__all__ = ["Scored", "score_samples"]


@dataclass(frozen=True)
class Scored:
    """What each trained model says of each sample."""

    seeds: dict[int, Float64[np.ndarray, " n_samples"]]
    """Scores by seed."""

    shuffled: dict[int, Float64[np.ndarray, " n_samples"]]
    """Of the models that were trained on shuffled labels; empty where there are none."""

    n_cut: int
    """Samples that were longer than is read."""


def score_samples(
    trained: TrainedTask,
    samples: Sequence[Sample],
    lm: LanguageModel,
    *,
    progress: Progress = SILENT,
) -> Scored:
    """Score samples with every model of a task's folder.

    Raises:
        MismatchError: The model is not the one that was trained on.
        DataError: A trained model is not where it was.
    """
    check_model(trained, lm)
    if trained.config.get("method", "head") == "head":
        return _by_heads(trained, samples, lm, progress)
    return _by_models(trained, samples, lm, progress)


def _by_heads(
    trained: TrainedTask, samples: Sequence[Sample], lm: LanguageModel, progress: Progress
) -> Scored:
    read = ReadSettings(**trained.config["settings"]["read"])
    vectors = read_vectors(samples, lm, read, progress=progress)

    def scores(kind: str) -> dict[int, Float64[np.ndarray, " n_samples"]]:
        heads = tensors_to_heads(kind, trained.tensors)
        return {seed: head.scores(vectors.rows) for seed, head in heads.items()}

    return Scored(scores("head"), scores("shuffled"), vectors.n_cut)


def _by_models(
    trained: TrainedTask, samples: Sequence[Sample], lm: LanguageModel, progress: Progress
) -> Scored:
    asked = trained.config["settings"]
    rows, n_cut = token_rows(
        samples, lm, TuneSettings(max_tokens=asked["max_tokens"], cut=asked["cut"])
    )
    pad_id = padded_tokenizer(lm.tokenizer).pad_token_id
    n_outputs = 2 if trained.task == "toxicity" else 1
    found: dict[str, dict[int, Float64[np.ndarray, " n_samples"]]] = {"seed": {}, "shuffled": {}}
    for name in trained.config["models"]:
        kind, seed = name.split("-", 1)
        folder = trained.folder / name if trained.folder else None
        if folder is None or not folder.is_dir():
            raise DataError(f"{folder or name} is gone, which task.json names; train again")
        with tuned_classifier(lm, folder, n_outputs) as model:
            found[kind][int(seed)] = score_texts(model, rows, pad_id, progress=progress)
    return Scored(found["seed"], found["shuffled"], n_cut)
