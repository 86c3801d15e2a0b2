"""One training step of a TopK or BatchTopK autoencoder, with its gradients in closed form.

Only the chosen pairs of token and feature carry gradients, so everything but the encoder's
forward product is sparse: reconstruction, gradients of both matrices, gradients of the
activations. A test compares every gradient with automatic differentiation of the plain formula.

Losses (Gao et al., arXiv 2406.04093, sections 2.3 and A.2), each divided by n_tokens x d_model:
reconstruction ‖x - x̂‖², and the auxiliary loss ‖e - ê‖² in which the `aux_k` strongest dead
features model the residual e = x - x̂. TopK keeps the `k` largest pre-activations of each token,
BatchTopK the `k` x n_tokens largest of the batch (Bussmann et al., arXiv 2412.06410, section 3).
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from facsynth.models.hardware import multiplies_bfloat16
from facsynth.sae.train.ranks import ALONE, Ranks

__all__ = [
    "Auxiliary",
    "Gradients",
    "Parameters",
    "batchtopk_gradients",
    "largest_ids",
    "top_features",
    "topk_gradients",
]

_GROUP = 16
"""Columns whose maximum is compared first."""

_SAMPLE_ROWS = 128
"""Tokens from which the limit of a batch is guessed before it is found exactly."""


@dataclass(frozen=True)
class Parameters:
    """Weights of an SAE in training; both matrices have one row per feature."""

    encoder: Float[Tensor, "n_features d_model"]
    encoder_bias: Float[Tensor, " n_features"]
    decoder: Float[Tensor, "n_features d_model"]
    decoder_bias: Float[Tensor, " d_model"]

    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The four tensors, in the order of the fields."""
        return self.encoder, self.encoder_bias, self.decoder, self.decoder_bias


@dataclass(frozen=True)
class Gradients:
    """Gradients and statistics of one batch, or of one rank's part of it."""

    encoder: Float[Tensor, "n_features d_model"]
    encoder_bias: Float[Tensor, " n_features"]
    decoder: Float[Tensor, "n_features d_model"]
    decoder_bias: Float[Tensor, " d_model"]
    loss: float
    """Reconstruction loss per token and dimension."""

    fired: Bool[Tensor, " n_features"]
    """Features active on some token of the batch."""

    limit: float = 0.0
    """Smallest pre-activation that BatchTopK kept, at least 0."""

    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The four gradients, in the order of the fields."""
        return self.encoder, self.encoder_bias, self.decoder, self.decoder_bias


@dataclass(frozen=True)
class Auxiliary:
    """The auxiliary loss against dead features."""

    dead: Bool[Tensor, " n_features"]
    """Features that have not fired for long; when none is set, the loss is off."""

    k: int = 256
    """Dead features used per token."""

    weight: float = 1 / 32
    """Weight of the loss."""


@dataclass(frozen=True)
class _Pairs:
    """Chosen pairs in the order of their tokens: token t has starts[t] to starts[t + 1]."""

    starts: Int[Tensor, " n_tokens_plus_1"]
    ids: Int[Tensor, " n_pairs"]
    """Features."""

    limit: float = 0.0
    """Smallest score among them, where they were chosen from the whole batch."""

    def tokens(self) -> Int[Tensor, " n_pairs"]:
        """Token of each pair."""
        counts = self.starts.diff()
        numbers = torch.arange(len(counts), device=counts.device)
        return torch.repeat_interleave(numbers, counts, output_size=len(self.ids))


def topk_gradients(
    x: Float[Tensor, "n_tokens d_model"],
    weights: Parameters,
    *,
    k: int,
    auxiliary: Auxiliary | None = None,
    n_total: int | None = None,
) -> Gradients:
    """Loss and gradients when each token keeps its `k` largest pre-activations.

    Args:
        x: Normalised residual stream.
        weights: Current weights.
        k: Features kept per token.
        auxiliary: Loss against dead features; None switches it off.
        n_total: Tokens of the batch over all ranks, when `x` is one rank's part of it; the parts'
            losses and gradients then add up to those of the batch.
    """

    def choose(scores: Tensor) -> _Pairs:
        return _same_number(largest_ids(scores, k))

    return _gradients(x, weights, choose, auxiliary, n_total)


def batchtopk_gradients(
    x: Float[Tensor, "n_tokens d_model"],
    weights: Parameters,
    *,
    k: int,
    auxiliary: Auxiliary | None = None,
    n_total: int | None = None,
    ranks: Ranks = ALONE,
) -> Gradients:
    """Loss and gradients when the batch keeps its `k` x n_tokens largest pre-activations.

    Only positive ones are kept, and all that tie with the smallest. Arguments as in
    `topk_gradients`; `ranks` hold the parts of the batch.
    """
    count = k * (len(x) if n_total is None else n_total)
    return _gradients(x, weights, lambda s: _largest_pairs(s, count, ranks), auxiliary, n_total)


def largest_ids(scores: Float[Tensor, "n_tokens n_features"], k: int) -> Int[Tensor, "n_tokens k"]:
    """Ids of the `k` largest scores of each token, in any order; ties may fall either way.

    On a CPU the columns are dealt into groups of 16. A score among the `k` largest stands in
    one of the `k` groups with the largest maxima, so only their members are compared.
    """
    n_tokens, n_features = scores.shape
    n_groups = n_features // _GROUP
    if scores.is_cuda or n_features % _GROUP or 4 * k > n_groups:
        return scores.topk(k, dim=1, sorted=False).indices
    maxima = scores.view(n_tokens, _GROUP, n_groups).amax(1)
    groups = maxima.topk(k, dim=1, sorted=False).indices
    members = torch.arange(_GROUP, device=scores.device)[:, None] * n_groups
    ids = (groups[:, None, :] + members).view(n_tokens, _GROUP * k)
    places = scores.gather(1, ids).topk(k, dim=1, sorted=False).indices
    return ids.gather(1, places)


def top_features(
    scores: Float[Tensor, "n_tokens n_features"], among: Bool[Tensor, " n_features"], k: int
) -> Int[Tensor, "n_tokens k"]:
    """Ids of the `k` largest scores of each token among some features."""
    candidates = among.nonzero()[:, 0]
    k = min(k, len(candidates))
    return candidates[scores[:, candidates].topk(k, dim=1, sorted=False).indices]


def _gradients(
    x: Tensor,
    weights: Parameters,
    choose: Callable[[Tensor], _Pairs],
    auxiliary: Auxiliary | None,
    n_total: int | None,
) -> Gradients:
    size = x.shape[1] * (len(x) if n_total is None else n_total)
    centred = x - weights.decoder_bias
    scores = _scores(centred, weights)
    pairs = choose(scores)
    values = _values(centred, weights, pairs)
    error = _decode(pairs, values, weights) + weights.decoder_bias - x
    slope = error * (2 / size)
    parts = [_code_gradients(centred, slope, pairs, values, weights)]
    if auxiliary is not None and bool(auxiliary.dead.any()):
        others = _same_number(top_features(scores, auxiliary.dead, auxiliary.k))
        strengths = _values(centred, weights, others)
        missing = _decode(others, strengths, weights) + error
        aux_slope = missing * (2 * auxiliary.weight / size)
        parts.append(_code_gradients(centred, aux_slope, others, strengths, weights))
    encoder, encoder_bias, decoder = (sum(part[1:], part[0]) for part in zip(*parts, strict=True))
    fired = torch.zeros(len(weights.encoder), dtype=torch.bool, device=x.device)
    fired[pairs.ids[values > 0]] = True
    return Gradients(
        encoder,
        encoder_bias,
        decoder,
        slope.sum(0) - encoder_bias @ weights.encoder,
        float(error.square().sum()) / size,
        fired,
        pairs.limit,
    )


def _same_number(ids: Int[Tensor, "n_tokens k"]) -> _Pairs:
    """Pairs of tokens that have the same number of features each."""
    n, k = ids.shape
    return _Pairs(torch.arange(n + 1, device=ids.device) * k, ids.flatten())


def _largest_pairs(scores: Float[Tensor, "n_tokens m"], count: int, ranks: Ranks) -> _Pairs:
    """The positive scores that are among the `count` largest of all ranks."""
    floor = _guess_limit(scores, count)
    tokens, ids = (scores > floor).nonzero(as_tuple=True)
    if len(ids) < count and floor > 0:
        tokens, ids = (scores > 0).nonzero(as_tuple=True)
    values = scores[tokens, ids]
    own = values.topk(min(count, len(values)), sorted=False).values
    everyone = ranks.joined(own)
    limit = 0.0
    if len(everyone) >= count:
        limit = float(everyone.topk(count, sorted=False).values.min())
        kept = values >= limit
        tokens, ids = tokens[kept], ids[kept]
    ends = torch.bincount(tokens, minlength=len(scores)).cumsum(0)
    return _Pairs(torch.cat([ends.new_zeros(1), ends]), ids, limit)


def _guess_limit(scores: Float[Tensor, "n_tokens m"], count: int) -> float:
    """A limit that a quarter more than `count` scores should pass, judged by some of the rows."""
    rows = scores[:: max(1, len(scores) // _SAMPLE_ROWS)]
    wanted = round(1.25 * count * len(rows) / max(1, len(scores)))
    if not 0 < wanted < rows.numel():
        return 0.0
    return max(0.0, float(rows.flatten().topk(wanted, sorted=False).values.min()))


def _scores(centred: Tensor, weights: Parameters) -> Tensor:
    """Pre-activations in bfloat16 where that is quick: good enough to choose by, not to train."""
    is_exact = centred.dtype == torch.float64 or len(weights.encoder) < 512
    if is_exact or not multiplies_bfloat16(centred.device):
        return torch.addmm(weights.encoder_bias, centred, weights.encoder.T)
    low = torch.bfloat16
    product = centred.to(low) @ weights.encoder.T.to(low)
    return product.add_(weights.encoder_bias.to(low))


def _values(centred: Tensor, weights: Parameters, pairs: _Pairs) -> Tensor:
    """Exact activations of the chosen features."""
    products = _pair_products(centred, weights.encoder, pairs)
    return (products + weights.encoder_bias[pairs.ids]).relu()


def _decode(pairs: _Pairs, values: Tensor, weights: Parameters) -> Tensor:
    return _weighted_sums(weights.decoder, pairs.ids, pairs.starts, values)


def _weighted_sums(rows: Tensor, ids: Tensor, starts: Tensor, factors: Tensor) -> Tensor:
    """Sum i is that of factor x row over the entries starts[i] to starts[i + 1]."""
    return torch.nn.functional.embedding_bag(
        ids,
        rows,
        starts,
        per_sample_weights=factors,
        mode="sum",
        include_last_offset=True,
    )


def _code_gradients(
    centred: Tensor, slope: Tensor, pairs: _Pairs, values: Tensor, weights: Parameters
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of encoder, encoder bias and decoder through one sparse code."""
    d_values = _pair_products(slope, weights.decoder, pairs) * (values > 0)
    order = torch.argsort(pairs.ids)
    n_features = len(weights.encoder)
    ends = torch.bincount(pairs.ids, minlength=n_features).cumsum(0)
    starts = torch.cat([ends.new_zeros(1), ends])
    tokens = pairs.tokens()[order]

    def scatter(entries: Tensor, rows: Tensor) -> Tensor:
        """Sum over tokens of entry x row, one sum per feature."""
        if not len(entries):
            return torch.zeros_like(weights.encoder)
        return _weighted_sums(rows, tokens, starts, entries[order])

    d_bias = torch.zeros_like(weights.encoder_bias).index_add_(0, pairs.ids, d_values)
    return scatter(d_values, centred), d_bias, scatter(values, slope)


def _pair_products(rows: Tensor, matrix: Tensor, pairs: _Pairs) -> Tensor:
    """Product of the two rows of each pair, without the dense product."""
    if not len(pairs.ids):
        return rows.new_zeros(0)
    if not (rows.is_cuda or torch._C.has_mkl):
        return (rows @ matrix.T)[pairs.tokens(), pairs.ids]
    empty = rows.new_zeros(len(pairs.ids))
    pattern = _csr(pairs.starts, pairs.ids, empty, (len(rows), len(matrix)))
    products: Tensor = torch.sparse.sampled_addmm(pattern, rows, matrix.T, beta=0.0)
    return products.values()


def _csr(starts: Tensor, columns: Tensor, values: Tensor, size: tuple[int, int]) -> Tensor:
    """A sparse matrix; columns in any order. PyTorch's remarks (beta, unchecked) are silenced."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse (CSR tensor|invariant checks)", UserWarning)
        return torch.sparse_csr_tensor(starts, columns, values, size=size, check_invariants=False)
