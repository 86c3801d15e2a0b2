"""From samples to token ids, and which of the tokens are scored.

A token is scored when it lies inside a content (a word's token may take white space of the
template with it, as in `[INST] word`), is no special token and is not the first of the sequence:
there, residual streams carry an attention sink with a norm far off the others'. Where contents
stand in the rendered text, `facsynth.models.render` finds out.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from jaxtyping import Bool, Int32, Int64

from facsynth.errors import ModelError
from facsynth.models.render import Range, render_sample
from facsynth.records import Sample

__all__ = ["Score", "TokenizedSample", "tokenize_samples"]

Score = Literal["all", "user", "assistant"]
"""Whose words are scored: every role's, the user's or the assistant's."""

_CHUNK = 512


@dataclass(frozen=True)
class TokenizedSample:
    """One sample as the language model reads it."""

    sample_id: str

    input_ids: Int32[np.ndarray, " n_tokens"]
    """Token ids, template and special tokens included."""

    scored: Bool[np.ndarray, " n_tokens"]
    """Which of the tokens count."""

    offsets: Int32[np.ndarray, "n_tokens 2"]
    """Start and end of each token in `rendered`, in characters; (0, 0) for an added one."""

    rendered: str
    """The text that was tokenised, template included."""

    n_truncated: int
    """Tokens that were cut off at the end."""

    @property
    def n_scored(self) -> int:
        """Number of tokens that count."""
        return int(self.scored.sum())


def tokenize_samples(
    samples: Iterable[Sample],
    tokenizer: Any,
    *,
    score: Score = "all",
    max_length: int = 1024,
) -> list[TokenizedSample]:
    """Tokenise samples and mark the scored tokens.

    Conversations go through the tokenizer's own chat template (without a generation prompt); a
    tokenizer without one gets the contents joined by blank lines. What went through no template
    starts with the beginning-of-sequence token where the tokenizer has one.

    Args:
        samples: Conversations, plain texts or preference pairs (their chosen side).
        tokenizer: A fast Hugging Face tokenizer.
        score: Whose words are scored; plain text has no roles and always counts.
        max_length: Longer samples are cut at the end; `n_truncated` says by how much.

    Raises:
        ModelError: The tokenizer reports no character offsets, or `score` is unknown.
        DataError: The chat template refuses a conversation or changes its content.
    """
    if score not in get_args(Score):
        raise ModelError(f"unknown --score {score!r}; choose one of {', '.join(get_args(Score))}")
    if not tokenizer.is_fast:
        raise ModelError(
            f"{type(tokenizer).__name__} reports no character offsets, which are needed to tell "
            "content from template; use a model with a fast tokenizer (tokenizer.json)"
        )
    tokenized: list[TokenizedSample] = []
    batch: list[Sample] = []
    for sample in samples:
        batch.append(sample)
        if len(batch) == _CHUNK:
            tokenized += _tokenize_batch(batch, tokenizer, score, max_length)
            batch = []
    return tokenized + _tokenize_batch(batch, tokenizer, score, max_length)


def _tokenize_batch(
    samples: Sequence[Sample], tokenizer: Any, score: Score, max_length: int
) -> list[TokenizedSample]:
    if not samples:
        return []
    rendered, spans = zip(*(_render(s, tokenizer, score) for s in samples), strict=True)
    encoded = tokenizer(list(rendered), add_special_tokens=False, return_offsets_mapping=True)
    special = _special_ids(tokenizer)
    bos = tokenizer.bos_token_id
    return [
        _mark(
            sample,
            text,
            content,
            np.array(ids, dtype=np.int32),
            np.array(offsets, dtype=np.int32).reshape(-1, 2),
            special=special,
            bos=None if sample.messages and tokenizer.chat_template else bos,
            max_length=max_length,
        )
        for sample, text, content, ids, offsets in zip(
            samples,
            rendered,
            spans,
            encoded["input_ids"],
            encoded["offset_mapping"],
            strict=True,
        )
    ]


def _special_ids(tokenizer: Any) -> Int64[np.ndarray, " n_special"]:
    """Ids of the named special tokens and of those that only the vocabulary calls special."""
    added = (i for i, token in tokenizer.added_tokens_decoder.items() if token.special)
    return np.array(sorted({*tokenizer.all_special_ids, *added}), dtype=np.int64)


def _mark(
    sample: Sample,
    rendered: str,
    spans: Sequence[tuple[int, int]],
    ids: Int32[np.ndarray, " n_tokens"],
    offsets: Int32[np.ndarray, "n_tokens 2"],
    *,
    special: Int64[np.ndarray, " n_special"],
    bos: int | None,
    max_length: int,
) -> TokenizedSample:
    if bos is not None and (not len(ids) or ids[0] != bos):
        ids = np.concatenate([np.array([bos], dtype=np.int32), ids])
        offsets = np.concatenate([np.zeros((1, 2), dtype=np.int32), offsets])
    n_truncated = max(0, len(ids) - max_length)
    ids, offsets = ids[:max_length], offsets[:max_length]
    inside = np.zeros(len(ids), dtype=bool)
    for start, end in spans:
        inside |= _inside(offsets, rendered, start, end)
    scored = inside & (offsets[:, 1] > offsets[:, 0]) & ~np.isin(ids, special)
    scored[:1] = False
    return TokenizedSample(sample.sample_id, ids, scored, offsets, rendered, n_truncated)


def _inside(
    offsets: Int32[np.ndarray, "n_tokens 2"], rendered: str, start: int, end: int
) -> Bool[np.ndarray, " n_tokens"]:
    """Tokens of a content; also a word's token that takes white space of the template with it."""
    inside = (offsets[:, 0] >= start) & (offsets[:, 1] <= end)
    words = rendered[start:end].strip()
    if not words:
        return inside
    first = start + rendered[start:end].index(words)
    holds_words = (offsets[:, 1] > first) & (offsets[:, 0] < first + len(words))
    lowest = len(rendered[:start].rstrip())
    highest = len(rendered) - len(rendered[end:].lstrip())
    return inside | (holds_words & (offsets[:, 0] >= lowest) & (offsets[:, 1] <= highest))


def _render(sample: Sample, tokenizer: Any, score: Score) -> tuple[str, list[Range]]:
    """Text of a sample and the character ranges of the contents that are scored."""
    rendered = render_sample(sample, tokenizer)
    roles = [m.role for m in sample.messages] or ["text"]
    wanted = [
        span
        for role, spans in zip(roles, rendered.spans, strict=True)
        if score in ("all", role) or role == "text"
        for span in spans
    ]
    return rendered.text, wanted
