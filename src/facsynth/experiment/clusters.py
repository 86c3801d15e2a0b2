"""Clusters of hidden states in the place of features: is it the SAE that matters, or any space?"""

from collections.abc import Sequence

import numpy as np
import torch

from facsynth.models.lm import LanguageModel
from facsynth.models.residual import batch_by_length, read_residual
from facsynth.models.tokens import Score, tokenize_samples
from facsynth.records import Sample
from facsynth.sae.module import SaeConfig, SparseAutoencoder

__all__ = ["cluster_sae"]

_MOST_CLUSTERS = 512
_TOKENS_PER_CLUSTER = 8
_BATCH_TOKENS = 2048


def cluster_sae(
    samples: Sequence[Sample],
    lm: LanguageModel,
    layer: int,
    score: Score = "all",
    *,
    random_seed: int = 0,
) -> SparseAutoencoder:
    """An SAE whose features are k-means clusters of the samples' tokens.

    The dense control of arXiv 2602.10388 (Table 12). A token activates the cluster whose centre c
    is nearest, by c'x - |c|^2 / 2 = (|x|^2 - |x - c|^2) / 2 with states x standardised in each
    dimension; none if the mean of all tokens is nearer. So every activation above 0 counts.

    Args:
        samples: Whose scored tokens are clustered, at most 512 clusters of 8 tokens on average.
        lm: The language model.
        layer: 0-based decoder layer.
        score: Whose words are scored.
        random_seed: Of the first centres.
    """
    from sklearn.cluster import KMeans

    states = _token_states(samples, lm, layer, score)
    mean, scale = states.mean(axis=0), states.std(axis=0)
    scale = np.maximum(scale, 0.01 * scale.max())  # else dimensions that hardly vary are noise
    rows = (states - mean) / scale
    n = max(1, min(_MOST_CLUSTERS, len(rows) // _TOKENS_PER_CLUSTER))
    centres = KMeans(n, n_init=1, random_state=random_seed).fit(rows).cluster_centers_
    config = SaeConfig(rows.shape[1], n, "topk", layer, k=1, model_hash=lm.content_hash)
    sae = SparseAutoencoder(config)
    sae.b_dec.data = torch.from_numpy(mean).float()
    sae.W_enc.data = torch.from_numpy((centres / scale).T.copy()).float()
    sae.b_enc.data = torch.from_numpy(-(centres**2).sum(axis=1) / 2).float()
    sae.W_dec.data = torch.from_numpy(centres * scale).float()
    return sae.eval()


def _token_states(
    samples: Sequence[Sample], lm: LanguageModel, layer: int, score: Score
) -> np.ndarray:
    texts = tokenize_samples(samples, lm.tokenizer, score=score)
    lengths = [len(text.input_ids) for text in texts]
    found = []
    for batch in batch_by_length(lengths, batch_tokens=_BATCH_TOKENS):
        output = read_residual(lm, [texts[i].input_ids for i in batch], layer)
        for states, i in zip(output, batch, strict=True):
            found.append(states[torch.from_numpy(np.flatnonzero(texts[i].scored))].float().cpu())
    return torch.cat(found).numpy().astype(np.float64)
