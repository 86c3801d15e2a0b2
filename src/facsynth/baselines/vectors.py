"""Vectors of texts for the baselines that choose by them: hidden states, and loss gradients."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64

from facsynth.baselines.job import Local
from facsynth.chat.settings import Generator
from facsynth.models.embed import embed_samples
from facsynth.models.lm import LanguageModel
from facsynth.models.residual import decoder_layers
from facsynth.models.source import load_tokenizer
from facsynth.records import Sample

__all__ = ["gradient_rows", "local_parts"]

_WIDTH = 1024
"""Dimensions that a gradient is sketched to (section 3.1 of arXiv 2505.20161 projects to 1,024)."""

_MAX_TOKENS = 256


def local_parts(load: Callable[[], LanguageModel], generator: Generator) -> Local:
    """What local models give to baselines; each is loaded by the first that needs it.

    Args:
        load: Loads the model that gives vectors; it is the generator, too, where that names none.
        generator: Who writes.
    """

    def hidden(texts: Sequence[str]) -> Any:
        lm = load()
        samples = [Sample(str(i), text=text) for i, text in enumerate(texts)]
        return embed_samples(samples, lm, (lm.n_layers - 1) // 2).astype(np.float64)

    def tokenizer() -> Any:
        name = generator.model
        return load_tokenizer(name) if name else load().tokenizer

    vectors = {"hidden": hidden, "gradient": lambda texts: gradient_rows(texts, load())}
    return Local(vectors, None if generator.chat_model else tokenizer)


def gradient_rows(
    texts: Sequence[str], lm: LanguageModel, *, random_seed: int = 0
) -> Float64[np.ndarray, "n_texts width"]:
    """The gradient of each text's mean token loss, sketched and of length 1.

    The gradient is that by the weights of the last decoder layer; a count sketch (Charikar et al.
    2002: each weight goes to one of 1,024 sums under a random sign) keeps inner products.

    Args:
        texts: Plain texts, cut at 256 tokens; one of fewer than two tokens gets zeros.
        lm: The proxy model.
        random_seed: Of the sketch.
    """
    weights = [p for p in decoder_layers(lm.model)[-1].parameters() if p.ndim == 2]
    frozen = [p.requires_grad for p in lm.model.parameters()]
    rng = torch.Generator().manual_seed(random_seed)
    n = sum(p.numel() for p in weights)
    place = torch.randint(_WIDTH, (n,), generator=rng)
    sign = torch.randint(2, (n,), generator=rng).float() * 2 - 1
    rows = torch.zeros(len(texts), _WIDTH, dtype=torch.float64)
    try:
        lm.model.requires_grad_(False)
        for weight in weights:
            weight.requires_grad_(True)
        for row, text in enumerate(texts):
            ids = lm.tokenizer(text, add_special_tokens=False)["input_ids"][:_MAX_TOKENS]
            if len(ids) < 2:
                continue
            batch = torch.tensor([ids], device=lm.device)
            loss = lm.model(input_ids=batch, labels=batch).loss
            parts = torch.autograd.grad(loss, weights)
            flat = torch.cat([part.reshape(-1).float().cpu() for part in parts]) * sign
            sums = torch.zeros(_WIDTH).index_add_(0, place, flat).double()
            rows[row] = sums / sums.norm().clamp_min(1e-12)
    finally:
        for parameter, was in zip(lm.model.parameters(), frozen, strict=True):
            parameter.requires_grad_(was)
    return rows.numpy()
