"""SAELens as documented: `run_with_cache` on its Transformers bridge, then `encode`, batches of 16.

The bridge stops after the SAE's layer and keeps only that hook. This file takes the maximum over
the scored positions, because SAELens has no pooling.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from sae_lens import SAE
from sae_lens.analysis.sae_transformer_bridge import SAETransformerBridge

from contenders.worker import Job, Text, TextResult, count_positions, serve

BATCH = 16


@dataclass(frozen=True)
class Loaded:
    """What every run needs."""

    bridge: Any
    sae: Any
    layer: int


def load(job: Job) -> Loaded:
    torch.set_num_threads(job.threads)
    dtype = getattr(torch, job.dtype)
    bridge = SAETransformerBridge.boot_transformers(job.model, device="cpu", dtype=dtype)
    bridge.tokenizer.padding_side = "right"
    bridge.tokenizer.pad_token = bridge.tokenizer.pad_token or bridge.tokenizer.eos_token
    return Loaded(bridge, SAE.load_from_disk(job.sae, device="cpu"), job.layer)


@torch.inference_mode()
def run(loaded: Loaded, texts: Sequence[Text]) -> list[torch.Tensor]:
    hook = f"blocks.{loaded.layer}.hook_out"
    found = []
    for start in range(0, len(texts), BATCH):
        batch = texts[start : start + BATCH]
        inputs = loaded.bridge.tokenizer(
            [text.rendered for text in batch],
            padding=True,
            add_special_tokens=False,
            return_tensors="pt",
        )
        _, cache = loaded.bridge.run_with_cache(
            inputs["input_ids"],
            attention_mask=inputs["attention_mask"],
            names_filter=[hook],
            stop_at_layer=loaded.layer + 1,
        )
        codes = loaded.sae.encode(cache[hook].to(loaded.sae.dtype))
        for code, text in zip(codes, batch, strict=True):
            found.append(code[torch.from_numpy(text.scored)].amax(0))
    return found


def results(found: list[torch.Tensor]) -> list[TextResult]:
    return [(g.nonzero()[:, 0].numpy(), g[g > 0].numpy()) for g in found]


def positions(loaded: Loaded, texts: Sequence[Text]) -> int:
    with count_positions(loaded.bridge.blocks[0]) as seen:
        run(loaded, texts)
    return sum(seen)


if __name__ == "__main__":
    serve(
        load,
        run,
        packages=("sae-lens", "transformer-lens", "torch", "transformers"),
        results=results,
        positions=positions,
    )
