"""Qwen-Scope."""

from pathlib import Path

from facsynth.sae.formats.parts import Layout, ReadOptions, SaeParts, kept_features, named, tensor
from facsynth.sae.formats.stored import read_pickle

__all__ = ["LAYOUT"]


def read_qwen_scope(path: Path, options: ReadOptions) -> SaeParts:
    """Qwen-Scope's `layer7.sae.pt`; `k` and the model come from the repository's name."""
    weights = read_pickle(path)
    repository = named(path, r"SAE-Res-([\w.-]+?)-W\d+K-L0_(\d+)")
    counted = named(path, r"layer(\d+)\.sae\.pt")
    return SaeParts(
        w_enc=tensor(weights, "W_enc", path).T,
        w_dec=tensor(weights, "W_dec", path).T,
        b_enc=tensor(weights, "b_enc", path),
        b_dec=tensor(weights, "b_dec", path),
        layer=int(counted[1]) if counted else None,
        subtract_b_dec=False,
        k=kept_features(options.k, int(repository[2]) if repository else None, path),
        model_name=f"Qwen/{repository[1]}" if repository else "",
    )


LAYOUT = Layout(
    "qwen_scope", read_qwen_scope, tensors=frozenset({"W_enc", "W_dec", "b_enc", "b_dec"})
)
