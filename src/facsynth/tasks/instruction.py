"""Instruction following: supervised fine-tuning on the answers of conversations, by TRL.

Settings of the paper (arXiv 2602.10388) are the defaults (`tuning.PAPER`): LoRA of rank 8, five
epochs, learning rate 1e-4 that falls linearly, 16 conversations a step, and the template `alpaca`
for a model without one of its own. It trains one seed; here it is one model per seed.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from facsynth.errors import DataError
from facsynth.models.lm import LanguageModel, load_language_model
from facsynth.progress import SILENT, Progress
from facsynth.records import Sample
from facsynth.table.write import samples_hash
from facsynth.tasks.chats import answer_rows, chat_tokenizer
from facsynth.tasks.classifier import load_adapters
from facsynth.tasks.fit import Job, Loader, claim_folder, fit_jobs
from facsynth.tasks.folder import TrainedTask, check_model
from facsynth.tasks.tune import check_some, finish_run
from facsynth.tasks.tuning import TuneRun

__all__ = ["train_instruction", "tuned_model"]


def train_instruction(
    samples: Sequence[Sample],
    load: Loader,
    run: TuneRun,
    *,
    max_samples: int | None = None,
    progress: Progress = SILENT,
) -> TrainedTask:
    """Train a model per seed to give the answers of the conversations.

    The control (`run.control`) learns from answers that are dealt out to other questions.

    Args:
        samples: Conversations that end in an answer; of preference pairs, the chosen side.
        load: Loads the untrained model.
        run: Where and how; a folder that was begun is gone on with.
        max_samples: Draw this many at most for each seed.
        progress: Where bars go.

    Raises:
        DataError: A conversation has no answer, or none within `max_tokens`.
        MismatchError: The folder holds other training.
    """
    check_some(samples, "conversations")
    lm = load()
    tokenizer, template = chat_tokenizer(lm.tokenizer)
    rows, n_cut = answer_rows(samples, lm, tokenizer, run.settings)
    jobs = []
    for name, seed in run.names.items():
        rng = np.random.default_rng(seed)
        picked = np.sort(rng.permutation(len(samples))[:max_samples]).tolist()
        if name.startswith("shuffled"):
            dealt = _deal([samples[i] for i in picked], rng)
            own, _ = answer_rows(dealt, lm, tokenizer, run.settings)
        else:
            own = [rows[i] for i in picked]
        jobs.append(Job(name, seed, own))
    plan = {"data": samples_hash(samples), "drawn": [max_samples], "n_cut": n_cut}
    plan["template"] = template
    claim_folder(run, "instruction", lm, plan)
    metrics = fit_jobs(jobs, lm, load, run, "instruction", tokenizer=tokenizer, progress=progress)
    return finish_run("instruction", run, lm, plan, metrics, samples)


@contextmanager
def tuned_model(trained: TrainedTask, name: str, lm: LanguageModel) -> Iterator[LanguageModel]:
    """The model that was trained into a sub-folder, ready to chat; `base` is the untrained one.

    Raises:
        MismatchError: The model is not the one that was trained on.
        DataError: The sub-folder is gone.
    """
    check_model(trained, lm)
    tokenizer, _ = chat_tokenizer(lm.tokenizer)
    if name == "base":
        yield replace(lm, tokenizer=tokenizer)
        return
    folder = (trained.folder or _nowhere()) / name
    if not folder.is_dir():
        raise DataError(f"{folder} is gone, which task.json names; train again")
    if not (folder / "adapter_config.json").is_file():
        whole = load_language_model(str(folder), device=str(lm.device), dtype=lm.dtype)
        yield whole
        return
    with load_adapters(lm.model, folder) as model:
        yield LanguageModel(model, tokenizer, f"{lm.name} + {name}", lm.content_hash)


def _deal(samples: Sequence[Sample], rng: np.random.Generator) -> list[Sample]:
    """Each conversation with the last answer of another one."""
    step = int(rng.integers(1, max(2, len(samples))))
    order = rng.permutation(len(samples))
    found = list(samples)
    for i, j in zip(order.tolist(), np.roll(order, step).tolist(), strict=True):
        answer = samples[j].messages[-1]
        found[i] = replace(samples[i], messages=(*samples[i].messages[:-1], answer))
    return found


def _nowhere() -> Any:
    raise DataError("this training was not read from a folder; open it with open_task")
