"""The tokens of one batch of texts: Transformers' generation without what it wastes.

* What all prompts begin with is read once, and so are equal prompts.
* Texts that have ended leave the batch.
* A nucleus is looked for among the likeliest tokens, not by sorting the vocabulary.

Every text draws from random numbers of its own, so what it shares a batch with matters only by
the rounding of the model's arithmetic. `Transformers.generate` prepares the run, so whatever the
model's own settings ask for, such as a repetition penalty, holds.
"""

import inspect
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from transformers import DynamicCache, GenerationConfig

from facsynth.chat.nucleus import draw_tokens

__all__ = ["Drawing", "write_tokens"]

_LEAST_COMMON = 8
"""Tokens that all prompts must begin with to be read apart."""

_MOST_ENDED = 0.25
"""Share of ended texts above which a batch is made smaller."""


@dataclass(frozen=True)
class Drawing:
    """How tokens are drawn."""

    n_new: int
    """Most new tokens of a text."""

    temperature: float
    """0 takes the likeliest token each time."""

    top_p: float
    """Share of the probability mass that is drawn from."""

    end_ids: tuple[int, ...]
    """Tokens that end a text."""

    pad_id: int


def write_tokens(
    model: Any,
    prompts: Sequence[Sequence[int]],
    seeds: Sequence[int],
    drawing: Drawing,
) -> list[list[int]]:
    """Write a text for each prompt.

    Args:
        model: A causal language model of Transformers, in evaluation mode.
        prompts: Token ids of each prompt.
        seeds: Seed of each text's random numbers.
        drawing: How tokens are drawn.

    Returns:
        The new tokens of each text, with the end token where one came.
    """
    reader = _Reader(prompts, drawing)
    batch = _Batch(reader, seeds, drawing)
    config = GenerationConfig(
        max_new_tokens=drawing.n_new,
        pad_token_id=drawing.pad_id,
        eos_token_id=list(drawing.end_ids) or None,
        do_sample=True,
        temperature=1.0,  # from here on nothing that shapes the draw: `draw_tokens` does
        top_p=1.0,
        top_k=0,
    )
    ids = _pad(prompts, reader.width, drawing.pad_id)
    lengths = torch.tensor([len(prompt) for prompt in prompts])[:, None]
    mask = (torch.arange(reader.width) >= reader.width - lengths).long()
    model.generate(
        input_ids=ids.to(model.device),
        attention_mask=mask.to(model.device),
        generation_config=config,
        custom_generate=batch.run,
    )
    return batch.texts


class _Reader:
    """Reads the prompts of a batch into one cache of keys and values.

    In the cache each row holds the common start of all prompts, then padding, then the rest.
    """

    def __init__(self, prompts: Sequence[Sequence[int]], drawing: Drawing) -> None:
        self._prompts, self._drawing = prompts, drawing
        self.width = max(map(len, prompts))
        self.n_common = _common_start(prompts)
        first: dict[tuple[int, ...], int] = {}
        self._twins = [first.setdefault(tuple(prompt), row) for row, prompt in enumerate(prompts)]
        """Of each prompt, the first that is equal."""

        self._unique = sorted(set(self._twins))

    def read(self, model: Any) -> tuple[Float[Tensor, "n_rows n_vocabulary"], Any]:
        """Logits behind each prompt, and the cache of all."""
        cache = DynamicCache(config=model.config)
        if any(cache.is_sliding):
            self.n_common = 0  # a window would count the padding behind the common start
        if self.n_common:
            ids = torch.tensor([list(self._prompts[0][: self.n_common])], device=model.device)
            model(input_ids=ids, past_key_values=cache, use_cache=True, **_accepted(model, {}))
            cache.batch_repeat_interleave(len(self._unique))
        rests = [self._prompts[row][self.n_common :] for row in self._unique]
        ids = _pad(rests, self.width - self.n_common, self._drawing.pad_id)
        places = self.places(self._unique, self.width, ids.shape[1], model.device)
        output = model(
            input_ids=ids.to(model.device),
            past_key_values=cache,
            use_cache=True,
            **_accepted(model, places),
        )
        rows = torch.tensor([self._unique.index(twin) for twin in self._twins], device=model.device)
        cache.batch_select_indices(rows)
        return output.logits[rows, -1], cache

    def places(self, rows: list[int], end: int, n_new: int, device: Any) -> dict[str, Tensor]:
        """Mask of all columns before `end`, and the positions of the last `n_new` of them.

        Args:
            rows: Prompts of the rows.
            end: Columns of the cache with the new ones.
            n_new: Columns that are read now.
            device: Where the model is.
        """
        n_pads = self.width - torch.tensor([len(self._prompts[row]) for row in rows])[:, None]
        columns = torch.arange(end)[None, :]
        is_real = (columns < self.n_common) | (columns >= self.n_common + n_pads)
        positions = torch.where(columns < self.n_common, columns, columns - n_pads).clamp(min=0)
        return {
            "attention_mask": is_real.long().to(device),
            "position_ids": positions[:, -n_new:].to(device),
        }


class _Batch:
    """One batch of texts, from the prompts to the last token."""

    def __init__(self, reader: _Reader, seeds: Sequence[int], drawing: Drawing) -> None:
        self._reader, self._drawing = reader, drawing
        draws = [np.random.default_rng(seed).random(drawing.n_new) for seed in seeds]
        self._uniforms = torch.from_numpy(np.stack(draws, axis=1))
        self.texts: list[list[int]] = [[] for _ in seeds]
        self._rows = list(range(len(seeds)))
        """Prompt of each row of the cache."""

        self._open = set(self._rows)
        """Prompts whose text has not ended."""

    def run(self, model: Any, input_ids: Tensor, **prepared: Any) -> Tensor:
        """Write all texts; called by `generate` with what it has prepared."""
        self._processors = prepared.get("logits_processor") or ()
        self._ids = input_ids
        logits, cache = self._reader.read(model)
        for step in range(self._drawing.n_new):
            self._append(self._draw(logits, step))
            if not self._open or step + 1 == self._drawing.n_new:
                break
            self._shrink(cache)
            logits = self._next_logits(model, cache, step)
        return self._ids

    def _next_logits(self, model: Any, cache: Any, step: int) -> Float[Tensor, "n_rows _"]:
        end = self._reader.width + step + 1
        places = self._reader.places(self._rows, end, 1, model.device)
        output = model(
            input_ids=self._ids[:, -1:],
            past_key_values=cache,
            use_cache=True,
            **_accepted(model, places),
        )
        logits: Tensor = output.logits[:, -1]
        return logits

    def _draw(self, logits: Tensor, step: int) -> list[int]:
        scores = logits.float()
        for processor in self._processors:
            scores = processor(self._ids, scores)
        uniforms = self._uniforms[step, self._rows]
        return draw_tokens(
            scores, uniforms, temperature=self._drawing.temperature, top_p=self._drawing.top_p
        ).tolist()

    def _append(self, tokens: list[int]) -> None:
        for row, token in zip(self._rows, tokens, strict=True):
            if row in self._open:
                self.texts[row].append(token)
                if token in self._drawing.end_ids:
                    self._open.discard(row)
        column = torch.tensor(tokens, device=self._ids.device)[:, None]
        self._ids = torch.cat([self._ids, column], dim=1)

    def _shrink(self, cache: Any) -> None:
        """Let ended texts leave, once there are enough of them to pay for the copying."""
        if len(self._open) > (1 - _MOST_ENDED) * len(self._rows):
            return
        kept = [place for place, row in enumerate(self._rows) if row in self._open]
        self._rows = [self._rows[place] for place in kept]
        chosen = torch.tensor(kept, device=self._ids.device)
        self._ids = self._ids[chosen]
        cache.batch_select_indices(chosen)


def _accepted(model: Any, places: dict[str, Tensor]) -> dict[str, Any]:
    """Of these arguments, and of asking for the last logits alone, what a model takes."""
    known = inspect.signature(model.forward).parameters
    takes_all = any(p.kind is p.VAR_KEYWORD for p in known.values())
    given = {**places, "logits_to_keep": 1}
    return {name: value for name, value in given.items() if takes_all or name in known}


def _pad(prompts: Sequence[Sequence[int]], width: int, pad_id: int) -> Int64[Tensor, "n_rows _"]:
    return torch.tensor([[pad_id] * (width - len(p)) + list(p) for p in prompts])


def _common_start(prompts: Sequence[Sequence[int]]) -> int:
    """Tokens that all prompts begin with, if it pays; at least one token of each is left."""
    if len(prompts) < 2:
        return 0
    first, last = min(map(tuple, prompts)), max(map(tuple, prompts))
    most = min(map(len, prompts)) - 1
    n_equal = next((i for i in range(most) if first[i] != last[i]), most)
    return n_equal if n_equal >= _LEAST_COMMON else 0
