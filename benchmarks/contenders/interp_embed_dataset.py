"""interp-embed: its `Dataset` over a local SAE, with its own default batches of 8.

Its `LocalSAE` fetches the model and the SAE by their public names; here both come from disk, on
the Transformers bridge. It does not support a tokenizer with a chat template (it tokenises twice,
once with and once without), so the texts have the template already applied. The maximum over the
scored positions is computed from the per-token activations that the data set stores.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from interp_embed import Dataset
from interp_embed.saes.local_sae import LocalSAE
from sae_lens import SAE
from transformer_lens.model_bridge import TransformerBridge

from contenders.worker import Job, Text, TextResult, count_positions, serve


class FromDisk(LocalSAE):  # type: ignore[misc]  # untyped library
    """The same encoder, loaded from folders and reused between runs."""

    def __init__(self, job: Job) -> None:
        super().__init__(sae_id="local", release="local", device="cpu")
        self.job = job
        self.model: Any = None

    def load_models(self) -> None:
        """Load the model and the SAE once."""
        if self.model is None:
            dtype = getattr(torch, self.job.dtype)
            self.sae = SAE.load_from_disk(self.job.sae, device="cpu")
            self.model = TransformerBridge.boot_transformers(
                self.job.model, device="cpu", dtype=dtype
            )
            self.tokenizer = self.model.tokenizer
            self.tokenizer.padding_side = "right"
            self.tokenizer.chat_template = None  # the texts are already rendered

    def destroy_models(self) -> None:
        """Do nothing, so the model stays loaded: loading is not measured."""


@dataclass(frozen=True)
class Loaded:
    """What every run needs."""

    sae: FromDisk


def load(job: Job) -> Loaded:
    torch.set_num_threads(job.threads)
    sae = FromDisk(job)
    sae.load()
    return Loaded(sae)


def run(loaded: Loaded, texts: Sequence[Text]) -> list[TextResult]:
    dataset = Dataset([{"text": text.rendered} for text in texts], sae=loaded.sae)
    missing = sum(row is None for row in dataset.rows)
    if missing:
        raise RuntimeError(f"interp-embed gave nothing for {missing} of {len(texts)} texts")
    return [pooled(row.activations, text) for row, text in zip(dataset.rows, texts, strict=True)]


def pooled(tokens: Any, text: Text) -> TextResult:
    """Largest activation of each feature over the scored tokens of a sparse matrix."""
    values = tokens[text.scored].max(axis=0).toarray()[0]
    ids = np.flatnonzero(values)
    return ids, values[ids]


def positions(loaded: Loaded, texts: Sequence[Text]) -> int:
    with count_positions(loaded.sae.model.blocks[0]) as seen:
        run(loaded, texts)
    return sum(seen)


if __name__ == "__main__":
    serve(
        load,
        run,
        packages=("interp-embed", "sae-lens", "transformer-lens", "torch", "transformers"),
        positions=positions,
    )
