"""Whether an SAE belongs to a language model: what must match, and what only causes a warning."""

import re
import warnings
from pathlib import Path

from facsynth.errors import MismatchError
from facsynth.models.hub import parse_hub
from facsynth.models.lm import LanguageModel, check_layer
from facsynth.models.source import ModelShape
from facsynth.sae.module import SaeConfig, SparseAutoencoder

__all__ = ["PairWarning", "check_pair", "check_shape", "name_remark"]

_TUNING = re.compile(r"[-_](?:instruct|chat|it|sft|dpo|base|pt)(?=[-_.]|$)")
_FILE = re.compile(r"[-_.](?:hf|gguf|i?q\d(?:_\w+)?|fp16|bf16|f16)(?=[-_.]|$)")


class PairWarning(UserWarning):
    """An SAE is used on a model that has another name than the one that it was trained on."""


def check_pair(lm: LanguageModel, sae: SparseAutoencoder) -> None:
    """Check that the SAE reads a residual stream of this model.

    Width and layer must fit, and the weights must be the same where the SAE knows them. Another
    name, such as a base model's SAE on its instruct model, is a `PairWarning`.

    Raises:
        MismatchError: The width differs, or the weights.
        ModelError: The model has no such layer.
    """
    config = sae.config
    check_shape(config, lm)
    if config.model_hash and config.model_hash != lm.content_hash:
        raise MismatchError(
            f"the SAE was trained on {config.model_name} {config.model_hash[:12]}, but {lm.name} "
            f"is {lm.content_hash[:12]}; pass that model, or clear model_hash in the SAE's "
            "cfg.json if you know that they are the same"
        )
    remark = name_remark(config, lm.name)
    if remark:
        warnings.warn(remark, PairWarning, stacklevel=3)


def check_shape(config: SaeConfig, model: ModelShape | LanguageModel) -> None:
    """Check that the SAE's width and layer fit, which needs only the model's configuration."""
    trained = f" (it was trained on {config.model_name})" if config.model_name else ""
    if config.d_in != model.d_model:
        raise MismatchError(
            f"the SAE reads vectors of width {config.d_in}, but {model.name} has width "
            f"{model.d_model}{trained}; pass the model that the SAE was trained on"
        )
    check_layer(model, config.layer)


def name_remark(config: SaeConfig, model: str) -> str:
    """A warning if the SAE's model and the model used differ in name; "" if they agree.

    An SAE that knows the hash of its model's weights is compared by that alone. Names are compared
    by their last part, without owner, quantisation and `.gguf`. Names that differ only by
    `-Instruct`, `-it`, `-chat`, `-Base` or `-pt` are tunings of one model. Any other difference
    counts only between names on the Hub, because folders can have any name.
    """
    trained, used = _plain(config.model_name), _plain(model)
    if config.model_hash or not config.model_name or _letters(trained) == _letters(used):
        return ""
    if _letters(_TUNING.sub("", trained)) == _letters(_TUNING.sub("", used)):
        return (
            f"the SAE was trained on {config.model_name} and is used on {model}, another tuning of "
            "the same model; features may mean something else there: `fac sae "
            "evaluate` measures how well the SAE still reconstructs"
        )
    if not (_on_hub(config.model_name) and _on_hub(model)):
        return ""
    return (
        f"the SAE was trained on {config.model_name}, and the model is called {model}; width and "
        "layer fit, but the features mean nothing if they are different models"
    )


def _plain(name: str) -> str:
    """Last part of a name in small letters, without what says only how the file was made."""
    short = name.partition("@")[0].rstrip("/").rpartition("/")[2].lower()
    return _FILE.sub("", re.sub(r"-[0-9a-f]{12}$", "", short))


def _letters(name: str) -> str:
    return re.sub("[^a-z0-9]", "", name)


def _on_hub(name: str) -> bool:
    return parse_hub(name) is not None and not Path(name).exists()
