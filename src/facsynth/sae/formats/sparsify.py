"""EleutherAI's sparsify."""

import re
from pathlib import Path

from facsynth.errors import ModelError
from facsynth.sae.formats.parts import (
    Layout,
    ReadOptions,
    SaeParts,
    check_sizes,
    kept_features,
    tensor,
)
from facsynth.sae.formats.stored import read_json, read_safetensors

__all__ = ["LAYOUT"]


def read_sparsify(folder: Path, options: ReadOptions) -> SaeParts:
    """Sparsify's `layers.7/{cfg.json, sae.safetensors}`: top-k, the decoder by rows."""
    config_path, path = folder / "cfg.json", folder / "sae.safetensors"
    config = read_json(config_path)
    weights = read_safetensors(path)
    refused = {
        "a transcoder": config.get("transcode"),
        "built with a skip connection": config.get("skip_connection") or "W_skip" in weights,
        "one that keeps negative activations": config.get("signed"),
        f"one with {config.get('activation')}": config.get("activation", "topk") != "topk",
    }
    for what, is_so in refused.items():
        if is_so:
            raise ModelError(f"{config_path}: this SAE is {what}, which is not supported")
    run = folder.parent / "config.json"
    parts = SaeParts(
        w_enc=tensor(weights, "encoder.weight", path).T,
        w_dec=tensor(weights, "W_dec", path),
        b_enc=tensor(weights, "encoder.bias", path),
        b_dec=tensor(weights, "b_dec", path),
        layer=_layer(folder, options),
        subtract_b_dec=True,
        k=kept_features(options.k, config.get("k"), config_path),
        model_name=str(read_json(run).get("model", "")) if run.is_file() else "",
    )
    return check_sizes(parts, {"d_in": config.get("d_in")}, config_path)


def _layer(folder: Path, options: ReadOptions) -> int | None:
    """The layer, from the folder, which is named after the hooked module."""
    name = folder.absolute().name
    block = re.fullmatch(r"(?:[\w.]+\.)?(?:layers|h|blocks)[._](\d+)", name)
    if block:
        return int(block[1])
    if options.layer is None or re.search(r"(?:layers|h|blocks)[._]\d+[._]|embed", name):
        raise ModelError(
            f"the folder {folder} is not named after a decoder layer, as layers.7 is; pass the "
            "layer if it reads the residual stream, SAEs of other modules are not supported"
        )
    return None


LAYOUT = Layout("sparsify", read_sparsify, files=("cfg.json", "sae.safetensors"))
