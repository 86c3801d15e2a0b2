"""One training step of a TopK sparse autoencoder, with its gradients in closed form.

Only `k` of the features of each token carry gradients, so everything but the encoder's forward
product is sparse: reconstruction, gradients of both matrices, gradients of the activations. A
test compares every gradient with automatic differentiation of the plain formula.

Losses (Gao et al., arXiv 2406.04093, sections 2.3 and A.2), each divided by n_tokens x d_model:
reconstruction ‖x - x̂‖², and the auxiliary loss ‖e - ê‖² in which the `aux_k` strongest dead
features model the residual e = x - x̂.
"""

import warnings
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

__all__ = ["Gradients", "Parameters", "top_features", "topk_gradients"]


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
    """Gradients and statistics of one batch."""

    encoder: Float[Tensor, "n_features d_model"]
    encoder_bias: Float[Tensor, " n_features"]
    decoder: Float[Tensor, "n_features d_model"]
    decoder_bias: Float[Tensor, " d_model"]
    loss: float
    """Reconstruction loss per token and dimension."""

    fired: Bool[Tensor, " n_features"]
    """Features active on some token of the batch."""

    def tensors(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """The four gradients, in the order of the fields."""
        return self.encoder, self.encoder_bias, self.decoder, self.decoder_bias


def topk_gradients(
    x: Float[Tensor, "n_tokens d_model"],
    weights: Parameters,
    *,
    k: int,
    dead: Bool[Tensor, " n_features"] | None = None,
    aux_k: int = 256,
    aux_weight: float = 1 / 32,
) -> Gradients:
    """Loss and gradients of one batch.

    Args:
        x: Normalised residual stream.
        weights: Current weights.
        k: Features kept per token.
        dead: Features that have not fired for long; None or none set switches the auxiliary
            loss off.
        aux_k: Dead features used per token for the auxiliary loss.
        aux_weight: Weight of the auxiliary loss.
    """
    centred = x - weights.decoder_bias
    scores = _scores(centred, weights)
    ids = scores.topk(k, dim=1, sorted=False).indices
    values = _selected(centred, weights, ids)
    error = _decode(ids, values, weights) + weights.decoder_bias - x
    loss = float(error.square().mean())
    slope = error * (2 / error.numel())
    parts = [_code_gradients(centred, slope, ids, values, weights)]
    residual_slope = slope.sum(0)
    if dead is not None and bool(dead.any()):
        aux_ids = top_features(scores, dead, aux_k)
        aux_values = _selected(centred, weights, aux_ids)
        aux_error = _decode(aux_ids, aux_values, weights) + error
        aux_slope = aux_error * (2 * aux_weight / error.numel())
        parts.append(_code_gradients(centred, aux_slope, aux_ids, aux_values, weights))
    encoder, encoder_bias, decoder = (sum(part[1:], part[0]) for part in zip(*parts, strict=True))
    fired = torch.zeros(len(weights.encoder), dtype=torch.bool, device=x.device)
    fired[ids[values > 0]] = True
    return Gradients(
        encoder,
        encoder_bias,
        decoder,
        residual_slope - encoder_bias @ weights.encoder,
        loss,
        fired,
    )


def top_features(
    scores: Float[Tensor, "n_tokens n_features"], among: Bool[Tensor, " n_features"], k: int
) -> Int[Tensor, "n_tokens k"]:
    """Ids of the `k` largest scores of each token among some features."""
    candidates = among.nonzero()[:, 0]
    k = min(k, len(candidates))
    return candidates[scores[:, candidates].topk(k, dim=1, sorted=False).indices]


def _scores(centred: Tensor, weights: Parameters) -> Tensor:
    """Pre-activations in bfloat16 where that is quick: good enough to choose by, not to train."""
    if centred.dtype == torch.float64 or len(weights.encoder) < 512:
        return torch.addmm(weights.encoder_bias, centred, weights.encoder.T)
    low = torch.bfloat16
    product = centred.to(low) @ weights.encoder.T.to(low)
    return product.add_(weights.encoder_bias.to(low))


def _selected(centred: Tensor, weights: Parameters, ids: Tensor) -> Tensor:
    """Exact activations of the chosen features."""
    return (_pair_products(centred, weights.encoder, ids) + weights.encoder_bias[ids]).relu()


def _decode(ids: Tensor, values: Tensor, weights: Parameters) -> Tensor:
    return torch.nn.functional.embedding_bag(
        ids, weights.decoder, per_sample_weights=values, mode="sum"
    )


def _code_gradients(
    centred: Tensor, slope: Tensor, ids: Tensor, values: Tensor, weights: Parameters
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of encoder, encoder bias and decoder through one sparse code."""
    d_values = _pair_products(slope, weights.decoder, ids) * (values > 0)
    order = torch.argsort(ids.flatten())
    n_features = len(weights.encoder)
    ends = torch.bincount(ids.flatten(), minlength=n_features).cumsum(0)
    starts = torch.cat([ends.new_zeros(1), ends])
    tokens = order // ids.shape[1]

    def scatter(entries: Tensor, rows: Tensor) -> Tensor:
        """Sum over tokens of entry x row, one sum per feature."""
        return _csr(starts, tokens, entries.flatten()[order], (n_features, len(rows))) @ rows

    d_bias = torch.zeros_like(weights.encoder_bias).index_add_(0, ids.flatten(), d_values.flatten())
    return scatter(d_values, centred), d_bias, scatter(values, slope)


def _pair_products(rows: Tensor, matrix: Tensor, ids: Tensor) -> Tensor:
    """Product of each row with the chosen rows of the matrix, without the dense product."""
    n, k = ids.shape
    if not (rows.is_cuda or torch._C.has_mkl):
        return (rows @ matrix.T).gather(1, ids)
    starts = torch.arange(0, n * k + 1, k, device=ids.device)
    pattern = _csr(starts, ids.flatten(), rows.new_zeros(n * k), (n, len(matrix)))
    products: Tensor = torch.sparse.sampled_addmm(pattern, rows, matrix.T, beta=0.0)
    return products.values().view(n, k)


def _csr(starts: Tensor, columns: Tensor, values: Tensor, size: tuple[int, int]) -> Tensor:
    """A sparse matrix; columns in any order. PyTorch's remark that this is in beta is silenced."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta", UserWarning)
        return torch.sparse_csr_tensor(starts, columns, values, size=size, check_invariants=False)
