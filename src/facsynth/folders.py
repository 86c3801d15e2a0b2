"""Where facsynth keeps what it downloads and converts."""

import os
from pathlib import Path

__all__ = ["cache_folder"]


def cache_folder() -> Path:
    """`FACSYNTH_CACHE`, or `~/.cache/facsynth`."""
    return Path(os.environ.get("FACSYNTH_CACHE") or Path.home() / ".cache" / "facsynth")
