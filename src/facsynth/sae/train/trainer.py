"""The optimiser steps of a training run."""

import math
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from facsynth.progress import Task
from facsynth.sae.train.data import TokenGroup
from facsynth.sae.train.ranks import Ranks
from facsynth.sae.train.settings import TrainSettings
from facsynth.sae.train.state import NORM_FLOOR, TrainState
from facsynth.sae.train.topk_step import (
    Auxiliary,
    Gradients,
    batchtopk_gradients,
    topk_gradients,
)

__all__ = ["SaeTrainer"]


class SaeTrainer:
    """Takes the steps of a run on activations that have been read.

    Args:
        state: Is changed.
        settings: See `TrainSettings`.
        ranks: The processes that train together; each holds a part of every batch.
        n_steps: Steps of the whole run, for the schedules.
    """

    def __init__(
        self, state: TrainState, settings: TrainSettings, ranks: Ranks, *, n_steps: int
    ) -> None:
        self.state, self.settings, self.ranks, self.n_steps = state, settings, ranks, n_steps
        self.optimizer = _optimizer(state, settings)

    def use(self, group: TokenGroup, task: Task) -> None:
        """Train on one group, and leave Adam's moments in the state for the checkpoint."""
        state, settings = self.state, self.settings
        for n_tokens, batch in group.batches(settings.batch_tokens):
            raw = batch.float()
            usual = raw[raw.norm(dim=1) <= state.tensors["max_norm"]]
            self._step((usual - state.tensors["mean"]) * state.scale)
            task.advance(n_tokens, note=self._note())
        for index, weight in enumerate(state.parameters().tensors()):
            if weight in self.optimizer.state:
                state.tensors[f"moment1.{index}"] = self.optimizer.state[weight]["exp_avg"]
                state.tensors[f"moment2.{index}"] = self.optimizer.state[weight]["exp_avg_sq"]

    def _step(self, x: Float[Tensor, "n_tokens d_model"]) -> None:
        """Update the weights from this rank's normalised tokens of one batch."""
        state, done = self.state, self.state.step / max(1, self.n_steps)
        weights, last_fired = state.parameters(), state.tensors["last_fired"]
        n_total = int(self.ranks.total(torch.tensor(len(x), device=x.device)))
        gradients = self._gradients(x, _annealed_k(self.settings, done), n_total)
        tied, slope = self.settings.variant.tied, gradients.decoder
        if self.settings.variant.frozen:
            slope = torch.zeros_like(slope)
        if tied:
            gradients = replace(gradients, encoder=gradients.encoder + slope)
        else:
            along = (slope * weights.decoder).sum(1, keepdim=True)
            gradients = replace(gradients, decoder=slope - along * weights.decoder)
        for weight, gradient in zip(weights.tensors(), gradients.tensors(), strict=True):
            weight.grad = gradient
        for group in self.optimizer.param_groups:
            group["lr"] = self.settings.learning_rate * _rate(self.settings, done)
        self.optimizer.step()
        if tied:
            weights.decoder.copy_(weights.encoder)
        else:
            weights.decoder.div_(weights.decoder.norm(dim=1, keepdim=True).clamp_min(NORM_FLOOR))
        last_fired += n_total
        last_fired[gradients.fired] = 0
        state.step += 1
        loss, limit = gradients.loss, gradients.limit
        state.loss = loss if math.isnan(state.loss) else _smooth(state.loss, loss)
        annealed = done >= self.settings.variant.k_until
        state.threshold = limit if not annealed else _smooth(state.threshold, limit)

    def _gradients(self, x: Tensor, k: int, n_total: int) -> Gradients:
        """Gradients of the whole batch, the same on every rank."""
        weights, ranks = self.state.parameters(), self.ranks
        weight = self.settings.dead.dead_weight
        auxiliary = Auxiliary(self._dead(), weight=weight) if weight else None
        if self.settings.architecture == "topk":
            part = topk_gradients(x, weights, k=k, auxiliary=auxiliary, n_total=n_total)
        else:
            part = batchtopk_gradients(
                x, weights, k=k, auxiliary=auxiliary, n_total=n_total, ranks=ranks
            )
        return part if ranks.count == 1 else _summed(part, ranks)

    def _dead(self) -> Tensor:
        return self.state.tensors["last_fired"] > self.settings.dead.dead_after

    def _note(self) -> str:
        loss, explained = self.state.loss, 1 - self.state.loss / self.state.variance
        return f"loss {loss:.4f}, explained {explained:.3f}, dead {int(self._dead().sum())}"


def _optimizer(state: TrainState, settings: TrainSettings) -> torch.optim.Adam:
    """Adam on the weights, with the moments of the state, if a checkpoint brought some."""
    weights = state.parameters().tensors()
    variant = settings.variant
    make = torch.optim.AdamW if variant.optimizer == "adamw" else torch.optim.Adam
    optimizer = make(weights, lr=settings.learning_rate, eps=variant.adam_eps, fused=True)
    for index, weight in enumerate(weights):
        if f"moment1.{index}" in state.tensors:
            optimizer.state[weight] = {
                "step": torch.tensor(float(state.step), device=weight.device),
                "exp_avg": state.tensors[f"moment1.{index}"],
                "exp_avg_sq": state.tensors[f"moment2.{index}"],
            }
    return optimizer


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


def _rate(settings: TrainSettings, done: float) -> float:
    """Share of the peak learning rate."""
    if settings.variant.schedule == "constant":
        return 1.0
    return min(1.0, (done + 1e-3) / 0.02, 0.1 + 0.9 * max(0.0, 1 - done) / 0.3)


def _annealed_k(settings: TrainSettings, done: float) -> int:
    factor = settings.k_start + (1 - settings.k_start) * min(1.0, done / settings.variant.k_until)
    return min(settings.n_features, max(settings.k, round(settings.k * factor)))
