"""facsynth's trainer on stored activations; takes the job as JSON and turns as in `train_turns`."""

import json
import sys
from functools import partial
from pathlib import Path

import torch
import transformers
from safetensors.torch import load_file

from contenders.train_turns import take_turns
from facsynth.progress import SILENT
from facsynth.sae.files import save_sae
from facsynth.sae.train.data import TokenGroup
from facsynth.sae.train.ranks import ALONE
from facsynth.sae.train.settings import TrainSettings
from facsynth.sae.train.state import initial_state
from facsynth.sae.train.train import folded_sae
from facsynth.sae.train.trainer import SaeTrainer

job = json.loads(sys.argv[1])
torch.set_num_threads(job["n_threads"])
rows = load_file(job["activations"])["train"]
names = ("n_features", "k", "batch_tokens")
settings = TrainSettings(**{name: job[name] for name in names}, **job["options"])


def new_trainer() -> SaeTrainer:
    return SaeTrainer(initial_state(rows, settings, ALONE), settings, ALONE, n_steps=job["n_steps"])


def train(trainer: SaeTrainer, first: int, last: int) -> None:
    size = settings.batch_tokens
    order = torch.arange(first * size, last * size) % len(rows)
    with SILENT.task("", 0, "") as task:
        trainer.use(TokenGroup(rows, order), task)
    assert trainer.state.step == last


def save(folder: Path) -> None:
    save_sae(folded_sae(measured.state, settings, layer=job["layer"], metadata={}), folder)


train(new_trainer(), 0, job["warm_up_steps"])
measured = new_trainer()
versions = {"torch": torch.__version__, "transformers": transformers.__version__}
take_turns(partial(train, measured), save, versions)
