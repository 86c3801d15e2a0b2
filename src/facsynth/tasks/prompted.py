"""Scores of the untrained model: asked by a prompt, or by how likely it finds an answer."""

from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float64, Int32

from facsynth.errors import ModelError
from facsynth.models.lm import LanguageModel
from facsynth.models.precision import precision
from facsynth.models.prefix import ReadPrompts
from facsynth.models.residual import batch_by_length
from facsynth.models.tokens import tokenize_samples
from facsynth.progress import SILENT, Progress
from facsynth.records import Sample, sample_text
from facsynth.tasks.hidden_states import check_context, check_template, cut_tokens
from facsynth.tasks.settings import TuneSettings

__all__ = ["answer_likelihoods", "fork", "yes_odds"]


def fork(
    lm: LanguageModel, start: str, ends: tuple[str, str]
) -> tuple[Int32[np.ndarray, " n_tokens"], int, int]:
    """Tokens of a text up to where two continuations part, and the token of each one there.

    The tokens are found by comparing both whole texts, so they are right however the tokenizer
    merges characters.

    Raises:
        ModelError: One continuation begins with the other.
    """
    both = lm.tokenizer([start + end for end in ends], add_special_tokens=False)["input_ids"]
    first, second = both
    place = next((i for i, (a, b) in enumerate(zip(*both, strict=False)) if a != b), None)
    if not place:
        raise ModelError(f"the tokenizer of {lm.name} cannot tell {ends[0]!r} from {ends[1]!r}")
    return np.array(first[:place], dtype=np.int32), first[place], second[place]


def yes_odds(
    question: str,
    samples: Sequence[Sample],
    lm: LanguageModel,
    settings: TuneSettings,
    *,
    progress: Progress = SILENT,
) -> Float64[np.ndarray, " n_samples"]:
    """Log odds of Yes against No as the next word, when the model is asked about each sample.

    Args:
        question: The prompt, with `{text}` where the words of a sample go.
        samples: What is asked about; each is cut to `max_length` tokens before it is asked.
        lm: A model with a chat template.
        settings: `max_length` and the side of the cut.
        progress: Where the bar goes.
    """
    check_template(lm)
    asked = []
    for sample in samples:
        text = _cut_text(sample_text(sample), lm, settings)
        chat = [{"role": "user", "content": question.replace("{text}", text)}]
        start = lm.tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
        asked.append(fork(lm, start, ("Yes", "No")))
        check_context(lm, asked[-1][0].size, f"the prompt of sample {sample.sample_id!r}")
    scores = np.zeros(len(samples))
    lengths = [ids.size for ids, _, _ in asked]
    with progress.task("asking", len(samples), "texts") as task:
        for batch in batch_by_length(lengths, batch_tokens=4096):
            prompts = ReadPrompts(lm, [asked[i][0][:-1] for i in batch])
            found = prompts.last_log_probs([asked[i][0][-1:] for i in batch])
            for row, i in zip(found, batch, strict=True):
                scores[i] = float(row[asked[i][1]] - row[asked[i][2]])
            task.advance(len(batch))
    return scores


def answer_likelihoods(
    samples: Sequence[Sample],
    lm: LanguageModel,
    settings: TuneSettings,
    *,
    progress: Progress = SILENT,
) -> Float64[np.ndarray, " n_samples"]:
    """Log-likelihood of the assistant's words in each conversation, given what comes before them.

    Raises:
        ModelError: There is no chat template.
        DataError: `max_length` exceeds the context.
    """
    check_template(lm)
    check_context(lm, settings.max_length, "--max-length")
    texts = tokenize_samples(samples, lm.tokenizer, score="assistant", max_length=1_000_000)
    scores = np.zeros(len(samples))
    with progress.task("likelihoods", len(samples), "answers") as task:
        for i, text in enumerate(texts):
            cut = cut_tokens(text, settings.max_length, settings.cut)
            said = np.flatnonzero(cut.scored[1:])
            ids = torch.from_numpy(cut.input_ids.astype(np.int64)).to(lm.device)
            with torch.inference_mode(), precision(lm):
                kept = torch.from_numpy(said).to(lm.device)
                logits = lm.model(input_ids=ids[None], logits_to_keep=kept).logits[0]
            found = logits.float().log_softmax(dim=-1).gather(1, ids[kept + 1][:, None])
            scores[i] = float(found.sum())
            task.advance()
    return scores


def _cut_text(text: str, lm: LanguageModel, settings: TuneSettings) -> str:
    """The text cut to `max_length` of its own tokens."""
    encoded = lm.tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    places = encoded["offset_mapping"]
    if len(places) <= settings.max_length:
        return text
    if settings.cut == "start":
        return text[places[-settings.max_length][0] :]
    return text[: places[settings.max_length - 1][1]]
