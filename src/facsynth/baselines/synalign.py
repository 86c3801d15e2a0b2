"""SynAlign (arXiv 2502.08661): explore, describe attributes, write by them, match the distribution.

1. Exploration-aware sampling (section 3.2): demonstrations are the real texts about which a
   Gaussian process that has seen the earlier ones is least certain.
2. Latent attributes (section 3.3): the generator names the linguistic attributes of
   demonstrations, and then writes new texts that have them.
3. Distribution alignment (section 3.4): more texts are written than wanted, and those are kept
   whose distribution has the smallest maximum mean discrepancy (MMD) to the real texts.

Deviations: real texts are those of the anchor without labels, or the seed's; vectors are mean
hidden states of the model that reads the features, not Sentence-BERT's; and a greedy choice under
the MMD (kernel herding) takes the place of learned sampling weights, since a fixed number is kept.
"""

import numpy as np
from jaxtyping import Float64

from facsynth.baselines.job import Job, Prompt
from facsynth.records import Message

__all__ = ["herd", "most_uncertain", "write_synalign"]

_N_SHOWN = 4
_N_WRITTEN = 4
"""Texts asked for with one list of attributes."""

_OVER = 1.5
"""Texts written for one that is kept."""

_MOST_REAL = 1000
_ATTRIBUTE_TOKENS = 96


def write_synalign(job: Job) -> None:
    """Write by attributes of diverse demonstrations, then keep what matches the real texts."""
    real = job.rng("real").sample(job.anchor, min(_MOST_REAL, len(job.anchor)))
    vectors = job.vectors("hidden", real)
    scale = vectors.std(axis=0) + 1e-6
    gram = kernel(vectors / scale, vectors / scale)
    wanted = int(_OVER * job.n_lacking)
    order, texts, facts = list[int](), list[str](), list[str]()
    while (n := wanted - len(texts)) > 0 and job.n_lacking:
        job.next_round()
        groups = [_next_group(gram, order, len(real)) for _ in range(-(-n // _N_WRITTEN))]
        shown = [[real[i] for i in group] for group in groups]
        attributes = job.ask(
            [_describe(job, some) for some in shown],
            "attributes",
            max_tokens=_ATTRIBUTE_TOKENS,
            raw=True,
        )
        known = [one for one in attributes if one for _ in range(_N_WRITTEN)]
        replies = job.ask([_by_attributes(job, one) for one in known], "texts")
        for text, about in zip(replies, known, strict=True):
            if text and text not in texts:
                texts.append(text)
                facts.append(" ".join(about.split()))
    if not texts:
        return
    rows = job.vectors("hidden", texts) / scale
    for i in herd(kernel(rows, rows), kernel(rows, vectors / scale).mean(axis=1)):
        job.keep(texts[i], attributes=facts[i])


def most_uncertain(gram: Float64[np.ndarray, "n n"], seen: list[int]) -> int:
    """The row with the largest posterior variance of a Gaussian process that has seen some rows.

    Args:
        gram: Kernel between all rows.
        seen: Rows that were observed; those are never chosen.
    """
    variance = gram.diagonal().copy()
    if seen:
        block = gram[np.ix_(seen, seen)] + 1e-3 * np.eye(len(seen))
        across = gram[seen]
        variance -= (across * np.linalg.solve(block, across)).sum(axis=0)
        variance[seen] = -np.inf
    return int(variance.argmax())


def herd(gram: Float64[np.ndarray, "n n"], to_real: Float64[np.ndarray, " n"]) -> list[int]:
    """All rows in an order whose beginnings have small MMD to the real rows (kernel herding).

    Pick t maximises k̄(x) - Σ k(x, picked) / t, k̄(x) the mean kernel to the real rows.
    """
    chosen, sums = list[int](), np.zeros(len(gram))
    free = np.ones(len(gram), dtype=np.bool_)
    while free.any():
        gain = np.where(free, to_real - sums / (len(chosen) + 1), -np.inf)
        chosen.append(int(gain.argmax()))
        free[chosen[-1]] = False
        sums += gram[chosen[-1]]
    return chosen


def kernel(
    one: Float64[np.ndarray, "n d"], other: Float64[np.ndarray, "m d"]
) -> Float64[np.ndarray, "n m"]:
    """Gaussian kernel whose width is the square root of the number of dimensions."""
    squares = (one**2).sum(axis=1)[:, None] + (other**2).sum(axis=1) - 2.0 * one @ other.T
    found: Float64[np.ndarray, "n m"] = np.exp(-np.maximum(squares, 0.0) / (2.0 * one.shape[1]))
    return found


def _next_group(gram: Float64[np.ndarray, "n n"], order: list[int], n: int) -> list[int]:
    """The next demonstrations; when all real texts were shown they begin anew."""
    group = list[int]()
    while len(group) < min(_N_SHOWN, n):
        if len(order) >= min(n, 200):  # the process forgets, or it would become slow
            order.clear()
        order.append(most_uncertain(gram, order))
        group.append(order[-1])
    return group


def _describe(job: Job, texts: list[str]) -> Prompt:
    listed = "\n".join(job.quote(text) for text in texts)
    asked = (
        f"Look at these texts:\n{listed}\n\nName their attributes in one short line each: topic, "
        "tone, style, length, sentence form, what is special. Do not repeat the texts."
    )
    return (Message("user", asked),)


def _by_attributes(job: Job, attributes: str) -> Prompt:
    asked = (
        f"Write {job.form}. It has these attributes:\n{job.harmless(attributes)}\n\n"
        "Answer with the text alone."
    )
    return (job.system(), Message("user", asked))
