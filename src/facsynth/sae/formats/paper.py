"""The SAEs of arXiv 2602.10388, which introduced Feature Activation Coverage."""

from collections.abc import Mapping
from pathlib import Path

from facsynth.errors import ModelError
from facsynth.sae.formats.parts import Layout, ReadOptions, SaeParts, kept_features, named, tensor
from facsynth.sae.formats.stored import read_pickle

__all__ = ["LAYOUT"]


def read_paper(path: Path, options: ReadOptions) -> SaeParts:
    """The paper's `TopK7_l16_h4096_epoch3.pth`: tied weights, layers counted from 1.

    `topK` is annealed during training, so the file of an early epoch holds a larger value than
    the final one; the option `k` overrides it. The `mask` is for training and is ignored.
    """
    content = read_pickle(path)
    weights, config = content["weight"], content["config"]
    if not (isinstance(weights, Mapping) and isinstance(config, Mapping)):
        raise ModelError(f"{path} holds no tables `weight` and `config`, as the paper's files do")
    encoder = tensor(weights, "W_enc", path)
    counted = named(path, r"_l(\d+)_")
    return SaeParts(
        w_enc=encoder,
        w_dec=encoder.T,
        b_enc=tensor(weights, "b_enc", path),
        b_dec=tensor(weights, "b_dec", path),
        layer=int(counted[1]) - 1 if counted else None,
        subtract_b_dec=True,
        k=kept_features(options.k, config.get("topK"), path),
    )


LAYOUT = Layout("paper", read_paper, tensors=frozenset({"weight", "config"}))
