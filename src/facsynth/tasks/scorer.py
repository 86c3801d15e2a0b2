"""Models that give a text a score: heads, adapters or all weights; trained, and asked.

Two kinds: a classifier of two classes, trained on labels, and a Bradley-Terry reward, trained on
pairs of samples of which the first is better.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from jaxtyping import Bool, Float64, Int64

from facsynth.models.lm import LanguageModel
from facsynth.models.tokens import TokenizedSample
from facsynth.progress import SILENT, Progress
from facsynth.records import Sample
from facsynth.settings import read_settings
from facsynth.tasks.classifier import padded_tokenizer, score_texts, tuned_classifier
from facsynth.tasks.fit import N_OUTPUTS, Job, fit_jobs, save_trained
from facsynth.tasks.folder import TrainedTask, Training
from facsynth.tasks.heads import Head, fit_classifier, fit_preferences, fit_steps, head_scores
from facsynth.tasks.hidden_states import read_vectors, tokenize_chats
from facsynth.tasks.settings import HeadSettings, Loader, TuneSettings, is_control

__all__ = ["Draw", "Scored", "score_samples", "train_scorer"]

Kind = Literal["classification", "preference"]

_PAPER_EPOCHS = {"classification": 15, "preference": 5}
"""Of a head alone, with `--recipe paper`."""

Base = Callable[..., Float64[np.ndarray, " n_samples"]]
"""Scores samples by an untrained model; see `facsynth.tasks.prompted`."""


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


@dataclass(frozen=True)
class Scored:
    """Scores of samples by every model of a folder."""

    by_model: dict[str, Float64[np.ndarray, " n_samples"]]
    """By name of the model; `shuffled-…` of the controls, `base` of the untrained one."""

    n_cut: int
    """Samples that were longer than `max_length`."""

    def trained(self) -> list[Float64[np.ndarray, " n_samples"]]:
        """The scores of the models that are neither controls nor untrained."""
        names = (name for name in self.by_model if not is_control(name) and name != "base")
        return [self.by_model[name] for name in names]


def train_scorer(
    training: Training,
    kind: Kind,
    draws: Sequence[Draw],
    load: Loader,
    *,
    progress: Progress = SILENT,
) -> TrainedTask:
    """Train one model for each draw, and write the folder.

    Raises:
        ModelError: There is no chat template, or no such layer.
        DataError: A sample has no words, or `max_length` exceeds the context of the model.
        MismatchError: The folder holds other training.
    """
    lm = load()
    if training.train.head_only:
        return _train_heads(training, draws, lm, progress)
    texts = tokenize_chats(training.samples, lm, training.train)
    jobs = [Job(one.name, one.random_seed, _trainer_rows(one, texts)) for one in draws]
    found = fit_jobs(jobs, lm, load, training, kind, progress=progress)
    n_cut = sum(text.n_truncated > 0 for text in texts)
    return save_trained(training, lm, found, n_cut=n_cut, kind=kind)


def score_samples(
    trained: TrainedTask,
    samples: Sequence[Sample],
    load: Loader,
    *,
    base: Base | None = None,
    progress: Progress = SILENT,
) -> Scored:
    """Score samples by every model of a task's folder.

    Raises:
        MismatchError: The model is not the one that was trained on.
    """
    lm = load()
    trained.check_model(lm)
    settings = read_settings(TuneSettings, trained.config["settings"]["train"], "task.json")
    scores = {"base": base(samples, lm, settings, progress=progress)} if base else {}
    if settings.head_only:
        vectors = read_vectors(samples, lm, settings, progress=progress)
        n_cut = vectors.n_cut
        for name, head in sorted(trained.tensors.items()):
            scores[name] = head_scores(head, vectors.rows)
    else:
        texts = tokenize_chats(samples, lm, settings)
        rows, n_cut = [text.input_ids for text in texts], sum(t.n_truncated > 0 for t in texts)
        pad_id = padded_tokenizer(lm.tokenizer).pad_token_id
        n_outputs = N_OUTPUTS[trained.config["kind"]]
        for name in trained.config["training"]:
            with tuned_classifier(lm, trained.folder / name, n_outputs) as model:
                scores[name] = score_texts(model, rows, pad_id, progress=progress)
    return Scored(scores, n_cut)


def _train_heads(
    training: Training,
    draws: Sequence[Draw],
    lm: LanguageModel,
    progress: Progress,
) -> TrainedTask:
    settings = training.train
    if settings.head.recipe == "optimum":
        draws = _distinct_draws(draws, progress)
    vectors = read_vectors(training.samples, lm, settings, progress=progress)
    heads = {one.name: _fit_head(one, vectors.rows, settings.head) for one in draws}
    found = {one.name: {"n_rows": len(one.rows)} for one in draws}
    return save_trained(training, lm, found, heads, n_cut=vectors.n_cut)


def _distinct_draws(draws: Sequence[Draw], progress: Progress) -> list[Draw]:
    """Drop repeated heads: a head depends on its samples alone, not on the random seed."""
    models = [draw for draw in draws if not is_control(draw.name)]
    first = models[0]
    if len(models) == 1 or any(not np.array_equal(one.rows, first.rows) for one in models):
        return list(draws)
    progress.say("every random seed draws all samples, so all heads are equal; keeping one")
    return [draw for draw in draws if draw.random_seed == first.random_seed]


def _fit_head(draw: Draw, vectors: Any, settings: HeadSettings) -> Head:
    inverse_l2 = settings.inverse_l2
    if settings.recipe == "paper":
        rows = vectors[draw.rows].reshape(len(draw.rows), -1, vectors.shape[1])
        epochs = _PAPER_EPOCHS["preference" if draw.positive is None else "classification"]
        return fit_steps(rows, draw.positive, epochs=epochs, random_seed=draw.random_seed)
    if draw.positive is None:
        better, worse = vectors[draw.rows[:, 0]], vectors[draw.rows[:, 1]]
        return fit_preferences(better, worse, inverse_l2=inverse_l2)
    return fit_classifier(vectors[draw.rows], draw.positive, inverse_l2=inverse_l2)


def _trainer_rows(draw: Draw, texts: Sequence[TokenizedSample]) -> list[dict[str, Any]]:
    def ids(position: int) -> list[int]:
        found: list[int] = texts[position].input_ids.tolist()
        return found

    if draw.positive is None:
        return [{"chosen_ids": ids(a), "rejected_ids": ids(b)} for a, b in draw.rows.tolist()]
    return [
        {"input_ids": ids(i), "labels": int(label)}
        for i, label in zip(draw.rows.tolist(), draw.positive.tolist(), strict=True)
    ]
