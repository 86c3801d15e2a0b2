"""Causal attention on a CPU in blocks of queries, each with the keys up to its last query only."""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from facsynth.models.lm import LanguageModel, text_config

__all__ = ["attend", "attention_in_blocks"]

_NAME = "facsynth"
"""What Transformers knows this attention by."""

_LONGEST_IN_FLOAT32 = 768
"""From about 1,000 keys on PyTorch's kernel is faster in float32, as it keeps no row of scores."""


@contextmanager
def attention_in_blocks(lm: LanguageModel) -> Iterator[None]:
    """While open, a model on the CPU attends by `attend` where that beats PyTorch's kernel.

    The kernel stays for long texts in float32 and where something else than attention to all
    earlier tokens is asked for: padding in front, windows that texts exceed. Models on a GPU, and
    models whose attention is neither PyTorch's nor Gemma 2's (whose scores are capped), are left
    alone.
    """
    before = getattr(lm.model.config, "_attn_implementation", None)
    if lm.device.type != "cpu" or not _can_switch(lm.model, before):
        yield
        return
    _register()
    lm.model.set_attn_implementation(_NAME)
    try:
        yield
    finally:
        lm.model.set_attn_implementation(before)


def attend(
    query: Float[Tensor, "n_rows n_heads n_queries d_head"],
    key: Float[Tensor, "n_rows n_groups n_keys d_head"],
    value: Float[Tensor, "n_rows n_groups n_keys d_value"],
    *,
    scale: float,
    softcap: float | None = None,
    mask: Bool[Tensor, "_ _ n_queries n_keys"] | None = None,
    block: int | None = None,
) -> Float[Tensor, "n_rows n_queries n_heads d_value"]:
    """softmax(scale · q kᵀ) v, where the last query is at the last key and none sees later keys.

    All query heads of a group share one product with its keys. Weights are rounded to the dtype of
    the inputs, sums are not.

    Args:
        query: Queries; heads in order of the groups that they belong to.
        key: Keys of all tokens so far.
        value: Values of all tokens so far.
        scale: Factor of the scores.
        softcap: Scores s become softcap · tanh(s / softcap) (Gemma 2, arXiv 2408.00118, section 2).
        mask: Which keys each query sees, instead of all up to its own.
        block: Queries at a time; None picks what was fastest: 32 in float32, in bfloat16 64, or
            128 before more than 1,024 keys.

    Returns:
        Sums of values, tokens before heads.
    """
    n_rows, n_heads, n_queries, d_head = query.shape
    n_groups, n_keys, d_value = value.shape[1:]
    block = block or _block_size(n_keys, query.dtype)
    queries = query.view(n_rows, n_groups, -1, n_queries, d_head)
    keys = key.flatten(0, 1).transpose(1, 2)
    values = value.flatten(0, 1)
    later = query.new_full((block, block), -math.inf).triu_(1)
    summed = value.new_empty((n_rows, n_queries, n_heads, d_value))
    grouped = summed.view(n_rows, n_queries, n_groups, -1, d_value).permute(0, 2, 3, 1, 4)
    for start in range(0, n_queries, block):
        chosen = slice(start, min(start + block, n_queries))
        size = chosen.stop - start
        seen = n_keys if mask is not None else n_keys - n_queries + chosen.stop
        mine = (queries[:, :, :, chosen] * scale).flatten(2, 3).flatten(0, 1)
        scores = torch.bmm(mine, keys[:, :, :seen])
        if softcap is not None:
            scores.div_(softcap).tanh_().mul_(softcap)
        by_head = scores.view(n_rows, n_groups, -1, size, seen)
        if mask is None:
            by_head[..., seen - size :].add_(later[:size, :size])
        else:
            unseen = ~mask[:, :, None, chosen]
            by_head.masked_fill_(unseen, torch.finfo(scores.dtype).min)
        sums = torch.bmm(scores.softmax(dim=-1), values[:, :seen])
        grouped[:, :, :, chosen] = sums.view(n_rows, n_groups, -1, size, d_value)
    return summed


def _block_size(n_keys: int, dtype: torch.dtype) -> int:
    if dtype.itemsize > 2:
        return 32
    return 64 if n_keys <= 1024 else 128


def _can_switch(model: Any, implementation: str | None) -> bool:
    """Whether a model's attention can be asked for by name and is one that `attend` computes."""
    capped = getattr(text_config(model), "attn_logit_softcapping", None) is not None
    known = implementation == "sdpa" or (implementation == "eager" and capped)
    asks = getattr(model, "_can_set_attn_implementation", None)
    return bool(known and asks is not None and asks())


@cache
def _register() -> None:
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(_NAME, _attention)
    AttentionMaskInterface.register(_NAME, _mask)


def _attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    *,
    scaling: float | None = None,
    is_causal: bool | None = None,
    softcap: float | None = None,
    **others: Any,
) -> tuple[Tensor, None]:
    """What a decoder layer calls; the contract is that of Transformers' `AttentionInterface`."""
    from transformers.integrations.sdpa_attention import sdpa_attention_forward

    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    causal = getattr(module, "is_causal", True) if is_causal is None else is_causal
    is_plain = attention_mask is None and others.get("position_bias") is None and causal
    if softcap is not None or (is_plain and _pays(query, key)):
        key, value = key.to(query.dtype), value.to(query.dtype)  # autocast may leave them apart
        with torch.autocast(query.device.type, enabled=False):
            summed = attend(query, key, value, scale=scale, softcap=softcap, mask=attention_mask)
            return summed, None
    if attention_mask is None and causal and 1 < query.shape[2] < key.shape[2]:
        attention_mask = _up_to_own(query.shape[2], key.shape[2])
    found: tuple[Tensor, None] = sdpa_attention_forward(
        module, query, key, value, attention_mask, scaling=scaling, is_causal=is_causal, **others
    )
    return found


def _pays(query: Tensor, key: Tensor) -> bool:
    """Whether `attend` is faster than the kernel, which needs a mask behind cached keys."""
    n_queries, n_keys = query.shape[2], key.shape[2]
    if n_queries == 1 or query.dtype == torch.float16:
        return False
    is_short = n_keys <= _LONGEST_IN_FLOAT32
    return is_short or query.dtype == torch.bfloat16 or n_queries < n_keys


def _up_to_own(n_queries: int, n_keys: int) -> Bool[Tensor, "1 1 n_queries n_keys"]:
    mask = torch.ones(n_queries, n_keys, dtype=torch.bool)
    return mask.tril(n_keys - n_queries)[None, None]


def _mask(**asked: Any) -> Tensor | None:
    """No mask, where all queries see all keys up to their own, behind cached keys too.

    PyTorch's attention needs one there, as it takes the first query to be at the first key.
    """
    from transformers.masking_utils import sdpa_mask

    n_keys, window = asked["kv_length"], asked.get("local_size")
    is_plain = (
        asked.get("allow_is_causal_skip", True)
        and asked.get("attention_mask") is None
        and asked.get("kv_offset", 0) == 0
        and n_keys == asked.get("q_offset", 0) + asked.get("q_length", 0)
        and (window is None or n_keys < window)
    )
    mask: Tensor | None = None if is_plain else sdpa_mask(**asked)
    return mask
