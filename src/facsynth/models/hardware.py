"""What a device can do, and how much memory it has left."""

from functools import cache
from pathlib import Path

import psutil
import torch

__all__ = ["free_memory", "multiplies_bfloat16"]

_CONTROL_GROUPS = Path("/sys/fs/cgroup")

_LIMITS = (
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    (
        "memory/memory.limit_in_bytes",
        "memory/memory.usage_in_bytes",
        "memory/memory.stat",
        "total_inactive_file",
    ),
)
"""A container's files for its limit, its use and the cached part of it, in versions 2 and 1."""


@cache
def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 matrices are multiplied by the hardware; in software they are far slower.

    >>> multiplies_bfloat16(torch.device("meta"))
    False
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    flags = torch.cpu.get_capabilities() if device.type == "cpu" else {}
    return any(flags.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def free_memory(device: torch.device) -> int:
    """Bytes available without evicting anything, within the limit of a container."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    free = int(psutil.virtual_memory().available)
    left = _left_in_container(_CONTROL_GROUPS)
    return free if left is None else min(free, left)


def _left_in_container(folder: Path) -> int | None:
    """None outside containers, and in containers without a limit."""
    for limit, used, stat, cached in _LIMITS:
        try:
            most = (folder / limit).read_text().strip()
            taken = int((folder / used).read_text())
            stats = dict(line.split() for line in (folder / stat).read_text().splitlines())
        except OSError:
            continue
        if most != "max":
            return max(0, int(most) - taken + int(stats.get(cached, 0)))
    return None
