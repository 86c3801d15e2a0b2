"""Working in one process or in several: what data-parallel training asks of the others.

Everything is built on two questions, the sum of a tensor over all ranks and the ranks' tensors
joined, so that a run alone and a run under `torchrun` share every line of the training.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

__all__ = ["ALONE", "Alone", "Ranks", "launched_by_torchrun", "open_ranks"]


@runtime_checkable
class Ranks(Protocol):
    """The processes that train one SAE together."""

    number: int
    """Which of them this is, from 0; rank 0 writes the files."""

    count: int
    """How many there are."""

    def total(self, tensor: Tensor) -> Tensor:
        """Sum over the ranks; every rank gives a tensor of the same shape."""

    def joined(self, tensor: Tensor) -> Tensor:
        """The ranks' tensors one after the other along the first axis, whose lengths may differ."""


class Alone:
    """A single process."""

    number, count = 0, 1

    def total(self, tensor: Tensor) -> Tensor:
        """The tensor itself."""
        return tensor

    def joined(self, tensor: Tensor) -> Tensor:
        """The tensor itself."""
        return tensor


ALONE = Alone()


class _Group:
    """The default process group of `torch.distributed`."""

    def __init__(self) -> None:
        from torch import distributed

        self.number, self.count = distributed.get_rank(), distributed.get_world_size()

    def total(self, tensor: Tensor) -> Tensor:
        from torch import distributed

        summed = tensor.clone()
        distributed.all_reduce(summed)
        return summed

    def joined(self, tensor: Tensor) -> Tensor:
        from torch import distributed

        if tensor.dtype == torch.bfloat16:  # which Gloo does not carry
            return self.joined(tensor.float()).to(tensor.dtype)
        length = torch.tensor([len(tensor)], device=tensor.device)
        lengths = [torch.empty_like(length) for _ in range(self.count)]
        distributed.all_gather(lengths, length)
        longest = max(int(n) for n in lengths)
        padded = tensor.new_zeros((longest, *tensor.shape[1:]))
        padded[: len(tensor)] = tensor
        parts = [torch.empty_like(padded) for _ in range(self.count)]
        distributed.all_gather(parts, padded)
        return torch.cat([part[: int(n)] for part, n in zip(parts, lengths, strict=True)])


def launched_by_torchrun() -> bool:
    """Whether this process is one of those that `torchrun` started."""
    return "TORCHELASTIC_RUN_ID" in os.environ and "RANK" in os.environ


@contextmanager
def open_ranks() -> Iterator[Ranks]:
    """The ranks that `torchrun` started, else a single process.

    On CUDA each rank takes the device of its local number as the current one, and NCCL carries
    the sums; on the CPU it is Gloo.
    """
    if not launched_by_torchrun():
        yield ALONE
        return
    from torch import distributed

    cuda = torch.cuda.is_available()
    if cuda:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    distributed.init_process_group("nccl" if cuda else "gloo")
    try:
        yield _Group()
        distributed.barrier()  # one that ends while another is still connected can abort
    finally:
        distributed.destroy_process_group()
