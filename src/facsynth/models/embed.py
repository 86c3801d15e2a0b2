"""One vector per sample from the residual stream: a mean over tokens, or the last token's."""

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float32

from facsynth.models.lm import LanguageModel
from facsynth.models.residual import batch_by_length, check_layer, read_residual
from facsynth.models.tokens import Score, TokenizedSample, tokenize_samples
from facsynth.progress import SILENT, Progress
from facsynth.records import Sample

__all__ = ["TokenPooling", "embed_samples", "embed_tokenized"]

TokenPooling = Literal["mean", "last"]
"""Mean over the scored tokens, or the very last token, which the template may have put there."""


def embed_samples(
    samples: Sequence[Sample],
    lm: LanguageModel,
    layer: int,
    *,
    score: Score = "all",
    max_length: int = 1024,
    batch_tokens: int = 2048,
    progress: Progress = SILENT,
) -> Float32[np.ndarray, "n_samples d_model"]:
    """Mean residual stream at the output of a decoder layer, over the scored tokens.

    Args:
        samples: What to read, in the order of the result.
        lm: The language model.
        layer: 0-based decoder layer; the layers above are not run.
        score: Whose words are scored; template and special tokens never are.
        max_length: Longer samples are cut at the end.
        batch_tokens: Tokens per forward pass, padding included.
        progress: Where the bar is drawn.

    Returns:
        One row per sample, not centred; zero for a sample without scored tokens.

    Raises:
        ModelError: The model has no such layer.
        DataError: The chat template refuses a sample.
    """
    texts = tokenize_samples(samples, lm.tokenizer, score=score, max_length=max_length)
    return embed_tokenized(texts, lm, layer, batch_tokens=batch_tokens, progress=progress)


def embed_tokenized(
    texts: Sequence[TokenizedSample],
    lm: LanguageModel,
    layer: int,
    *,
    pooling: TokenPooling = "mean",
    batch_tokens: int = 2048,
    progress: Progress = SILENT,
) -> Float32[np.ndarray, "n_samples d_model"]:
    """The same for samples that have been tokenised, by either pooling.

    Returns:
        One row per sample, not centred; zero for a sample without such a token.

    Raises:
        ModelError: The model has no such layer.
    """
    check_layer(lm, layer)
    vectors = np.zeros((len(texts), lm.d_model), dtype=np.float32)
    with progress.task("embedding", len(texts), "samples") as task:
        lengths = [len(text.input_ids) for text in texts]
        for batch in batch_by_length(lengths, batch_tokens=batch_tokens):
            output = read_residual(lm, [texts[i].input_ids for i in batch], layer)
            for row, i in enumerate(batch):
                wanted = np.flatnonzero(texts[i].scored)
                if pooling == "last":
                    wanted = np.arange(lengths[i])[-1:]
                if len(wanted):
                    rows = output[row, torch.from_numpy(wanted).to(output.device)]
                    vectors[i] = rows.float().mean(dim=0).cpu().numpy()
            task.advance(len(batch))
    return vectors
