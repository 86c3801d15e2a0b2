"""Drawing one token for each text, without sorting the vocabulary."""

import torch
from jaxtyping import Float, Int64
from torch import Tensor

__all__ = ["draw_tokens"]

_LIKELIEST = 256
"""Tokens among which a nucleus is looked for before the whole vocabulary is sorted."""


def draw_tokens(
    logits: Float[Tensor, "n_rows n_vocabulary"],
    uniforms: Float[Tensor, " n_rows"],
    *,
    temperature: float,
    top_p: float,
) -> Int64[Tensor, " n_rows"]:
    """One token for each row, from its nucleus: the fewest tokens that hold `top_p` of the mass.

    Tokens are put in the order of their probability, and the one is taken under which the row's
    uniform number falls.

    Args:
        logits: Scores of all tokens, in float32.
        uniforms: A number in [0, 1) for each row, in float64 on the CPU.
        temperature: 0 takes the likeliest token.
        top_p: In (0, 1].
    """
    if temperature == 0:
        return logits.argmax(dim=-1)
    scaled = logits / temperature
    total = scaled.logsumexp(dim=-1, keepdim=True)
    n_looked = min(_LIKELIEST, scaled.shape[-1])
    likeliest = scaled.topk(n_looked, dim=-1)
    below = (likeliest.values - total).cpu().double().exp().cumsum(dim=-1)
    n_nucleus = (below < top_p).sum(dim=-1)
    mass = below.gather(1, n_nucleus.clamp(max=n_looked - 1)[:, None]).clamp(max=1.0)
    chosen = (below <= uniforms[:, None] * mass).sum(dim=-1).clamp(max=n_looked - 1)
    tokens = likeliest.indices.cpu().gather(1, chosen[:, None])[:, 0]
    for row in torch.nonzero(n_nucleus == n_looked)[:, 0].tolist():
        tokens[row] = _draw_from_all(scaled[row].cpu(), float(uniforms[row]), top_p)
    return tokens


def _draw_from_all(scaled: Float[Tensor, " n_vocabulary"], uniform: float, top_p: float) -> int:
    """The token under a uniform number, where the nucleus is wider than the likeliest tokens."""
    ordered = scaled.double().softmax(dim=-1).sort(descending=True, stable=True)
    below = ordered.values.cumsum(dim=-1)
    n_nucleus = min(int((below < top_p).sum()), below.numel() - 1)
    chosen = int((below <= uniform * below[n_nucleus]).sum())
    return int(ordered.indices[min(chosen, n_nucleus)])
