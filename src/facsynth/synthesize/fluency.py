"""Whether a text reads like one: how well the model of the features expects its words.

An endpoint may answer with words in no order, and these activate features like any other text. A
language model expects them far less than those of a written text, and not much more than the same
words in another order. Both depend on the domain, so the anchor's own texts are the measure:

    disorder(text) = 2 L(text) - L(its words in random order)

with L the mean of -ln p(token | tokens before). Rare words raise both terms, order only the first.
On short questions, chat messages and instructions, a limit that 2 % of real texts exceed is
exceeded by 88 to 100 % of texts of random words (docs/log.md); L alone finds 72 % of the former.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float64
from torch.nn import functional as F  # noqa: N812

from facsynth.models.lm import LanguageModel
from facsynth.models.precision import precision
from facsynth.models.residual import batch_by_length
from facsynth.models.tokens import TokenizedSample, tokenize_samples
from facsynth.records import Sample

__all__ = ["Fluency", "disorder", "mean_surprise"]

_N_CALIBRATED = 200
"""Anchor texts that set the limit."""

_MOST_TOKENS = 256
"""Of longer texts the beginning is read."""

_BATCH_VALUES = 2**25
"""Logits of one forward pass, at most, except of a single long text: 128 MB."""


@dataclass(frozen=True)
class Fluency:
    """The most disorder that a text may have."""

    limit: float
    """In nats."""

    lm: LanguageModel

    @classmethod
    def of(cls, texts: Sequence[str], lm: LanguageModel, share: float) -> "Fluency | None":
        """The limit that a share of these texts exceeds, measured on 200 of them.

        Args:
            texts: The anchor's.
            lm: The model that the features come from.
            share: In [0, 1).

        Returns:
            None where the share is 0, or so small that fewer than one of the texts would exceed it.
        """
        if share * len(texts) < 1:
            return None
        chosen = random.Random(0).sample(list(texts), min(len(texts), _N_CALIBRATED))
        return cls(float(np.nanquantile(disorder(chosen, lm), 1 - share)), lm)

    def exceeds(self, texts: Sequence[str]) -> list[bool]:
        """Of each text whether it has more disorder; a text without a scored token has none."""
        return [bool(value > self.limit) for value in disorder(texts, self.lm)]


def disorder(texts: Sequence[str], lm: LanguageModel) -> Float64[np.ndarray, " n_texts"]:
    """How little the order of words helps the model to expect them, in nats a token; see above.

    Args:
        texts: What to read; NaN for a text without a scored token.
        lm: The model.
    """
    if not texts:
        return np.zeros(0)
    both = [*texts, *map(_shuffled, texts)]
    samples = [Sample(str(i), text=text) for i, text in enumerate(both)]
    values = mean_surprise(tokenize_samples(samples, lm.tokenizer, max_length=_MOST_TOKENS), lm)
    here, shuffled = values[: len(texts)], values[len(texts) :]
    return np.asarray(2 * here - shuffled)


def mean_surprise(
    texts: Sequence[TokenizedSample], lm: LanguageModel
) -> Float64[np.ndarray, " n_texts"]:
    """Mean of -ln p(token | tokens before) over the scored tokens, in nats.

    Args:
        texts: What to read; NaN for a text without a scored token.
        lm: The model, all of whose layers run.
    """
    found = np.full(len(texts), np.nan)
    lengths = [text.input_ids.size for text in texts]
    room = max(1, _BATCH_VALUES // int(lm.model.get_input_embeddings().num_embeddings))
    for batch in batch_by_length(lengths, batch_tokens=room):
        ids = torch.zeros((len(batch), max(lengths[i] for i in batch)), dtype=torch.long)
        for row, i in enumerate(batch):
            ids[row, : lengths[i]] = torch.from_numpy(texts[i].input_ids)
        ids = ids.to(lm.device)
        # Padding is on the right, where a causal model cannot see it.
        with torch.inference_mode(), precision(lm):
            logits = lm.model(input_ids=ids, use_cache=False).logits[:, :-1]
            losses = F.cross_entropy(logits.float().mT, ids[:, 1:], reduction="none")
        values = losses.double().cpu().numpy()
        for row, i in enumerate(batch):
            scored = np.flatnonzero(texts[i].scored)
            if scored.size:
                found[i] = values[row, scored - 1].mean()
    return found


def _shuffled(text: str) -> str:
    """The words in an order that only the text decides; characters where there are no words."""
    words, between = text.split(), " "
    if len(words) < 3:
        words, between = list(text), ""
    random.Random(text).shuffle(words)
    return between.join(words)
