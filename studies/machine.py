"""Description of the machine, for the page of a study."""

import os
import platform
from pathlib import Path

__all__ = ["describe_processor"]

_SHOWN = {"avx2": "AVX2", "avx512f": "AVX-512", "avx512_bf16": "AVX-512 BF16", "amx_bf16": "AMX"}


def describe_processor() -> str:
    """For example `2 cores of an AMD EPYC (AVX2)`; without flags if the system reports none."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text(encoding="utf-8").splitlines() if info.is_file() else []
    found = {name.strip(): value.strip() for name, _, value in (x.partition(":") for x in lines)}
    name = found.get("model name") or platform.processor() or platform.machine()
    flags = set(found.get("flags", "").split())
    has = [shown for flag, shown in _SHOWN.items() if flag in flags]
    article = "an" if name[0] in "AEIO" else "a"
    return f"{os.cpu_count()} cores of {article} {name}" + (f" ({', '.join(has)})" if has else "")
