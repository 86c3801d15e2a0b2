"""Which letter does the model answer? Prompts by the chat template, log-probabilities of letters.

The answer is read as `(A)` after the generation prompt. The token that holds the letter is found by
comparing the tokens of both answers, so it is right however the tokenizer merges characters.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from jaxtyping import Float32, Float64, Int32

from facsynth.errors import DataError, ModelError
from facsynth.models.lm import LanguageModel
from facsynth.models.prefix import ReadPrompts
from facsynth.models.residual import batch_by_length, replace_residual
from facsynth.progress import Task
from facsynth.tasks.hidden_states import check_context, check_template
from facsynth.tasks.steering.data import Item

__all__ = ["Asked", "Steer", "answer_log_probs", "ask", "letter_states"]


_BATCH_TOKENS = 4096
"""Tokens of prompts per forward pass, padding included."""


@dataclass(frozen=True)
class Asked:
    """An item as tokens, up to where the letter of the answer comes."""

    ids: Int32[np.ndarray, " n_tokens"]
    matching: int
    """Token with the letter of the matching answer."""

    other: int
    n_prompt: int
    """Tokens up to the last one of the user's words; steering begins after it."""


@dataclass(frozen=True)
class Steer:
    """What is added to the residual stream after the user's words."""

    layer: int
    vector: Float64[np.ndarray, " d_model"]


def ask(item: Item, lm: LanguageModel, *, shown: Sequence[tuple[Item, bool]] = ()) -> Asked:
    """Render and tokenise an item, after answered ones if some are `shown`.

    Raises:
        ModelError: There is no chat template, or the two letters are no single tokens.
        DataError: The template changes the question, or the prompt exceeds the context.
    """
    check_template(lm)
    turns = []
    for one, matches in shown:
        letter = one.matching if matches else one.other
        turns += [("user", one.question), ("assistant", f"({letter})")]
    turns.append(("user", item.question))
    chat = [{"role": role, "content": content} for role, content in turns]
    prompt = lm.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    start = prompt.rfind(item.question.strip())
    if start < 0:
        raise DataError(f"the chat template rewrites the question of item {item.item_id!r}")
    letters = (item.matching, item.other)
    encoded = lm.tokenizer(
        [f"{prompt}({letter})" for letter in letters],
        add_special_tokens=False,
        return_offsets_mapping=True,
    )
    first, second = (np.array(ids, dtype=np.int32) for ids in encoded["input_ids"])
    at = np.flatnonzero(first != second) if first.size == second.size else np.zeros(0, np.int64)
    if at.size != 1:
        raise ModelError(
            f"the tokenizer of {lm.name} splits the letters {' and '.join(letters)} of item "
            f"{item.item_id!r} into several tokens, so their probabilities cannot be compared"
        )
    check_context(lm, first.size, f"the prompt of item {item.item_id!r}")
    ends = np.array(encoded["offset_mapping"][0])[:, 0] >= start + len(item.question.strip())
    position = int(at[0])
    return Asked(
        first[:position], int(first[position]), int(second[position]), int(np.argmax(ends))
    )


def answer_log_probs(
    asked: Sequence[Asked],
    lm: LanguageModel,
    steers: Sequence[Steer | None] = (None,),
    *,
    batch_tokens: int = _BATCH_TOKENS,
    task: Task | None = None,
) -> Float64[np.ndarray, "n_steers n_items 2"]:
    """Log-probability of the matching and of the other letter, out of all tokens.

    A prompt up to the user's last word is read once; only what comes after it is read again for
    each vector, because only there something is added; None adds nothing.
    """
    found = np.zeros((len(steers), len(asked), 2))
    begins = [min(one.n_prompt, one.ids.size - 1) for one in asked]
    for batch in batch_by_length(begins, batch_tokens=batch_tokens):
        prompts = ReadPrompts(lm, [asked[i].ids[: begins[i]] for i in batch])
        tails = [asked[i].ids[begins[i] :] for i in batch]
        pairs = [[asked[i].matching, asked[i].other] for i in batch]
        for number, steer in enumerate(steers):
            with _steered(lm, steer):
                log_probs = prompts.last_log_probs(tails)
            for row, (i, pair) in enumerate(zip(batch, pairs, strict=True)):
                found[number, i] = log_probs[row, pair].numpy()
            if task:
                task.advance(len(batch))
    return found


def letter_states(
    asked: Sequence[Asked],
    lm: LanguageModel,
    layers: Sequence[int],
    *,
    task: Task | None = None,
) -> dict[int, Float32[np.ndarray, "n_items 2 d_model"]]:
    """Output of decoder layers at the matching and at the other letter, as if it were answered."""
    states = {k: np.zeros((len(asked), 2, lm.d_model), np.float32) for k in layers}
    for batch in batch_by_length([one.ids.size for one in asked], batch_tokens=_BATCH_TOKENS):
        prompts = ReadPrompts(lm, [asked[i].ids for i in batch], deepest=max(layers))
        for side in (0, 1):
            letters = [(asked[i].matching, asked[i].other)[side] for i in batch]
            tails = [np.array([letter], dtype=np.int32) for letter in letters]
            for layer, output in prompts.residuals(tails, layers).items():
                states[layer][batch, side] = output[:, 0].float().cpu().numpy()
        if task:
            task.advance(len(batch))
    return states


def _steered(lm: LanguageModel, steer: Steer | None) -> Any:
    if steer is None:
        return nullcontext()
    vector = torch.from_numpy(np.asarray(steer.vector, dtype=np.float32)).to(lm.device)
    return replace_residual(lm, steer.layer, lambda output: (output + vector).to(output.dtype))
