"""Explained variance of the default SAE with other training settings.

    python studies/default_sae/settings.py corpus.jsonl        on a GPU with 30 GB of memory

Extracts the activations of the whole corpus (`corpus.py`) once, keeps them on the device and trains
an SAE with each of `SETTINGS`, in batches drawn from all activations. Prints a line of JSON for
each: explained variance and share of dead features on the held-out 5 % and on the first 262,144
training tokens.
"""

import json
import sys
import time
from typing import Any

import torch
from torch import Tensor

from facsynth.data.read import read_samples
from facsynth.models.lm import LanguageModel, load_language_model
from facsynth.models.residual import batch_by_length, read_residual
from facsynth.models.tokens import tokenize_samples
from facsynth.progress import SILENT
from facsynth.records import Sample
from facsynth.sae.module import SparseAutoencoder
from facsynth.sae.train.data import TokenGroup
from facsynth.sae.train.ranks import ALONE
from facsynth.sae.train.state import initial_state
from facsynth.sae.train.train import SaeTrainer, TrainSettings, folded_sae, split_holdout

LAYER = 14
SETTINGS: tuple[dict[str, Any], ...] = (
    {"learning_rate": 1e-3, "encoder_norm": 1.0, "k_start": 4.0},
    {"learning_rate": 4e-3, "encoder_norm": 1.0, "k_start": 4.0},
    {"learning_rate": 4e-3, "encoder_norm": 0.3, "k_start": 4.0},
    {"learning_rate": 1e-3, "encoder_norm": 0.3, "k_start": 1.0},
    {"learning_rate": 2e-3, "encoder_norm": 0.3, "k_start": 1.0},
)
"""Each runs for 4 epochs with default values otherwise; the first trained the default SAE."""


def read_rows(lm: LanguageModel, samples: list[Sample]) -> Tensor:
    """The residual stream at all scored tokens, in bfloat16."""
    texts = tokenize_samples(samples, lm.tokenizer, max_length=512)
    parts: list[Tensor] = [torch.empty(0)] * len(texts)
    for batch in batch_by_length([len(t.input_ids) for t in texts], batch_tokens=16_384):
        output = read_residual(lm, [texts[i].input_ids for i in batch], LAYER)
        for row, index in enumerate(batch):
            scored = torch.from_numpy(texts[index].scored).to(output.device)
            parts[index] = output[row, : len(scored)][scored].bfloat16()
    return torch.cat(parts)


def train(rows: Tensor, settings: TrainSettings) -> SparseAutoencoder:
    """Train an SAE on batches drawn from all rows."""
    n_steps = settings.epochs * len(rows) // settings.batch_tokens
    state = initial_state(rows[:1_000_000], settings, ALONE)
    trainer = SaeTrainer(state, settings, ALONE, n_steps=n_steps)
    with SILENT.task("", 0, "") as task:
        for epoch in range(settings.epochs):
            rng = torch.Generator(rows.device).manual_seed(epoch)
            order = torch.randperm(len(rows), device=rows.device, generator=rng)
            trainer.use(TokenGroup(rows, order), task)
    return folded_sae(state, settings, layer=LAYER, metadata={}).to(rows.device)


def judge(sae: SparseAutoencoder, rows: Tensor) -> dict[str, float]:
    """Explained variance and share of dead features, excluding outliers as in training."""
    x = rows.float()
    norms = x.norm(dim=1)
    x = x[norms <= 10 * norms.median()]
    mean, error, total = x.mean(0), 0.0, 0.0
    fired = torch.zeros(sae.config.d_sae, dtype=torch.bool, device=x.device)
    for part in torch.split(x, 8192):
        code = sae.encode(part)
        fired |= (code > 0).any(0)
        error += float((part - sae.decode(code)).square().sum())
        total += float((part - mean).square().sum())
    return {"explained": 1 - error / total, "dead": float((~fired).float().mean())}


def main() -> None:
    used, held = split_holdout(list(read_samples(sys.argv[1])), share=0.05)
    lm = load_language_model()
    rows, kept_out = read_rows(lm, used), read_rows(lm, held)
    for changes in SETTINGS:
        start = time.perf_counter()
        sae = train(rows, TrainSettings(epochs=4, **changes))
        found = {"held_out": judge(sae, kept_out), "training": judge(sae, rows[:262_144])}
        seconds = round(time.perf_counter() - start)
        print(json.dumps({**changes, **found, "seconds": seconds}), flush=True)


if __name__ == "__main__":
    main()
