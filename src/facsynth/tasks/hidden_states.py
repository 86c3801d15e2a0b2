"""Hidden states and tokens of samples, read through the chat template and cut to a length."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from jaxtyping import Float32

from facsynth.errors import DataError, ModelError
from facsynth.folders import atomic_path, cache_folder
from facsynth.models.embed import embed_tokenized
from facsynth.models.lm import LanguageModel, check_layer, text_config
from facsynth.models.precision import precision
from facsynth.models.render import chat_format
from facsynth.models.residual import batch_by_length
from facsynth.models.tokens import TokenizedSample, tokenize_samples
from facsynth.progress import SILENT, Progress
from facsynth.records import Message, Sample
from facsynth.table.write import samples_hash
from facsynth.tasks.settings import TuneSettings

__all__ = [
    "Vectors",
    "check_context",
    "check_template",
    "cut_tokens",
    "read_vectors",
    "tokenize_chats",
]


@dataclass(frozen=True)
class Vectors:
    """One hidden state per sample."""

    rows: Float32[np.ndarray, "n_samples d_model"]
    n_cut: int
    """Samples that were longer than `max_length`."""


def check_template(lm: LanguageModel) -> None:
    """Raise a ModelError unless the tokenizer renders conversations."""
    if not lm.tokenizer.chat_template:
        raise ModelError(
            f"{lm.name} has no chat template, and tasks read chat-rendered text; use an "
            "instruction-tuned model, or give its tokenizer a chat_template"
        )


def check_context(lm: LanguageModel, n_tokens: int, what: str) -> None:
    """Raise a DataError when a sequence is longer than the model's context."""
    limit = getattr(text_config(lm.model), "max_position_embeddings", None)
    if limit is not None and n_tokens > limit:
        raise DataError(
            f"{what} is {n_tokens} tokens long, but {lm.name} reads at most {limit}; shorten it, "
            "lower --max-length or use a model with a longer context"
        )


def tokenize_chats(
    samples: Sequence[Sample], lm: LanguageModel, settings: TuneSettings
) -> list[TokenizedSample]:
    """The chat-rendered samples as tokens, cut to `max_length`.

    A plain text becomes the message of a user, so that the template applies to it.

    Raises:
        ModelError: There is no chat template.
        DataError: A sample has no words, or `max_length` exceeds the context of the model.
    """
    check_template(lm)
    check_context(lm, settings.max_length, "--max-length")
    texts = tokenize_samples(map(_as_chat, samples), lm.tokenizer, max_length=1_000_000)
    cut = [cut_tokens(text, settings.max_length, settings.cut) for text in texts]
    for text in cut:
        if not text.n_scored:
            raise DataError(f"sample {text.sample_id!r} has no words to read; leave it out")
    return cut


def read_vectors(
    samples: Sequence[Sample],
    lm: LanguageModel,
    settings: TuneSettings,
    *,
    progress: Progress = SILENT,
) -> Vectors:
    """Hidden states of the chat-rendered samples, from the cache where they were read before.

    The cache (`FACSYNTH_CACHE`, folder `hidden`) is keyed by model, template, precision, settings
    and samples; it holds numbers only and may be deleted at any time.

    Raises:
        ModelError: There is no such layer or no chat template.
        DataError: A sample has no words, or `max_length` exceeds the context of the model.
    """
    # Without a layer the middle one: 14 of SmolLM2's 30, which its SAE reads too.
    layer = (lm.n_layers - 1) // 2 if settings.head.layer is None else settings.head.layer
    check_layer(lm, layer)
    texts = tokenize_chats(samples, lm, settings)
    pooling, final = settings.head.pooling, settings.head.recipe == "paper"
    key = [lm.content_hash, lm.dtype, chat_format(lm.tokenizer), samples_hash(samples)]
    key += ["final"] if final else [str(layer), pooling]
    key += [str(settings.max_length), settings.cut]
    name = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:24]
    path = cache_folder() / "hidden" / f"{name}.npy"
    if path.is_file():
        rows = np.load(path)
    else:
        if final:
            rows = _final_states(texts, lm, progress)
        else:
            rows = embed_tokenized(texts, lm, layer, pooling=pooling, progress=progress)
        with atomic_path(path) as temporary:
            np.save(temporary, rows)
    return Vectors(rows, sum(text.n_truncated > 0 for text in texts))


def cut_tokens(
    text: TokenizedSample, max_length: int, side: Literal["end", "start"]
) -> TokenizedSample:
    """The text cut on one side to `max_length` tokens."""
    n_lost = max(0, len(text.input_ids) - max_length)
    kept = slice(n_lost, None) if side == "start" else slice(max_length)
    return replace(
        text,
        input_ids=text.input_ids[kept],
        scored=text.scored[kept],
        offsets=text.offsets[kept],
        n_truncated=n_lost,
    )


def _final_states(
    texts: Sequence[TokenizedSample], lm: LanguageModel, progress: Progress
) -> Float32[np.ndarray, "n_samples d_model"]:
    """State of each text's last token after the final norm, which a classifier's head reads."""
    import torch

    rows = np.zeros((len(texts), lm.d_model), dtype=np.float32)
    lengths = [len(text.input_ids) for text in texts]
    with progress.task("embedding", len(texts), "samples") as task:
        for batch in batch_by_length(lengths, batch_tokens=2048):
            ids = torch.zeros((len(batch), max(lengths[i] for i in batch)), dtype=torch.long)
            for row, i in zip(ids, batch, strict=True):
                row[: lengths[i]] = torch.from_numpy(texts[i].input_ids)
            with torch.inference_mode(), precision(lm):  # causal: padding behind changes nothing
                states = lm.model.base_model(ids.to(lm.device)).last_hidden_state
            last = states[range(len(batch)), [lengths[i] - 1 for i in batch]]
            rows[batch] = last.float().cpu().numpy()
            task.advance(len(batch))
    return rows


def _as_chat(sample: Sample) -> Sample:
    if sample.text is None:
        return sample
    return replace(sample, text=None, messages=(Message("user", sample.text),))
