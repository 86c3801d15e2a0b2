"""One optimiser step of the training, and the schedules that depend on how far the run is."""

import math
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from facsynth.sae.train.ranks import Ranks
from facsynth.sae.train.settings import TrainSettings
from facsynth.sae.train.state import NORM_FLOOR, TrainState
from facsynth.sae.train.topk_step import (
    Auxiliary,
    Gradients,
    batchtopk_gradients,
    topk_gradients,
)

__all__ = ["train_step"]

_K_ANNEALED = 0.1
"""Share of the run after which k has its final value."""


def train_step(
    x: Float[Tensor, "n_tokens d_model"],
    state: TrainState,
    optimizer: torch.optim.Adam,
    *,
    settings: TrainSettings,
    ranks: Ranks,
    done: float,
) -> None:
    """Update the weights from one batch.

    Args:
        x: This rank's normalised tokens.
        state: Is changed.
        optimizer: Adam on the state's weights.
        settings: See `TrainSettings`.
        ranks: Those that hold the rest of the batch.
        done: Share of the run that lies behind, in [0, 1].
    """
    weights, last_fired = state.parameters(), state.tensors["last_fired"]
    n_total = int(ranks.total(torch.tensor(len(x), device=x.device)))
    k = _annealed_k(settings, done)
    gradients = _batch_gradients(x, state, settings, k=k, n_total=n_total, ranks=ranks)
    slope = gradients.decoder
    along = (slope * weights.decoder).sum(1, keepdim=True)
    gradients = replace(gradients, decoder=slope - along * weights.decoder)
    for weight, gradient in zip(weights.tensors(), gradients.tensors(), strict=True):
        weight.grad = gradient
    for group in optimizer.param_groups:
        group["lr"] = settings.learning_rate * _rate(done)
    optimizer.step()
    weights.decoder.div_(weights.decoder.norm(dim=1, keepdim=True).clamp_min(NORM_FLOOR))
    last_fired += n_total
    last_fired[gradients.fired] = 0
    state.step += 1
    state.loss = gradients.loss if math.isnan(state.loss) else _smooth(state.loss, gradients.loss)
    state.threshold = (
        gradients.limit if done < _K_ANNEALED else _smooth(state.threshold, gradients.limit)
    )


def _batch_gradients(
    x: Tensor, state: TrainState, settings: TrainSettings, *, k: int, n_total: int, ranks: Ranks
) -> Gradients:
    """Gradients of the whole batch, the same on every rank."""
    weights = state.parameters()
    dead, weight = state.tensors["last_fired"] > settings.dead.after, settings.dead.weight
    auxiliary = Auxiliary(dead, weight=weight) if weight else None
    if settings.architecture == "topk":
        part = topk_gradients(x, weights, k=k, auxiliary=auxiliary, n_total=n_total)
    else:
        part = batchtopk_gradients(
            x, weights, k=k, auxiliary=auxiliary, n_total=n_total, ranks=ranks
        )
    return part if ranks.count == 1 else _summed(part, ranks)


def _summed(part: Gradients, ranks: Ranks) -> Gradients:
    """Add up the parts of all ranks, in one exchange."""
    one = part.encoder.new_tensor([part.loss])
    tensors = [*part.tensors(), part.fired.to(one.dtype), one]
    flat = ranks.total(torch.cat([tensor.flatten() for tensor in tensors]))
    pieces = torch.split(flat, [tensor.numel() for tensor in tensors])
    encoder, encoder_bias, decoder, decoder_bias, fired, loss = (
        piece.view_as(tensor) for piece, tensor in zip(pieces, tensors, strict=True)
    )
    return Gradients(
        encoder, encoder_bias, decoder, decoder_bias, float(loss), fired > 0, part.limit
    )


def _smooth(old: float, new: float) -> float:
    return 0.95 * old + 0.05 * new


def _rate(done: float) -> float:
    """Share of the peak learning rate."""
    return min(1.0, (done + 1e-3) / 0.02, 0.1 + 0.9 * max(0.0, 1 - done) / 0.3)


def _annealed_k(settings: TrainSettings, done: float) -> int:
    factor = settings.k_start + (1 - settings.k_start) * min(1.0, done / _K_ANNEALED)
    return min(settings.n_features, max(settings.k, round(settings.k * factor)))
