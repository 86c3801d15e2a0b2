"""A causal language model with a new linear head on its last token: the form that is trained.

The body is shared with the model that was loaded, not copied; only the head is new.
"""

import copy
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float64, Int32
from torch.nn.utils.rnn import pad_sequence

from facsynth.errors import ModelError
from facsynth.models.hub import one_line
from facsynth.models.lm import LanguageModel, text_config
from facsynth.progress import SILENT, Progress
from facsynth.tasks.settings import LoraSettings

__all__ = [
    "add_adapters",
    "as_classifier",
    "load_adapters",
    "padded_tokenizer",
    "score_texts",
    "tuned_classifier",
]

TARGETS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
"""Matrices that get an adapter; where a model has none of these names, all linear layers."""

_AT_ONCE = 16
"""Texts in memory, of similar length."""

Tokens = Int32[np.ndarray, " _"]


def padded_tokenizer(tokenizer: Any) -> Any:
    """A copy that can pad: with its own padding token, or else its end token."""
    own = copy.deepcopy(tokenizer)
    if own.pad_token is None:
        own.pad_token = own.eos_token
    if own.pad_token is None:
        raise ModelError("the tokenizer has neither a padding nor an end token; set pad_token")
    return own


def as_classifier(lm: LanguageModel, n_outputs: int) -> Any:
    """The model's body under a new head, drawn by torch's present random state.

    Raises:
        ModelError: Transformers has no sequence classifier of this architecture.
    """
    from transformers import AutoModelForSequenceClassification

    config = copy.deepcopy(text_config(lm.model))
    config.num_labels = n_outputs
    config.pad_token_id = padded_tokenizer(lm.tokenizer).pad_token_id
    try:
        with torch.device("meta"):
            model = AutoModelForSequenceClassification.from_config(config, trust_remote_code=False)
    except ValueError as error:
        raise ModelError(
            f"{lm.name} cannot be made a classifier by Transformers: {one_line(error)}; "
            "--head-only works with any model"
        ) from error
    setattr(model, model.base_model_prefix, lm.model.base_model)
    head = torch.nn.Linear(int(config.hidden_size), n_outputs, bias=False)
    torch.nn.init.normal_(head.weight, std=float(getattr(config, "initializer_range", 0.02)))
    model.score = head.to(lm.device)  # in float32, where small steps are not lost
    return model


def add_adapters(model: Any, settings: LoraSettings, *, head: bool) -> Any:
    """Wrap a model with LoRA adapters; `head` trains the new head in full beside them."""
    peft = _peft()
    names = {name.rsplit(".", 1)[-1] for name, _ in model.named_modules()}
    config = peft.LoraConfig(
        r=settings.lora_rank,
        lora_alpha=settings.lora_alpha,
        lora_dropout=settings.lora_dropout,
        target_modules=[n for n in TARGETS if n in names] or "all-linear",
        modules_to_save=["score"] if head else None,
        task_type="SEQ_CLS" if head else "CAUSAL_LM",
    )
    return peft.get_peft_model(model, config)


@contextmanager
def tuned_classifier(lm: LanguageModel, folder: Path, n_outputs: int) -> Iterator[Any]:
    """The classifier that was trained into a folder, on the body of the untrained model."""
    if not (folder / "adapter_config.json").is_file():
        from transformers import AutoModelForSequenceClassification

        whole = AutoModelForSequenceClassification.from_pretrained(
            folder, dtype=lm.model.dtype, trust_remote_code=False, use_safetensors=True
        )
        yield whole.to(lm.device).eval()
        return
    with load_adapters(as_classifier(lm, n_outputs), folder) as model:
        yield model


@contextmanager
def load_adapters(model: Any, folder: Path) -> Iterator[Any]:
    """A model with the adapters of a folder, which are removed again at the end."""
    wrapped = _peft().PeftModel.from_pretrained(model, folder)
    try:
        yield wrapped.eval()
    finally:
        wrapped.unload()


def score_texts(
    model: Any,
    rows: Sequence[Tokens],
    pad_id: int,
    *,
    progress: Progress = SILENT,
) -> Float64[np.ndarray, " n_samples"]:
    """One score per text: the only output, or the second minus the first of two."""
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    scores = np.zeros(len(rows))
    words = model.get_input_embeddings().weight
    device, half = words.device, words.dtype != torch.float32
    casting = torch.autocast(device.type, words.dtype) if half else nullcontext()
    with torch.inference_mode(), casting, progress.task("scores", len(rows), "texts") as task:
        for start in range(0, len(order), _AT_ONCE):
            batch = order[start : start + _AT_ONCE]
            texts = [torch.from_numpy(rows[i].astype(np.int64)) for i in batch]
            ids = pad_sequence(texts, batch_first=True, padding_value=pad_id)
            mask = pad_sequence([torch.ones_like(text) for text in texts], batch_first=True)
            out = model(input_ids=ids.to(device), attention_mask=mask.to(device)).logits.double()
            scores[batch] = (out[:, -1] - (out[:, 0] if out.shape[1] == 2 else 0)).cpu().numpy()
            task.advance(len(batch))
    return scores


def _peft() -> Any:
    import peft

    # PEFT 0.21 asks Transformers 5 for a property by its old name.
    warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated", FutureWarning)
    return peft
