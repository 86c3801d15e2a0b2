"""The residual stream at the output of decoder layers, by forward hooks."""

import copy
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, Int32
from torch import Tensor, nn

from facsynth.errors import ModelError
from facsynth.models.lm import LanguageModel, check_layer, text_config
from facsynth.models.precision import precision

__all__ = [
    "Prefix",
    "batch_by_length",
    "decoder_layers",
    "read_prefix",
    "read_residual",
    "read_residuals",
    "replace_residual",
    "run_layers",
]


def decoder_layers(model: Any) -> nn.ModuleList:
    """The list of decoder layers, found by its length and not by the family's name."""
    n_layers = text_config(model).num_hidden_layers
    for module in model.modules():
        if isinstance(module, nn.ModuleList) and len(module) == n_layers:
            return module
    raise ModelError(
        f"{type(model).__name__} has no list of {n_layers} decoder layers; facsynth reads "
        "decoder-only models"
    )


def batch_by_length(
    lengths: Sequence[int], *, batch_tokens: int, max_rows: int = 256
) -> list[list[int]]:
    """Group texts of similar length so that rows x longest stays within `batch_tokens`.

    Of all ways to cut the texts, longest first, it is the one with the least padding, where
    a batch more costs as much as a sixteenth of `batch_tokens`. A text that is longer is alone.
    """
    order = sorted(range(len(lengths)), key=lambda i: (-lengths[i], i))
    widths = np.array([lengths[i] for i in order], dtype=np.int64)
    least = np.zeros(len(order) + 1)
    starts = np.zeros(len(order) + 1, dtype=np.int64)
    for end in range(1, len(order) + 1):
        begin = max(0, end - max_rows)
        rows = np.arange(end - begin, 0, -1)
        tokens = rows * widths[begin:end]
        costs = np.where((tokens <= batch_tokens) | (rows == 1), least[begin:end] + tokens, np.inf)
        best = int(costs.argmin())
        least[end] = costs[best] + batch_tokens / 16
        starts[end] = begin + best
    batches: list[list[int]] = []
    end = len(order)
    while end:
        batches.append(order[starts[end] : end])
        end = int(starts[end])
    return batches[::-1]


@dataclass(frozen=True)
class Prefix:
    """Tokens that every sequence starts with, run through the model once."""

    n_tokens: int

    layer: int
    """Deepest layer that was run; what reads on from here can go no deeper."""

    cache: Any
    """Keys and values of the layers up to `layer`, for one row."""


class _Stop(Exception):  # noqa: N818
    """Leaves a forward pass once the deepest wanted layer has been read."""


def read_residual(
    lm: LanguageModel,
    rows: Sequence[Int32[np.ndarray, " _"]],
    layer: int,
    *,
    prefix: Prefix | None = None,
) -> Float[Tensor, "n_rows max_tokens d_model"]:
    """Output of one decoder layer; see `read_residuals`."""
    return read_residuals(lm, rows, [layer], prefix=prefix)[layer]


def read_residuals(
    lm: LanguageModel,
    rows: Sequence[Int32[np.ndarray, " _"]],
    layers: Collection[int],
    *,
    prefix: Prefix | None = None,
) -> dict[int, Float[Tensor, "n_rows max_tokens d_model"]]:
    """Outputs of several decoder layers in one pass; the layers above the deepest are not run.

    Rows are padded on the right, where a causal model cannot see them, so no mask is needed. If
    all rows are empty, one token of padding is read.

    Args:
        lm: The model.
        rows: Token ids of each sequence.
        layers: 0-based decoder layers; the output of layer `i` is `hidden_states[i + 1]`, but
            for the last layer, which transformers reports behind the final norm.
        prefix: What comes before every row, from `read_prefix`; not part of the result.

    Returns:
        Layer to residual stream, in the model's dtype (float32 of a mixed one); what lies behind a
        row's end is padding.

    Raises:
        ModelError: The model lacks a layer, no layer is given, or the prefix ends above one.
    """
    _check_layers(lm, layers, prefix)
    ids = torch.zeros((len(rows), max(1, *map(len, rows))), dtype=torch.long)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = torch.from_numpy(row)
    past = None
    if prefix is not None:
        past = copy.deepcopy(prefix.cache)
        past.batch_repeat_interleave(len(rows))
    return run_layers(lm, ids, layers, past=past)


def read_prefix(lm: LanguageModel, ids: Int32[np.ndarray, " _"], layer: int) -> Prefix:
    """Run the tokens that every sequence starts with once, keeping keys and values.

    Args:
        lm: The model.
        ids: The tokens.
        layer: The deepest layer that will be read behind this prefix.
    """
    from transformers import DynamicCache

    cache = DynamicCache()
    run_layers(lm, torch.from_numpy(ids).long()[None], [layer], past=cache)
    return Prefix(len(ids), layer, cache)


def _check_layers(lm: LanguageModel, layers: Collection[int], prefix: Prefix | None) -> None:
    if not layers:
        raise ModelError(f"no layer of {lm.name} to read; give at least one")
    for layer in layers:
        check_layer(lm, layer)
    if prefix is not None and prefix.layer < max(layers):
        raise ModelError(
            f"the prefix was read up to layer {prefix.layer}, but layer {max(layers)} is asked "
            "for; read the prefix up to the deepest layer"
        )


def run_layers(
    lm: LanguageModel,
    ids: Int[Tensor, "n_rows n_tokens"],
    layers: Collection[int],
    *,
    past: Any = None,
    places: Mapping[str, Tensor] | None = None,
) -> dict[int, Float[Tensor, "n_rows n_tokens d_model"]]:
    """One forward pass that stops behind the deepest of `layers`.

    Args:
        lm: The model.
        ids: Tokens.
        layers: Layers whose outputs are wanted.
        past: Cache of keys and values, which grows by these tokens.
        places: `attention_mask` and `position_ids` where rows are padded in front.
    """
    deepest = max(layers)
    kept: dict[int, Tensor] = {}

    def keep(layer: int, _module: nn.Module, _inputs: object, output: Any) -> None:
        kept[layer] = output[0] if isinstance(output, tuple) else output
        if layer == deepest:
            raise _Stop

    modules = decoder_layers(lm.model)
    handles = [modules[i].register_forward_hook(partial(keep, i)) for i in sorted(set(layers))]
    try:
        with torch.inference_mode(), precision(lm):
            lm.model(
                input_ids=ids.to(lm.device),
                past_key_values=past,
                use_cache=past is not None,
                **(places or {}),
            )
    except _Stop:
        pass
    finally:
        for handle in handles:
            handle.remove()
    return kept


@contextmanager
def replace_residual(
    lm: LanguageModel, layer: int, replace: Callable[[Tensor], Tensor]
) -> Iterator[None]:
    """While open, the output of a decoder layer is `replace(output)`."""

    def hook(_module: nn.Module, _inputs: object, output: Any) -> Any:
        if isinstance(output, tuple):
            return (replace(output[0]), *output[1:])
        return replace(output)

    handle = decoder_layers(lm.model)[layer].register_forward_hook(hook)
    try:
        yield
    finally:
        handle.remove()
