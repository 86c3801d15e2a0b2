"""The tokens of one batch of texts: Transformers' generation without what it wastes.

* What all prompts begin with is read once, and so are equal prompts; prompts of about one length
  are read together, so that little padding is read.
* Texts that have ended leave the batch.
* A nucleus is looked for among the likeliest tokens, not by sorting the vocabulary.

Every text draws from random numbers of its own, so what it shares a batch with matters only by
the rounding of the model's arithmetic. `Transformers.generate` prepares the run, so whatever the
model's own settings ask for, such as a repetition penalty, holds.
"""

import copy
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int64
from torch import Tensor
from transformers import DynamicCache, GenerationConfig

__all__ = ["Drawing", "draw_tokens", "write_tokens"]

_READ_AT_ONCE = {"cpu": 2048}
"""Tokens of prompts in one forward pass, padding included; other devices take more."""

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

    def read(self, model: Any) -> tuple[Float[Tensor, "n_rows n_vocabulary"], Any]:
        """Logits behind each prompt, and the cache of all."""
        common = DynamicCache(config=model.config)
        kinds = getattr(model.config.get_text_config(), "layer_types", None) or ()
        if any(common.is_sliding) or set(kinds) - {"full_attention"}:
            # Windows and states would count the padding behind the common start.
            self.n_common, groups = 0, [sorted(set(self._twins))]
        else:
            lengths = {row: len(self._prompts[row]) - self.n_common for row in self._twins}
            groups = _group(lengths, _READ_AT_ONCE.get(model.device.type, 32_768))
        if self.n_common:
            ids = torch.tensor([list(self._prompts[0][: self.n_common])], device=model.device)
            model(input_ids=ids, past_key_values=common, use_cache=True, **_accepted(model, {}))
        logits, caches = [], []
        for group in groups:
            cache = copy.deepcopy(common)
            if self.n_common:
                cache.batch_repeat_interleave(len(group))
            logits.append(self._read_rests(model, group, cache))
            caches.append(cache)
        order = [row for group in groups for row in group]
        rows = torch.tensor([order.index(twin) for twin in self._twins], device=model.device)
        return torch.cat(logits)[rows], self._join(caches, rows, model.config)

    def _read_rests(
        self, model: Any, rows: list[int], cache: Any
    ) -> Float[Tensor, "n_rows n_vocabulary"]:
        """Read what follows the common start, padded to the longest; logits behind each."""
        rests = [self._prompts[row][self.n_common :] for row in rows]
        ids = _pad(rests, max(map(len, rests)), self._drawing.pad_id)
        width = self.n_common + ids.shape[1]
        output = model(
            input_ids=ids.to(model.device),
            past_key_values=cache,
            use_cache=True,
            **_accepted(model, self.places(rows, width, width, ids.shape[1], model.device)),
        )
        logits: Tensor = output.logits[:, -1]
        return logits

    def _join(self, caches: Sequence[Any], rows: Int64[Tensor, " n_rows"], config: Any) -> Any:
        """One cache of all prompts, from those of the groups."""
        if len(caches) == 1:
            caches[0].batch_select_indices(rows)
            return caches[0]

        def widen(part: Tensor) -> Tensor:
            gap = part.new_zeros((*part.shape[:2], self.width - part.shape[2], part.shape[3]))
            return torch.cat([part[:, :, : self.n_common], gap, part[:, :, self.n_common :]], 2)

        layers = [
            tuple(torch.cat([widen(part[kind]) for part in parts])[rows] for kind in (0, 1))
            for parts in zip(*caches, strict=True)
        ]
        return DynamicCache(layers, config=config)

    def places(
        self, rows: list[int], width: int, end: int, n_new: int, device: Any
    ) -> dict[str, Tensor]:
        """Mask of all columns before `end`, and the positions of the last `n_new` of them.

        Args:
            rows: Prompts of the rows.
            width: Columns of the prompts.
            end: Columns of the cache with the new ones.
            n_new: Columns that are read now.
            device: Where the model is.
        """
        n_pads = width - torch.tensor([len(self._prompts[row]) for row in rows])[:, None]
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
        width = self._reader.width
        places = self._reader.places(self._rows, width, width + step + 1, 1, model.device)
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


def _group(lengths: Mapping[int, int], most_tokens: int) -> list[list[int]]:
    """Prompts of about one length together, each group with at most so many tokens."""
    groups: list[list[int]] = []
    for row in sorted(lengths, key=lambda row: (-lengths[row], row)):
        if groups and (len(groups[-1]) + 1) * lengths[groups[-1][0]] <= most_tokens:
            groups[-1].append(row)
        else:
            groups.append([row])
    return groups


# One token

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
