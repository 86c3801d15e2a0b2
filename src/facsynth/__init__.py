"""Feature Activation Coverage (FAC) of post-training data, and samples for what is missing.

The names below are loaded on first use, so that `import facsynth` stays light.
"""

from importlib import import_module

__version__ = "0.1.0"

_EXPORTS: dict[str, str] = {}

__all__ = ["__version__", *_EXPORTS]


def __getattr__(name: str) -> object:
    if name not in _EXPORTS:
        raise AttributeError(f"module 'facsynth' has no attribute {name!r}")
    return getattr(import_module(_EXPORTS[name]), name)
