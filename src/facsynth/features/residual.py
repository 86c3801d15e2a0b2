"""The residual stream at the output of one decoder layer, by forward hooks."""

import copy
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int32
from torch import Tensor, nn

from facsynth.errors import ModelError
from facsynth.features.lm import LanguageModel, text_config

__all__ = [
    "Prefix",
    "batch_by_length",
    "check_layer",
    "decoder_layers",
    "read_prefix",
    "read_residual",
    "replace_residual",
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


def check_layer(lm: LanguageModel, layer: int) -> None:
    """Raise a ModelError unless the model has this 0-based decoder layer."""
    if not 0 <= layer < lm.n_layers:
        raise ModelError(f"{lm.name} has the layers 0 to {lm.n_layers - 1}, not {layer}")


def batch_by_length(
    lengths: Sequence[int], *, batch_tokens: int, max_rows: int = 256
) -> list[list[int]]:
    """Group texts of similar length so that rows x longest stays within `batch_tokens`."""
    batches: list[list[int]] = []
    width = 0
    for index in sorted(range(len(lengths)), key=lambda i: (-lengths[i], i)):
        full = batches and (
            (len(batches[-1]) + 1) * width > batch_tokens or len(batches[-1]) >= max_rows
        )
        if not batches or full:
            batches.append([])
            width = lengths[index]
        batches[-1].append(index)
    return batches


@dataclass(frozen=True)
class Prefix:
    """Tokens that every sequence starts with, run through the model once."""

    n_tokens: int
    cache: Any
    """Keys and values of the layers up to the one that is read, for one row."""


class _Stop(Exception):  # noqa: N818
    """Leaves a forward pass once the wanted layer has been read."""


def read_residual(
    lm: LanguageModel,
    rows: Sequence[Int32[np.ndarray, " _"]],
    layer: int,
    *,
    prefix: Prefix | None = None,
) -> Float[Tensor, "n_rows max_tokens d_model"]:
    """Output of one decoder layer; the layers above are not run.

    Rows are padded on the right, where a causal model cannot see them, so no mask is needed. If
    all rows are empty, one token of padding is read.

    Args:
        lm: The model.
        rows: Token ids of each sequence.
        layer: 0-based decoder layer; its output is `hidden_states[layer + 1]`.
        prefix: What comes before every row, from `read_prefix`; not part of the result.

    Returns:
        Residual stream in the model's dtype; what lies behind a row's end is padding.
    """
    ids = torch.zeros((len(rows), max(1, *map(len, rows))), dtype=torch.long)
    for index, row in enumerate(rows):
        ids[index, : len(row)] = torch.from_numpy(row)
    past = None
    if prefix is not None:
        past = copy.deepcopy(prefix.cache)
        past.batch_repeat_interleave(len(rows))
    return _run_to(lm, ids, layer, past)


def read_prefix(lm: LanguageModel, ids: Int32[np.ndarray, " _"], layer: int) -> Prefix:
    """Run the tokens that every sequence starts with once, keeping keys and values."""
    from transformers import DynamicCache

    cache = DynamicCache()
    _run_to(lm, torch.from_numpy(ids).long()[None], layer, cache)
    return Prefix(len(ids), cache)


def _run_to(lm: LanguageModel, ids: Tensor, layer: int, past: Any) -> Tensor:
    """One forward pass that stops behind `layer`."""
    kept: list[Tensor] = []

    def keep(_module: nn.Module, _inputs: object, output: Any) -> None:
        kept.append(output[0] if isinstance(output, tuple) else output)
        raise _Stop

    handle = decoder_layers(lm.model)[layer].register_forward_hook(keep)
    try:
        with torch.inference_mode():
            lm.model(input_ids=ids.to(lm.device), past_key_values=past, use_cache=past is not None)
    except _Stop:
        pass
    finally:
        handle.remove()
    return kept[0]


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
