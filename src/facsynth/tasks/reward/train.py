"""Reward modelling: which of two answers is better? Training of a Bradley-Terry model.

The defaults are the paper's (arXiv 2602.10388), texts cut at 1,024 tokens from the left included.
A head alone differs: the paper takes 5 epochs of gradient steps on the last token's state; here the
head is fitted to its optimum on the mean state of a middle layer.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from facsynth.progress import SILENT, Progress
from facsynth.tasks.folder import TrainedTask, Training, check_enough
from facsynth.tasks.reward.data import Comparison, both_sides
from facsynth.tasks.reward.settings import RewardSettings
from facsynth.tasks.settings import Loader, is_control

__all__ = ["train_reward"]


def train_reward(
    pairs: Sequence[Comparison],
    load: Loader,
    folder: Path,
    settings: RewardSettings | None = None,
    *,
    progress: Progress = SILENT,
) -> TrainedTask:
    """Train a reward model for each random seed, and on randomly swapped pairs as a control.

    Args:
        pairs: Training pairs.
        load: Loads the untrained model, after the input is checked.
        folder: Where to write; an unfinished training resumes.
        settings: How.
        progress: Where bars go.

    Raises:
        DataError: There are fewer than two pairs, or a side has no words.
        ModelError: There is no such layer, or no chat template.
        MismatchError: The folder holds other training.
    """
    settings = settings or RewardSettings()
    check_enough(pairs, "training pairs")
    training = Training("reward", folder, settings, both_sides(pairs))
    training.check()
    # It loads torch, so it comes after the checks.
    from facsynth.tasks.scorer import Draw, train_scorer

    draws = []
    for name, random_seed in settings.train.models.items():
        rng = np.random.default_rng(random_seed)
        picked = np.sort(rng.permutation(len(pairs))[: settings.max_samples])
        swap = rng.integers(0, 2, picked.size) * is_control(name)
        rows = np.column_stack([2 * picked + swap, 2 * picked + 1 - swap])
        draws.append(Draw(name, random_seed, rows))
    return train_scorer(training, "preference", draws, load, progress=progress)
