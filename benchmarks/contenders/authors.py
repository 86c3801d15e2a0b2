"""The authors' procedure: one text per forward pass, every pre-activation, a full sort per token.

Based on a description of their scripts: a hook on the layer ends the forward pass, and k is set to
the width of the SAE, so the code contains every positive pre-activation, in sorted order. The
decoding, the loss and the per-feature Python lists of their scripts are omitted.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from contenders.worker import Job, Text, TextResult, count_positions, serve
from facsynth.sae.files import load_sae
from facsynth.sae.module import SparseAutoencoder


@dataclass(frozen=True)
class Loaded:
    """What every run needs."""

    model: Any
    tokenizer: Any
    sae: SparseAutoencoder


class Stop(Exception):  # noqa: N818
    """Ends the forward pass early."""


def load(job: Job) -> Loaded:
    torch.set_num_threads(job.threads)
    tokenizer = AutoTokenizer.from_pretrained(job.model)
    model = AutoModelForCausalLM.from_pretrained(job.model, dtype=getattr(torch, job.dtype)).eval()
    model = model.to(job.device)
    return Loaded(model, tokenizer, load_sae(job.sae).to(job.device))


@torch.inference_mode()
def run(loaded: Loaded, texts: Sequence[Text]) -> list[torch.Tensor]:
    return [read_one(loaded, text) for text in texts]


def read_one(loaded: Loaded, text: Text) -> torch.Tensor:
    kept = []

    def keep(_module: Any, _inputs: Any, output: Any) -> None:
        kept.append(output[0] if isinstance(output, tuple) else output)
        raise Stop

    handle = loaded.model.model.layers[loaded.sae.config.layer].register_forward_hook(keep)
    inputs = loaded.tokenizer(text.rendered, add_special_tokens=False, return_tensors="pt")
    inputs = inputs.to(loaded.model.device)
    try:
        loaded.model(**inputs)
    except Stop:
        pass
    finally:
        handle.remove()
    pre = loaded.sae.pre_activations(kept[0].view(-1, kept[0].shape[-1]))
    values, ids = pre.topk(pre.shape[1], dim=1)  # k = the width: a full sort
    code = torch.zeros_like(pre).scatter_(1, ids, values.relu())
    return code[torch.from_numpy(text.scored)].amax(0).cpu()


def results(found: list[torch.Tensor]) -> list[TextResult]:
    return [(g.nonzero()[:, 0].numpy(), g[g > 0].numpy()) for g in found]


def positions(loaded: Loaded, texts: Sequence[Text]) -> int:
    with count_positions(loaded.model.model.layers[0]) as seen:
        run(loaded, texts)
    return sum(seen)


if __name__ == "__main__":
    serve(load, run, packages=("torch", "transformers"), results=results, positions=positions)
