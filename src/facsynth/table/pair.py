"""The tokenizer and the SAE that a table was extracted with, found again."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from facsynth.errors import DataError, MismatchError
from facsynth.models.default_model import DEFAULT_MODEL, EMBEDDED_SAE
from facsynth.models.hub import parse_hub
from facsynth.models.render import chat_format
from facsynth.models.source import load_tokenizer
from facsynth.sae.sources import SAELENS
from facsynth.table.manifest import TableSource

if TYPE_CHECKING:
    from facsynth.sae.module import SparseAutoencoder

__all__ = ["load_table_sae", "load_table_tokenizer"]


def load_table_tokenizer(source: TableSource, model: str | None) -> Any:
    """Tokenizer of the model that extracted a table; by default of the model that it names."""
    name = model or _named_by_table(source.model_name, "--model")
    tokenizer = load_tokenizer(name)
    if hashlib.sha256(chat_format(tokenizer).encode()).hexdigest() != source.chat_format_hash:
        raise MismatchError(
            f"{name} has another chat template than {source.model_name}, which extracted the "
            "table; pass that model as --model"
        )
    return tokenizer


def load_table_sae(source: TableSource, sae: str | None) -> "SparseAutoencoder":
    """The SAE that extracted a table, by default from where the table says it came."""
    from facsynth.sae.files import load_sae

    name = sae or _named_by_table(source.sae_name, "--sae")
    loaded = load_sae(None if name == EMBEDDED_SAE else name)
    if loaded.content_hash != source.sae_hash:
        raise MismatchError(
            f"{name} is SAE {loaded.content_hash[:8]}, and the table was extracted with "
            f"{source.sae_hash[:8]}; pass that one as --sae"
        )
    return loaded


def _named_by_table(name: str, option: str) -> str:
    """A name from a table, unless it leads to files that the user did not name.

    Tables come from strangers; what they name on this machine may have come with them.
    """
    known = name in (DEFAULT_MODEL, EMBEDDED_SAE, "default") or name.startswith(SAELENS)
    if known or (parse_hub(name) is not None and not Path(name).exists()):
        return name
    raise DataError(
        f"the table was extracted with {name[:200]!r}, and files that only a table names are not "
        f"opened; if you trust them, pass {option} {name[:200]}"
    )
