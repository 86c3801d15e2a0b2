"""GGUF files, converted once to a folder that Transformers loads quickly."""

import io
import struct
from contextlib import redirect_stderr
from pathlib import Path

from facsynth.errors import ModelError
from facsynth.folders import atomic_path, cache_folder
from facsynth.models.hub import one_line
from facsynth.models.weights import check_complete, file_hash

__all__ = ["convert_gguf", "converted_folder"]


def converted_folder(name: str, sha256: str) -> Path:
    """Where the conversion of a GGUF file is kept."""
    return cache_folder() / "models" / f"{Path(name).stem}-{sha256[:12]}"


def convert_gguf(path: Path) -> Path:
    """Convert a GGUF file once to a cached folder that Transformers loads quickly."""
    if not path.is_file():
        raise ModelError(f"{path} does not exist")
    target = converted_folder(path.name, file_hash(path))
    if (target / "config.json").is_file():
        return target
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, GgufConfig
    from transformers.utils import logging

    logging.disable_progress_bar()
    unreadable = (OSError, ValueError, KeyError, ImportError, NotImplementedError, struct.error)
    try:
        tokenizer = AutoTokenizer.from_pretrained(
            path.parent, gguf_file=path.name, trust_remote_code=False
        )
        with redirect_stderr(io.StringIO()):  # a bar that no setting of Transformers hides
            loaded, info = AutoModelForCausalLM.from_pretrained(
                path.parent,
                dtype=torch.float32,
                quantization_config=GgufConfig(dequantize=True),
                output_loading_info=True,
                gguf_file=path.name,
                trust_remote_code=False,
            )
    except unreadable as error:
        raise ModelError(f"{path} cannot be read as a GGUF model: {one_line(error)}") from error
    check_complete(info["missing_keys"], path)
    config = loaded.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    plain = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16, trust_remote_code=False)
    plain.load_state_dict(loaded.state_dict())
    with atomic_path(target) as temporary:
        plain.save_pretrained(temporary)
        tokenizer.save_pretrained(temporary)
    return target
