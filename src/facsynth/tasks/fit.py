"""Training in a folder by Transformers' and TRL's trainers; a killed training resumes.

```
DIR/model-42/checkpoints/    the last checkpoint, while it trains
DIR/model-42/                adapter or weights, and metrics.json, written last
```
"""

import json
import math
import os
import shutil
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from transformers import TrainerCallback, set_seed

from facsynth.data.stored import read_json
from facsynth.data.write import write_json
from facsynth.errors import DataError
from facsynth.models.lm import LanguageModel
from facsynth.progress import SILENT, Progress, Task
from facsynth.records import sample_text
from facsynth.tasks.classifier import add_adapters, as_classifier, padded_tokenizer
from facsynth.tasks.folder import TrainedTask, Training, save_task
from facsynth.tasks.settings import Loader, OptimizerSettings, TuneSettings

__all__ = ["N_OUTPUTS", "Job", "Kind", "fit_jobs", "save_trained"]

Kind = Literal["classification", "preference", "instruction"]
"""Trained by Transformers' Trainer, TRL's RewardTrainer or TRL's SFTTrainer."""

N_OUTPUTS = {"classification": 2, "preference": 1}
"""Outputs of the head; an instruction model has none."""


@dataclass(frozen=True)
class Job:
    """One model to be trained."""

    name: str
    """Its folder inside the task's folder."""

    random_seed: int
    rows: Sequence[dict[str, Any]]
    """Token ids and labels, as the trainer of its kind takes them."""


def fit_jobs(
    jobs: Sequence[Job],
    lm: LanguageModel,
    load: Loader,
    training: Training,
    kind: Kind,
    *,
    tokenizer: Any = None,
    progress: Progress = SILENT,
) -> dict[str, dict[str, Any]]:
    """Train what is not there yet; an unfinished job resumes at its last checkpoint.

    The first job may change `lm`; `load` reads it again for the next one.

    Returns:
        Rows, steps and seconds of each job, by name.

    Raises:
        MismatchError: The folder holds other training.
    """
    training.claim(lm.content_hash)
    found, fresh = {}, True
    for job in jobs:
        folder = training.folder / job.name
        done = folder / "metrics.json"
        if not done.is_file():
            lm = lm if fresh else load()
            fresh = False
            own = padded_tokenizer(tokenizer or lm.tokenizer)
            metrics = _fit(job, lm, own, training.train, kind, folder, progress)
            _drop_checkpoints(folder / "checkpoints")
            write_json(metrics, done)
        found[job.name] = read_json(done)
        del found[job.name]["log"]
    return found


def _drop_checkpoints(checkpoints: Path) -> None:
    """Checkpoints are for resuming; TensorBoard's files, which Trainer puts there, are kept."""
    logs = checkpoints / "runs"
    if logs.is_dir():
        shutil.copytree(logs, checkpoints.with_name("runs"), dirs_exist_ok=True)
    shutil.rmtree(checkpoints, ignore_errors=True)


def save_trained(
    training: Training,
    lm: LanguageModel,
    found: dict[str, Any],
    tensors: dict[str, Any] | None = None,
    **facts: Any,
) -> TrainedTask:
    """Write the folder of trained models or heads; `facts` are other values for task.json."""
    config = {
        "model": lm.name,
        "model_hash": lm.content_hash,
        "method": training.train.method,
        "settings": asdict(training.settings),
        "random_seeds": sorted({training.train.models[name] for name in found}),
        "training": found,
        **facts,
    }
    texts = map(sample_text, training.samples)
    return save_task(training.task, training.folder, config, texts, tensors)


def _fit(
    job: Job,
    lm: LanguageModel,
    tokenizer: Any,
    settings: TuneSettings,
    kind: Kind,
    folder: Path,
    progress: Progress,
) -> dict[str, Any]:
    _check_devices(lm)
    set_seed(job.random_seed)
    steps = settings.optimizer
    model = as_classifier(lm, N_OUTPUTS[kind]) if kind in N_OUTPUTS else lm.model
    half = next(iter(lm.model.parameters())).dtype
    if settings.full:
        model = model.float()  # small steps of half-precision weights would be rounded away
    else:
        model = add_adapters(model, settings.lora, head=kind in N_OUTPUTS)
        if steps.gradient_checkpointing:
            model.enable_input_require_grads()
    checkpoints = folder / "checkpoints"
    arguments = _arguments(steps, checkpoints, job.random_seed, lm.device, half)
    trainer = _trainer(kind, model, job.rows, arguments, tokenizer)
    last = _last_checkpoint(checkpoints)
    n_done = int(last.name.split("-")[1]) if last else 0
    # As Trainer counts: the last step of an epoch may be smaller.
    n_steps = max(1, math.ceil(steps.epochs * math.ceil(len(job.rows) / steps.batch_size)))
    resumed = f", resuming at step {n_done:,}" if n_done else ""
    progress.say(f"{job.name}: {len(job.rows):,} samples, {n_steps:,} steps{resumed}")
    started = time.monotonic()
    with progress.task(job.name, n_steps, "steps") as task:
        task.advance(n_done)
        trainer.add_callback(_Watcher(task))
        trainer.train(resume_from_checkpoint=str(last) if last else None)
    for saved in (trainer.model, tokenizer):
        saved.save_pretrained(folder)
    return {
        "n_rows": len(job.rows),
        "n_steps": trainer.state.global_step,
        "seconds": time.monotonic() - started,
        "resumed_at": n_done or None,
        "log": [row for row in trainer.state.log_history if "loss" in row],
    }


def _check_devices(lm: LanguageModel) -> None:
    """Trainer would spread batches over all GPUs of one process, which TRL does not support."""
    if lm.device.type == "cuda" and torch.cuda.device_count() > 1 and "RANK" not in os.environ:
        raise DataError(
            f"{torch.cuda.device_count()} GPUs are visible, but training uses one; choose it with "
            "CUDA_VISIBLE_DEVICES"
        )


def _arguments(
    settings: OptimizerSettings,
    folder: Path,
    random_seed: int,
    device: torch.device,
    half: torch.dtype,
) -> dict[str, Any]:
    """What all three trainers take."""
    return {
        "output_dir": str(folder),
        "num_train_epochs": settings.epochs,
        "learning_rate": settings.learning_rate,
        "per_device_train_batch_size": settings.per_pass,
        "gradient_accumulation_steps": settings.batch_size // settings.per_pass,
        "lr_scheduler_type": settings.schedule,
        "warmup_steps": settings.warmup,
        "weight_decay": settings.weight_decay,
        "activation_checkpointing": settings.gradient_checkpointing,
        "bf16": half == torch.bfloat16,
        "fp16": half == torch.float16 and device.type == "cuda",
        "use_cpu": device.type == "cpu",
        "dataloader_pin_memory": device.type == "cuda",
        "save_strategy": "steps",
        "save_steps": settings.save_every,
        "save_total_limit": 1,
        "logging_steps": 10,
        "disable_tqdm": True,
        "report_to": list(settings.log_to) or "none",
        "seed": random_seed,
        "data_seed": random_seed,
    }


def _trainer(
    kind: Kind, model: Any, rows: Sequence[dict[str, Any]], arguments: Any, tokenizer: Any
) -> Any:
    """The trainer of a kind, without the callbacks that print."""
    from datasets import Dataset
    from transformers import (
        DataCollatorWithPadding,
        PrinterCallback,
        Trainer,
        TrainingArguments,
    )

    data = Dataset.from_list([dict(row) for row in rows])
    if kind == "classification":
        trainer: Any = Trainer(
            model,
            TrainingArguments(**arguments),
            data_collator=DataCollatorWithPadding(tokenizer),
            train_dataset=data,
        )
    else:
        import trl

        if kind == "preference":
            config = trl.RewardConfig(**arguments, max_length=None)
            make = trl.RewardTrainer
        else:
            ready = {"skip_prepare_dataset": True}
            config = trl.SFTConfig(**arguments, max_length=None, dataset_kwargs=ready)
            make = trl.SFTTrainer
        trainer = make(model, config, train_dataset=data, processing_class=tokenizer)
    trainer.remove_callback(PrinterCallback)
    return trainer


class _Watcher(TrainerCallback):  # type: ignore[misc]
    """Moves the bar on and shows the loss."""

    def __init__(self, task: Task) -> None:
        self._task = task
        self._note = ""

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        self._task.advance(1, self._note)

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if logs and "loss" in logs:
            self._note = f"loss {float(logs['loss']):.3f}"


def _last_checkpoint(folder: Path) -> Path | None:
    """The newest complete checkpoint: Trainer writes its state last."""
    found: list[tuple[int, Path]] = []
    for state in folder.glob("checkpoint-*/trainer_state.json"):
        with suppress(ValueError):
            json.loads(state.read_text(encoding="utf-8"))
            found.append((int(state.parent.name.split("-")[1]), state.parent))
    return max(found)[1] if found else None
