"""From samples to token ids, and which of the tokens are scored.

A token is scored when it lies inside a content (a word's token may take white space of the
template with it, as in `[INST] word`), is not a special token and is not the first of the sequence,
where residual streams have an attention sink with a far larger norm. `facsynth.models.render`
finds the contents in the rendered text.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from jaxtyping import Bool, Int32, Int64

from facsynth.errors import ModelError
from facsynth.models.render import Range, Rendered, render_sample
from facsynth.records import Sample

__all__ = ["Score", "TokenizedSample", "tokenize_samples"]

Score = Literal["all", "user", "assistant"]
"""Whose words are scored: every role's, the user's or the assistant's."""

_CHUNK = 512

_SPARE_TOKENS = 64
"""Tokens beyond the cut that two beginnings of a long text have to share."""

_CHARACTERS_PER_TOKEN = 16
"""Characters of a beginning for each token wanted; more than most tokens have."""


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
    """The text, template included, up to the last token."""

    n_truncated: int
    """Tokens that are known to be cut off at the end: of a long text, some of them."""

    left_out: tuple[str, ...] = ()
    """What of the sample the chat template does not show, such as `reasoning`."""

    @property
    def n_scored(self) -> int:
        """Number of tokens that count."""
        return int(self.scored.sum())


def tokenize_samples(
    samples: Iterable[Sample],
    tokenizer: Any,
    *,
    score: Score = "all",
    score_reasoning: bool = True,
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
        score_reasoning: Whether reasoning is, in a field of its own or in `<think>` at the head of
            an answer.
        max_length: Longer samples are cut at the end; the rest of a long text is not tokenised.

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
    how = _Scoring(score, score_reasoning, max_length)
    tokenized: list[TokenizedSample] = []
    batch: list[Sample] = []
    for sample in samples:
        batch.append(sample)
        if len(batch) == _CHUNK:
            tokenized += _tokenize_batch(batch, tokenizer, how)
            batch = []
    return tokenized + _tokenize_batch(batch, tokenizer, how)


class _Scoring(NamedTuple):
    score: Score
    score_reasoning: bool
    max_length: int

    def spans(self, sample: Sample, rendered: Rendered) -> list[Range]:
        """Ranges of the words that are scored."""
        roles = [m.role for m in sample.messages] or ["text"]
        return [
            span
            for role, spans in zip(roles, rendered.spans, strict=True)
            if self.score in ("all", role) or role == "text"
            for span in spans
        ]


def _tokenize_batch(
    samples: Sequence[Sample], tokenizer: Any, how: _Scoring
) -> list[TokenizedSample]:
    if not samples:
        return []
    rendered = [render_sample(sample, tokenizer) for sample in samples]
    texts = [one.text for one in rendered]
    encoded = _encode(texts, tokenizer, how.max_length)
    special = _special_ids(tokenizer)
    bos = tokenizer.bos_token_id
    return [
        _mark(
            sample,
            one,
            how,
            np.array(ids, dtype=np.int32),
            np.array(offsets, dtype=np.int32).reshape(-1, 2),
            special=special,
            bos=None if sample.messages and tokenizer.chat_template else bos,
        )
        for sample, one, ids, offsets in zip(
            samples, rendered, encoded["input_ids"], encoded["offset_mapping"], strict=True
        )
    ]


def _encode(texts: Sequence[str], tokenizer: Any, max_length: int) -> dict[str, list[Any]]:
    """Token ids and offsets of texts, of long ones only of the beginning.

    A tokenizer reads a whole text before it cuts: 50 MB took minutes and 7 GB for 256 tokens. Of a
    long text two beginnings are read, one twice as long as the other; their first tokens are those
    of the text when the two agree on them, with a few to spare.
    """
    wanted = max_length + _SPARE_TOKENS
    width = _CHARACTERS_PER_TOKEN * wanted
    heads = [text[:width] for text in texts]
    found = _ids_and_offsets(heads, tokenizer)
    while longer := [i for i, text in enumerate(texts) if len(heads[i]) < len(text)]:
        width *= 2
        again = _ids_and_offsets([texts[i][:width] for i in longer], tokenizer)
        for i, ids, offsets in zip(longer, *again.values(), strict=True):
            is_same = len(ids) >= wanted and found["input_ids"][i][:wanted] == ids[:wanted]
            heads[i] = texts[i] if is_same else texts[i][:width]
            found["input_ids"][i], found["offset_mapping"][i] = ids, offsets
    return found


def _ids_and_offsets(texts: Sequence[str], tokenizer: Any) -> dict[str, list[Any]]:
    encoded = tokenizer(list(texts), add_special_tokens=False, return_offsets_mapping=True)
    return {name: list(encoded[name]) for name in ("input_ids", "offset_mapping")}


def _special_ids(tokenizer: Any) -> Int64[np.ndarray, " n_special"]:
    """Ids of the named special tokens and of those that only the vocabulary calls special."""
    added = (i for i, token in tokenizer.added_tokens_decoder.items() if token.special)
    return np.array(sorted({*tokenizer.all_special_ids, *added}), dtype=np.int64)


def _mark(
    sample: Sample,
    rendered: Rendered,
    how: _Scoring,
    ids: Int32[np.ndarray, " n_tokens"],
    offsets: Int32[np.ndarray, "n_tokens 2"],
    *,
    special: Int64[np.ndarray, " n_special"],
    bos: int | None,
) -> TokenizedSample:
    if bos is not None and (not len(ids) or ids[0] != bos):
        ids = np.concatenate([np.array([bos], dtype=np.int32), ids])
        offsets = np.concatenate([np.zeros((1, 2), dtype=np.int32), offsets])
    n_truncated = max(0, len(ids) - how.max_length)
    ids, offsets, text = ids[: how.max_length], offsets[: how.max_length], rendered.text
    seen = text[: int(offsets[:, 1].max(initial=0))] if n_truncated else text
    inside = np.zeros(len(ids), dtype=bool)
    for start, end in how.spans(sample, rendered):
        inside |= _inside(offsets, text, start, end)
    for start, end in () if how.score_reasoning else rendered.reasoning:
        inside &= ~_inside(offsets, text, start, end)
    scored = inside & (offsets[:, 1] > offsets[:, 0]) & ~np.isin(ids, special)
    scored[:1] = False
    return TokenizedSample(
        sample.sample_id, ids, scored, offsets, seen, n_truncated, rendered.left_out
    )


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
