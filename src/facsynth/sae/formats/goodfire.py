"""Goodfire's SAEs."""

from pathlib import Path

from facsynth.sae.formats.parts import Layout, ReadOptions, SaeParts, named, tensor
from facsynth.sae.formats.stored import read_pickle

__all__ = ["LAYOUT"]


def read_goodfire(path: Path, options: ReadOptions) -> SaeParts:
    """Goodfire's `Llama-3.1-8B-Instruct-SAE-l19.pth`: two linear layers and a ReLU."""
    weights = read_pickle(path)
    name = named(path, r"([\w.-]+)-SAE-l(\d+)")
    return SaeParts(
        w_enc=tensor(weights, "encoder_linear.weight", path).T,
        w_dec=tensor(weights, "decoder_linear.weight", path).T,
        b_enc=tensor(weights, "encoder_linear.bias", path),
        b_dec=tensor(weights, "decoder_linear.bias", path),
        layer=int(name[2]) if name else None,
        subtract_b_dec=False,
        model_name=f"meta-llama/{name[1]}" if name else "",
    )


LAYOUT = Layout(
    "goodfire",
    read_goodfire,
    tensors=frozenset({"encoder_linear.weight", "decoder_linear.weight"}),
)
