"""Toxicity and reward models trained with LoRA or in full; see `tuning.PAPER` for the settings."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from facsynth.data.copies import KnownTexts
from facsynth.errors import DataError
from facsynth.models.lm import LanguageModel
from facsynth.progress import SILENT, Progress
from facsynth.records import Sample, sample_text
from facsynth.table.write import samples_hash
from facsynth.tasks.classifier import token_rows
from facsynth.tasks.comparisons import Comparison
from facsynth.tasks.fit import Job, Loader, claim_folder, fit_jobs
from facsynth.tasks.folder import TrainedTask, save_task
from facsynth.tasks.labelled import LabelledTexts
from facsynth.tasks.metrics import check_classes
from facsynth.tasks.reward import sides
from facsynth.tasks.toxicity import draw_rows
from facsynth.tasks.tuning import TuneRun

__all__ = ["check_some", "finish_run", "tune_reward", "tune_toxicity"]


def tune_toxicity(
    data: LabelledTexts,
    load: Loader,
    run: TuneRun,
    *,
    safe: LabelledTexts | None = None,
    n_safe: int = 1000,
    max_per_class: int | None = None,
    progress: Progress = SILENT,
) -> TrainedTask:
    """Train a two-class model per seed, with cross-entropy on the last token's state.

    Args:
        data: Training samples.
        load: Loads the untrained model.
        run: Where and how; a folder that was begun is gone on with.
        safe: Harmless samples, of which every seed draws `n_safe`; their labels are not read.
        n_safe: How many.
        max_per_class: Draw this many samples of each class of `data` at most.
        progress: Where bars go.

    Raises:
        DataError: A class is missing, or a sample has no words or is too long.
        MismatchError: The folder holds other training.
    """
    extra = safe.samples if safe else ()
    positive = np.concatenate([data.positive, np.zeros(len(extra), np.bool_)])
    check_classes(positive, "the training data")
    samples = (*data.samples, *extra)
    lm = load()
    tokens, n_cut = token_rows(samples, lm, run.settings)
    plan = {
        "data": samples_hash(samples),
        "labels": hashlib.sha256(positive.tobytes()).hexdigest(),
        "drawn": [n_safe, max_per_class],
        "n_cut": n_cut,
    }
    jobs = []
    for name, seed in run.names.items():
        picked = draw_rows(
            data.positive, len(extra), n_safe=n_safe, max_per_class=max_per_class, seed=seed
        )
        labels = positive[picked]
        if name.startswith("shuffled"):
            labels = np.random.default_rng(seed).permutation(labels)
        rows = [
            {"input_ids": tokens[i].tolist(), "labels": int(label)}
            for i, label in zip(picked.tolist(), labels.tolist(), strict=True)
        ]
        jobs.append(Job(name, seed, rows))
    claim_folder(run, "toxicity", lm, plan)
    metrics = fit_jobs(jobs, lm, load, run, "classification", progress=progress)
    return finish_run("toxicity", run, lm, plan, metrics, samples)


def tune_reward(
    pairs: Sequence[Comparison],
    load: Loader,
    run: TuneRun,
    *,
    max_pairs: int | None = None,
    progress: Progress = SILENT,
) -> TrainedTask:
    """Train a Bradley-Terry reward model per seed, on the last token's state.

    Args:
        pairs: Training pairs.
        load: Loads the untrained model.
        run: Where and how; a folder that was begun is gone on with.
        max_pairs: Draw this many pairs at most for each seed.
        progress: Where bars go.

    Raises:
        DataError: A side has no words or is too long.
        MismatchError: The folder holds other training.
    """
    check_some(pairs, "training pairs")
    samples = sides(pairs)
    lm = load()
    tokens, n_cut = token_rows(samples, lm, run.settings)
    jobs = []
    for name, seed in run.names.items():
        rng = np.random.default_rng(seed)
        picked = np.sort(rng.permutation(len(pairs))[:max_pairs])
        swap = rng.integers(0, 2, picked.size) * name.startswith("shuffled")
        rows = [
            {
                "chosen_ids": tokens[2 * i + s].tolist(),
                "rejected_ids": tokens[2 * i + 1 - s].tolist(),
            }
            for i, s in zip(picked.tolist(), swap.tolist(), strict=True)
        ]
        jobs.append(Job(name, seed, rows))
    plan = {"data": samples_hash(samples), "drawn": [max_pairs], "n_cut": n_cut}
    claim_folder(run, "reward", lm, plan)
    metrics = fit_jobs(jobs, lm, load, run, "preference", progress=progress)
    return finish_run("reward", run, lm, plan, metrics, samples)


def finish_run(
    task: str,
    run: TuneRun,
    lm: LanguageModel,
    facts: dict[str, Any],
    metrics: dict[str, dict[str, Any]],
    samples: Sequence[Sample],
) -> TrainedTask:
    """Write task.json and what evaluation data are compared with."""
    config = {
        "model": lm.name,
        "model_hash": lm.content_hash,
        **facts,
        "method": "lora" if run.settings.lora else "full",
        "settings": asdict(run.settings),
        "seeds": list(run.seeds),
        "models": list(metrics),
        "training": {
            name: {key: value for key, value in row.items() if key != "log"}
            for name, row in metrics.items()
        },
    }
    known = KnownTexts(sample_text(sample) for sample in samples)
    trained = TrainedTask(task, config, {}, known, run.folder)
    save_task(run.folder, trained)
    return trained


def check_some(samples: Sequence[object], what: str) -> None:
    """Raise a DataError unless there are two or more."""
    if len(samples) < 2:
        raise DataError(f"{len(samples)} {what} are too few to train on; give two or more")
