"""SAELens' trainer on stored activations; takes the job as JSON and turns as in `train_turns`."""

import copy
import json
import sys
from functools import partial
from importlib.metadata import version
from pathlib import Path

import torch
from sae_lens import TopKTrainingSAE, TopKTrainingSAEConfig
from sae_lens.config import SAETrainerConfig
from sae_lens.training.sae_trainer import SAETrainer
from safetensors.torch import load_file

from contenders.train_turns import take_turns

job = json.loads(sys.argv[1])
torch.set_num_threads(job["n_threads"])
rows = load_file(job["activations"])["train"]
size, n_steps, rate = job["batch_tokens"], job["n_steps"], job["options"]["learning_rate"]


def new_trainer() -> SAETrainer:
    torch.manual_seed(0)
    sae = TopKTrainingSAE(
        TopKTrainingSAEConfig(d_in=rows.shape[1], d_sae=job["n_features"], k=job["k"])
    )
    config = SAETrainerConfig(
        total_training_samples=n_steps * size,
        train_batch_size_samples=size,
        lr=rate,
        lr_end=rate / 10,
        lr_warm_up_steps=round(0.02 * n_steps) or 1,
        lr_decay_steps=round(0.3 * n_steps),
    )
    return SAETrainer(config, sae, iter(()))


def train(trainer: SAETrainer, first: int, last: int) -> None:
    """What `SAETrainer.fit` does for each batch, without its progress bar and logs."""
    for step in range(first, last):
        trainer.maybe_reset_sparsity()
        trainer.step(rows[torch.arange(step * size, (step + 1) * size) % len(rows)])
        trainer.n_training_steps += 1
    assert trainer.n_training_steps == last


def save(folder: Path) -> None:
    copy.deepcopy(measured.sae).save_inference_model(folder)


train(new_trainer(), 0, job["warm_up_steps"])
measured = new_trainer()
take_turns(partial(train, measured), save, {"sae-lens": version("sae-lens")})
