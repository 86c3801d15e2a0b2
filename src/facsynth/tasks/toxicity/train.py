"""Toxicity: is a text toxic? Training of a classifier.

The defaults are the paper's (arXiv 2602.10388): the chat template, texts cut at 512 tokens from
the right, LoRA, 1,000 safe samples beside the toxic ones and the random seeds 42, 43, 44. A head
alone differs: the paper takes 15 epochs of gradient steps on the last token's state; here logistic
regression is fitted to its optimum on the mean state of a middle layer.
"""

import hashlib
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int64

from facsynth.progress import SILENT, Progress
from facsynth.tasks.folder import TrainedTask, Training
from facsynth.tasks.metrics import check_classes
from facsynth.tasks.settings import Loader, is_control
from facsynth.tasks.toxicity.data import LabelledTexts
from facsynth.tasks.toxicity.settings import ToxicitySettings

__all__ = ["train_toxicity"]


def train_toxicity(
    data: LabelledTexts,
    load: Loader,
    folder: Path,
    settings: ToxicitySettings | None = None,
    *,
    safe: LabelledTexts | None = None,
    progress: Progress = SILENT,
) -> TrainedTask:
    """Train a classifier for each random seed, and on shuffled labels as a control.

    Args:
        data: Training samples.
        load: Loads the untrained model, after the input is checked.
        folder: Where to write; an unfinished training resumes.
        settings: How.
        safe: Harmless samples, of which every random seed draws `n_safe`; their labels are not
            read.
        progress: Where bars go.

    Raises:
        DataError: A class is missing, or a sample has no words.
        ModelError: There is no such layer, or no chat template.
        MismatchError: The folder holds other training.
    """
    settings = settings or ToxicitySettings()
    extra = safe.samples if safe else ()
    positive = np.concatenate([data.positive, np.zeros(len(extra), np.bool_)])
    check_classes(positive, "the training data")
    labels = {"labels": hashlib.sha256(positive.tobytes()).hexdigest()}
    training = Training("toxicity", folder, settings, (*data.samples, *extra), labels)
    training.check()
    # It loads torch, so it comes after the checks.
    from facsynth.tasks.scorer import Draw, train_scorer

    draws = []
    for name, random_seed in settings.train.models.items():
        rows = _drawn_rows(data.positive, len(extra), settings, random_seed)
        classes = positive[rows]
        if is_control(name):
            classes = np.random.default_rng(random_seed).permutation(classes)
        draws.append(Draw(name, random_seed, rows, classes))
    return train_scorer(training, "classification", draws, load, progress=progress)


def _drawn_rows(
    positive: Bool[np.ndarray, " n_samples"],
    n_extra: int,
    settings: ToxicitySettings,
    random_seed: int,
) -> Int64[np.ndarray, " n_drawn"]:
    """Positions in order: of the data, then of the safe samples after them."""
    rng = np.random.default_rng(random_seed)
    drawn = []
    for one_class in (positive, ~positive):
        rows = rng.permutation(np.flatnonzero(one_class))
        drawn.append(rows[: settings.max_per_class])
    extra = positive.size + rng.permutation(n_extra)[: settings.n_safe]
    return np.sort(np.concatenate([*drawn, extra])).astype(np.int64)
