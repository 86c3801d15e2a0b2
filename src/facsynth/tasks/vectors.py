"""Hidden states of samples, computed once and kept in the cache folder."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float32

from facsynth.data.write import atomic_path
from facsynth.errors import DataError, ModelError
from facsynth.folders import cache_folder
from facsynth.models.embed import TokenPooling, embed_tokenized
from facsynth.models.lm import LanguageModel, text_config
from facsynth.models.render import chat_format
from facsynth.models.residual import check_layer
from facsynth.models.tokens import TokenizedSample, tokenize_samples
from facsynth.progress import SILENT, Progress
from facsynth.records import Message, Sample
from facsynth.table.write import samples_hash

__all__ = [
    "ReadSettings",
    "Vectors",
    "as_chat",
    "check_context",
    "check_template",
    "context_tokens",
    "cut_tokens",
    "middle_layer",
    "read_vectors",
]


@dataclass(frozen=True)
class ReadSettings:
    """What is read of the model."""

    layer: int
    """0-based decoder layer whose output is read."""

    pooling: TokenPooling = "mean"
    """Mean over the words, or the last token of the rendered text."""

    max_tokens: int = 512
    """Longer texts are cut here, template included."""

    cut: Literal["end", "start"] = "end"
    """Which side of a longer text is lost."""


@dataclass(frozen=True)
class Vectors:
    """One hidden state per sample."""

    rows: Float32[np.ndarray, "n_samples d_model"]
    n_cut: int
    """Samples that were longer than `max_tokens`."""


def middle_layer(lm: LanguageModel) -> int:
    """The layer that is read when none is named; 14 of SmolLM2's 30, as its SAE reads."""
    return (lm.n_layers - 1) // 2


def context_tokens(lm: LanguageModel) -> int | None:
    """Longest sequence the model was made for, where its configuration says so."""
    limit = getattr(text_config(lm.model), "max_position_embeddings", None)
    return None if limit is None else int(limit)


def check_template(lm: LanguageModel) -> None:
    """Raise a ModelError unless the tokenizer renders conversations."""
    if not lm.tokenizer.chat_template:
        raise ModelError(
            f"{lm.name} has no chat template, and tasks read chat-rendered text; use an "
            "instruction-tuned model, or give its tokenizer a chat_template"
        )


def check_context(lm: LanguageModel, n_tokens: int, what: str) -> None:
    """Raise a DataError when a sequence is longer than the model's context."""
    limit = context_tokens(lm)
    if limit is not None and n_tokens > limit:
        raise DataError(
            f"{what} is {n_tokens} tokens long, but {lm.name} reads {limit} at most; shorten it, "
            "lower --max-tokens or use a model with a longer context"
        )


def as_chat(sample: Sample) -> Sample:
    """Plain text becomes what a user says, so that the template applies to it."""
    if sample.text is None:
        return sample
    return replace(sample, text=None, messages=(Message("user", sample.text),))


def read_vectors(
    samples: Sequence[Sample],
    lm: LanguageModel,
    settings: ReadSettings,
    *,
    progress: Progress = SILENT,
) -> Vectors:
    """Hidden states of the chat-rendered samples, from the cache where they have been read before.

    The cache (`FACSYNTH_CACHE`, folder `hidden`) is keyed by model, template, precision, settings
    and samples; it holds numbers only and may be deleted at any time.

    Raises:
        ModelError: There is no such layer or no chat template.
        DataError: A sample has no words, or `max_tokens` exceeds the context of the model.
    """
    check_template(lm)
    check_layer(lm, settings.layer)
    check_context(lm, settings.max_tokens, "--max-tokens")
    chats = [as_chat(sample) for sample in samples]
    texts = tokenize_samples(chats, lm.tokenizer, max_length=1_000_000)
    cut = [cut_tokens(text, settings.max_tokens, settings.cut) for text in texts]
    for text in cut:
        if not text.n_scored:
            raise DataError(f"sample {text.sample_id!r} has no words to read; leave it out")
    key = [lm.content_hash, lm.dtype, chat_format(lm.tokenizer), samples_hash(chats)]
    name = hashlib.sha256(json.dumps([*key, asdict(settings)]).encode()).hexdigest()[:24]
    path = cache_folder() / "hidden" / f"{name}.npy"
    if path.is_file():
        rows = np.load(path)
    else:
        rows = embed_tokenized(cut, lm, settings.layer, pooling=settings.pooling, progress=progress)
        with atomic_path(path) as temporary:
            np.save(temporary, rows)
    return Vectors(rows, sum(text.n_truncated > 0 for text in cut))


def cut_tokens(
    text: TokenizedSample, max_tokens: int, side: Literal["end", "start"]
) -> TokenizedSample:
    """The text without what is longer than `max_tokens`, lost on one side."""
    n_lost = max(0, len(text.input_ids) - max_tokens)
    kept = slice(n_lost, None) if side == "start" else slice(max_tokens)
    return replace(
        text,
        input_ids=text.input_ids[kept],
        scored=text.scored[kept],
        offsets=text.offsets[kept],
        n_truncated=n_lost,
    )
