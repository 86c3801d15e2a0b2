"""Controls: the same generator in the same turns, without any feature.

`undirected` shows it seed examples alone. `anchor-text` shows it one random text of the anchor, as
`fac synthesize` does for a missing feature: it tells apart whether the feature matters, or only
seeing the anchor. What a method claims shows only against both.
"""

from facsynth.baselines.job import Job, Prompt
from facsynth.records import Message

__all__ = ["turns", "write_anchor_text", "write_undirected"]

_N_SEEDS = 3
"""Seed texts in a prompt."""


def write_undirected(job: Job) -> None:
    """Ask for one more text after three random seed texts."""
    _write_after(job, job.seeds, _N_SEEDS, "Another one.")


def write_anchor_text(job: Job) -> None:
    """Ask for one more text on the theme of a random anchor text."""
    _write_after(job, job.anchor, 1, "Another one, on the same theme.")


def turns(job: Job, texts: list[str], again: str) -> Prompt:
    """A prompt in which texts appear as the generator's own earlier answers."""
    answers = [job.harmless(text) for text in texts]
    shown = [part for t in answers for part in (Message("assistant", t), Message("user", again))]
    return (job.system(), Message("user", f"Write {job.form}."), *shown)


def _write_after(job: Job, texts: list[str], n_shown: int, again: str) -> None:
    """Show texts in a random order; none is shown again before all were."""
    order: list[str] = []
    while n := job.n_lacking:
        number, shown = job.next_round(), list[list[str]]()
        for i in range(n):
            if len(order) < n_shown:
                order = job.rng("order", number, i).sample(texts, len(texts))
            shown.append(order[:n_shown])
            order = order[n_shown:]
        replies = job.ask([turns(job, some, again) for some in shown], "texts")
        for text, some in zip(replies, shown, strict=True):
            job.keep(text, shown=some)
