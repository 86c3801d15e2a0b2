"""What a device can do."""

from functools import cache

import torch

__all__ = ["multiplies_bfloat16"]


@cache
def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether bfloat16 matrices are multiplied by the hardware; in software it takes far longer.

    >>> multiplies_bfloat16(torch.device("meta"))
    False
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported())
    flags = torch.cpu.get_capabilities() if device.type == "cpu" else {}
    return any(flags.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16"))
