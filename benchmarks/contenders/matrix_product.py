"""Rate of the matrix products alone, with the weights of the layers that extraction uses."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import linear
from transformers import AutoModel

from contenders.worker import Job, Text, serve

ROWS = (512, 1024, 2048, 4096)
"""Tokens of a batch."""

SECONDS = 0.5
"""Minimum time for each number of rows."""


@dataclass(frozen=True)
class Loaded:
    """What every run needs."""

    weights: list[torch.Tensor]


def load(job: Job) -> Loaded:
    torch.set_num_threads(job.threads)
    model = AutoModel.from_pretrained(job.model, dtype=getattr(torch, job.dtype)).to(job.device)
    layers = model.layers[: job.layer + 1]
    linears = (m for layer in layers for m in layer.modules() if isinstance(m, torch.nn.Linear))
    return Loaded([m.weight.detach() for m in linears])


@torch.inference_mode()
def run(loaded: Loaded, _texts: Sequence[Text]) -> dict[str, Any]:
    flops = 2 * sum(weight.numel() for weight in loaded.weights)
    return {
        "flops_per_token": flops,
        "flops_per_s": {str(rows): rows * flops / seconds(loaded, rows) for rows in ROWS},
    }


def seconds(loaded: Loaded, rows: int) -> float:
    """Mean time of all products of one batch."""
    like, widths = loaded.weights[0], {w.shape[1] for w in loaded.weights}
    inputs = {width: torch.randn(rows, width).to(like) for width in widths}
    wait: Callable[[], None] = torch.cuda.synchronize if like.is_cuda else (lambda: None)
    start, n_rounds = time.perf_counter(), 0
    while n_rounds < 2 or time.perf_counter() - start < SECONDS:
        for weight in loaded.weights:
            linear(inputs[weight.shape[1]], weight)
        wait()
        n_rounds += 1
    return (time.perf_counter() - start) / n_rounds


if __name__ == "__main__":
    serve(load, run, packages=("torch",), results=lambda _: [], facts=lambda output: output)
