"""The texts of the extraction benchmark: human conversations from the demo's data set."""

import json
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from facsynth.data.chitchat import chitchat_samples
from facsynth.models.tokens import TokenizedSample, tokenize_samples
from facsynth.records import Sample

__all__ = ["write_mixes"]

SHORT, LONG = 128, 512
"""Maximum length of the texts of the two mixes, in tokens; long texts have exactly this length."""


def write_mixes(tokenizer: Any, folder: Path, *, n_short: int, n_long: int) -> dict[str, str]:
    """Write both mixes, one text per line, and return their files by name.

    Short texts are single exchanges of at most 128 tokens; long texts are concatenated exchanges,
    cut at exactly 512 tokens.
    """
    drawn = chitchat_samples(3600)
    fitting = (s for s in drawn if _n_tokens(s, tokenizer) <= SHORT)
    short = list(islice(fitting, n_short))
    long = list(islice(_joined(drawn, tokenizer), n_long))
    folder.mkdir(parents=True, exist_ok=True)
    return {
        "short": _write(short, tokenizer, SHORT, folder / "short.jsonl"),
        "long": _write(long, tokenizer, LONG, folder / "long.jsonl"),
    }


def _n_tokens(sample: Sample, tokenizer: Any) -> int:
    return len(tokenize_samples([sample], tokenizer, max_length=65_535)[0].input_ids)


def _joined(drawn: Sequence[Sample], tokenizer: Any) -> Iterator[Sample]:
    exchanges = iter(drawn)
    for first in exchanges:
        sample = Sample(f"long-{first.sample_id}", first.messages)
        while _n_tokens(sample, tokenizer) < LONG:
            sample = Sample(sample.sample_id, sample.messages + next(exchanges).messages)
        [text] = tokenize_samples([sample], tokenizer, max_length=LONG)
        again = tokenizer(_cut(text), add_special_tokens=False)["input_ids"]
        if again == text.input_ids.tolist():  # skip texts in which the cut splits a word
            yield sample


def _write(samples: Sequence[Sample], tokenizer: Any, max_length: int, path: Path) -> str:
    texts = tokenize_samples(samples, tokenizer, max_length=max_length)
    rows = (_row(sample, text) for sample, text in zip(samples, texts, strict=True))
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def _row(sample: Sample, text: TokenizedSample) -> dict[str, Any]:
    return {
        "id": sample.sample_id,
        "messages": [(m.role, m.content) for m in sample.messages],
        "rendered": _cut(text),
        "scored": np.flatnonzero(text.scored).tolist(),
        "n_tokens": len(text.input_ids),
    }


def _cut(text: TokenizedSample) -> str:
    """The text of the tokens that were kept."""
    return text.rendered[: int(text.offsets[:, 1].max())]
