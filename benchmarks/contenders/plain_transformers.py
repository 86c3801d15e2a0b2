"""Plain Transformers: padded batches of 16, all hidden states, the dense code, its maximum."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoModel, AutoTokenizer

from contenders.worker import Job, Text, TextResult, count_positions, serve
from facsynth.sae.files import load_sae
from facsynth.sae.module import SparseAutoencoder

BATCH = 16


@dataclass(frozen=True)
class Loaded:
    """What every run needs."""

    model: Any
    tokenizer: Any
    sae: SparseAutoencoder


def load(job: Job) -> Loaded:
    torch.set_num_threads(job.threads)
    tokenizer = AutoTokenizer.from_pretrained(job.model)
    tokenizer.padding_side = "right"
    tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
    model = AutoModel.from_pretrained(job.model, dtype=getattr(torch, job.dtype)).eval()
    model = model.to(job.device)
    return Loaded(model, tokenizer, load_sae(job.sae).to(job.device))


@torch.inference_mode()
def run(loaded: Loaded, texts: Sequence[Text]) -> list[torch.Tensor]:
    layer = loaded.sae.config.layer
    found = []
    for start in range(0, len(texts), BATCH):
        batch = texts[start : start + BATCH]
        rendered = [text.rendered for text in batch]
        inputs = loaded.tokenizer(
            rendered, padding=True, add_special_tokens=False, return_tensors="pt"
        ).to(loaded.model.device)
        states = loaded.model(**inputs, output_hidden_states=True).hidden_states[layer + 1]
        codes = loaded.sae.encode(states.flatten(0, 1)).view(*states.shape[:2], -1)
        for code, text in zip(codes, batch, strict=True):
            found.append(code[torch.from_numpy(text.scored)].amax(0).cpu())
    return found


def results(found: list[torch.Tensor]) -> list[TextResult]:
    return [(g.nonzero()[:, 0].numpy(), g[g > 0].numpy()) for g in found]


def positions(loaded: Loaded, texts: Sequence[Text]) -> int:
    with count_positions(loaded.model.layers[0]) as seen:
        run(loaded, texts)
    return sum(seen)


if __name__ == "__main__":
    serve(load, run, packages=("torch", "transformers"), results=results, positions=positions)
