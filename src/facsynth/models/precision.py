"""Which products of a forward pass are rounded to bfloat16, and which are not."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812
from torch.overrides import TorchFunctionMode

from facsynth.models.lm import LanguageModel

__all__ = ["precision"]

_TOWARDS_ATTENTION = ("q_proj", "k_proj", "v_proj", "qkv_proj", "query_key_value")
"""How the families name what makes queries, keys and values."""


@contextmanager
def precision(lm: LanguageModel) -> Iterator[None]:
    """While open, a mixed model rounds only the inputs of its large products to bfloat16.

    Three kinds of rounding lie between bfloat16 and float32, and two of them are undone:

    * The residual stream is float32 from the embeddings on, because sums with it are.
    * Queries, keys and values come out of their products in float32, and attention runs in float32.
      Keys are large, and a rounded one shifts every score of its column.
    * The inputs of the products are rounded by autocast, and so are the results of the products
      of the MLP and behind attention: that is where bfloat16 is fast.

    Weights are stored in bfloat16, so there is nothing of them for autocast to cache.
    """
    if not lm.is_mixed:
        yield
        return

    def widen(_module: nn.Module, _inputs: object, output: Tensor) -> Tensor:
        return output.float()

    handle = lm.model.get_input_embeddings().register_forward_hook(widen)
    try:
        with (
            torch.autocast(lm.device.type, dtype=torch.bfloat16, cache_enabled=False),
            _FineAttention(lm),
        ):
            yield
    finally:
        handle.remove()


class _FineAttention(TorchFunctionMode):
    """Attention and what it is given in float32, inside of autocast.

    Only PyTorch's attention, that is: what a model writes out in matrix products (`eager`, as
    Gemma 2 does) is left to autocast.
    """

    def __init__(self, lm: LanguageModel) -> None:
        super().__init__()
        self._device = lm.device.type
        self._weights = {
            id(module.weight)
            for name, module in lm.model.named_modules()
            if isinstance(module, nn.Linear) and name.endswith(_TOWARDS_ATTENTION)
        }

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        del types
        kwargs = kwargs or {}
        if func is F.linear and len(args) > 1 and id(args[1]) in self._weights:
            fine: AbstractContextManager[Any] = _fine_results(self._device)
        elif func is F.scaled_dot_product_attention:
            fine = torch.autocast(self._device, enabled=False)
        else:
            return func(*args, **kwargs)
        with fine:
            wide = {name: _widened(value) for name, value in kwargs.items()}
            return func(*map(_widened, args), **wide)


def _widened(value: Any) -> Any:
    """The same in float32, if it is a tensor of smaller floats."""
    is_float = isinstance(value, Tensor) and value.is_floating_point()
    return value.float() if is_float else value


@contextmanager
def _fine_results(device: str) -> Iterator[None]:
    """While open, float32 products of the CPU may round their inputs, but not their results.

    Where the processor multiplies bfloat16 they run at half of its rate instead of at float32's;
    elsewhere, and on a GPU, they are float32 throughout.
    """
    products = torch.backends.mkldnn.matmul  # type: ignore[attr-defined]
    before = products.fp32_precision
    products.fp32_precision = "bf16"
    try:
        with torch.autocast(device, enabled=False):
            yield
    finally:
        products.fp32_precision = before
