"""Prompts that are read once and continued many times, from cached keys and values."""

import copy
from collections.abc import Collection, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int, Int32
from numpy import ndarray
from torch import Tensor

from facsynth.models.lm import LanguageModel
from facsynth.models.precision import precision
from facsynth.models.residual import run_layers

__all__ = ["ReadPrompts"]


class ReadPrompts:
    """A batch of prompts behind which different tails are read.

    Prompts are padded in front, so that all end at the same place; tails are padded behind.

    Args:
        lm: The model.
        prompts: Token ids of each prompt, at least one token each.
        deepest: The deepest layer that will be read; the last one when None.
    """

    def __init__(
        self,
        lm: LanguageModel,
        prompts: Sequence[Int32[ndarray, " _"]],
        *,
        deepest: int | None = None,
    ) -> None:
        from transformers import DynamicCache

        self._lm = lm
        self._width = max(map(len, prompts))
        self._lengths = torch.tensor([len(row) for row in prompts])
        ids = torch.zeros((len(prompts), self._width), dtype=torch.long)
        for row, tokens in zip(ids, prompts, strict=True):
            row[self._width - len(tokens) :] = torch.from_numpy(tokens)
        at = torch.arange(self._width) - (self._width - self._lengths)[:, None]
        self._mask = (at >= 0).long()
        self._cache: Any = DynamicCache()
        layer = lm.n_layers - 1 if deepest is None else deepest
        places = self._places(self._mask, at.clamp(min=0))
        run_layers(lm, ids, [layer], past=self._cache, places=places)

    def residuals(
        self, tails: Sequence[Int32[ndarray, " _"]], layers: Collection[int]
    ) -> dict[int, Float[Tensor, "n_rows n_tail d_model"]]:
        """Outputs of decoder layers at the tokens of each tail; padding behind its end."""
        ids, places = self._tail(tails)
        return run_layers(self._lm, ids, layers, past=self._past(), places=places)

    def last_log_probs(
        self, tails: Sequence[Int32[ndarray, " _"]]
    ) -> Float[Tensor, "n_rows n_vocabulary"]:
        """Log-probabilities of the token behind each tail, in float32 on the CPU."""
        ids, places = self._tail(tails)
        last = torch.tensor([len(tail) - 1 for tail in tails])
        kept, where = torch.unique(last, return_inverse=True)
        with torch.inference_mode(), precision(self._lm):
            logits = self._lm.model(
                input_ids=ids.to(self._lm.device),
                past_key_values=self._past(),
                logits_to_keep=kept.to(self._lm.device),
                **places,
            ).logits
        found: Tensor = logits[torch.arange(len(tails)), where].float().log_softmax(dim=-1)
        return found.cpu()

    def _past(self) -> Any:
        """A cache to continue from; it grows without changing that of the prompts."""
        past = copy.copy(self._cache)
        past.layers = [copy.copy(layer) for layer in self._cache.layers]
        return past

    def _tail(self, tails: Sequence[Int32[ndarray, " _"]]) -> tuple[Tensor, dict[str, Tensor]]:
        ids = torch.zeros((len(tails), max(map(len, tails))), dtype=torch.long)
        for row, tokens in zip(ids, tails, strict=True):
            row[: len(tokens)] = torch.from_numpy(tokens)
        mask = torch.cat([self._mask, torch.ones_like(ids)], dim=1)
        return ids, self._places(mask, self._lengths[:, None] + torch.arange(ids.shape[1]))

    def _places(
        self, mask: Int[Tensor, "n_rows n_all"], positions: Int[Tensor, "n_rows n_new"]
    ) -> dict[str, Tensor]:
        device = self._lm.device
        return {"attention_mask": mask.to(device), "position_ids": positions.to(device)}
