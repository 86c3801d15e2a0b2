"""Conversations as an instruction model reads them, and which of their tokens are answers.

The answers are found by the rule that extraction uses for `--score assistant`, which needs no
marks in the chat template. The special token behind an answer belongs to it: without it a model
would never learn to stop.
"""

import copy
from collections.abc import Sequence
from typing import Any

import numpy as np

from facsynth.errors import DataError
from facsynth.models.lm import LanguageModel
from facsynth.models.tokens import TokenizedSample, tokenize_samples
from facsynth.records import Sample
from facsynth.tasks.tuning import TuneSettings
from facsynth.tasks.vectors import check_context, cut_tokens

__all__ = ["ALPACA", "IGNORED", "answer_rows", "chat_tokenizer"]

IGNORED = -100
"""Label of a token that the loss leaves out."""

ALPACA = (
    "{{ bos_token if bos_token is defined and bos_token else '' }}"
    "{% if messages[0].role == 'system' %}{{ messages[0].content }}{% else %}"
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.{% endif %}{{ '\n\n' }}"
    "{% for m in messages %}"
    "{% if m.role == 'user' %}### Instruction:\n{{ m.content }}\n\n### Response:\n"
    "{% elif m.role == 'assistant' %}{{ m.content }}{{ eos_token }}\n\n{% endif %}"
    "{% endfor %}"
)
"""LLaMA-Factory's template `alpaca`, which the paper trains a base model with."""


def chat_tokenizer(tokenizer: Any) -> tuple[Any, str]:
    """A tokenizer with a chat template, and whose it is: `model` or `alpaca`.

    Raises:
        DataError: There is no template and no token that ends an answer.
    """
    if tokenizer.chat_template:
        return tokenizer, "model"
    if tokenizer.eos_token is None:
        raise DataError("the tokenizer has no chat template and no end token; set eos_token")
    own = copy.deepcopy(tokenizer)
    own.chat_template = ALPACA
    return own, "alpaca"


def answer_rows(
    samples: Sequence[Sample], lm: LanguageModel, tokenizer: Any, settings: TuneSettings
) -> tuple[list[dict[str, list[int]]], int]:
    """`input_ids` and `labels` of each conversation, and how many conversations were cut.

    Raises:
        DataError: A conversation has no answer, or none within `max_tokens`.
    """
    check_context(lm, settings.max_tokens, "--max-tokens")
    for sample in samples:
        if not any(message.role == "assistant" for message in sample.messages):
            raise DataError(
                f"sample {sample.sample_id!r} has no assistant message, so there is nothing to "
                "learn from it; leave it out, or give its answer"
            )
    texts = tokenize_samples(samples, tokenizer, score="assistant", max_length=1_000_000)
    special = {*tokenizer.all_special_ids}
    special |= {i for i, token in tokenizer.added_tokens_decoder.items() if token.special}
    rows = [_row(cut_tokens(t, settings.max_tokens, settings.cut), special) for t in texts]
    for text, row in zip(texts, rows, strict=True):
        if set(row["labels"]) == {IGNORED}:
            raise DataError(
                f"no answer of sample {text.sample_id!r} lies within its first "
                f"{settings.max_tokens} tokens (it has {len(text.input_ids)}); raise --max-tokens "
                "or leave it out"
            )
    return rows, sum(len(text.input_ids) > settings.max_tokens for text in texts)


def _row(text: TokenizedSample, special: set[int]) -> dict[str, list[int]]:
    told = text.scored.copy()
    ends = np.isin(text.input_ids[1:], sorted(special)) & text.scored[:-1]
    told[1:] |= ends
    labels = np.where(told, text.input_ids, IGNORED)
    return {"input_ids": text.input_ids.tolist(), "labels": labels.tolist()}
