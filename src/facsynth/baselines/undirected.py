"""Controls: the generator and the prompts of `fac synthesize`, without any feature.

`undirected` shows random texts of the seed, `anchor-text` random texts of the anchor. Together they
tell apart whether the feature matters, only seeing the anchor, or neither.
"""

from facsynth.baselines.job import Job, Prompt
from facsynth.synthesize.prompts import request_prompt, turns_prompt
from facsynth.words import count_words

__all__ = ["more_like", "write_anchor_text", "write_undirected"]

N_SHOWN = 4
"""Texts in a prompt, as many as `fac synthesize` shows of a feature."""


def write_undirected(job: Job) -> None:
    """Ask for one more text after random seed texts."""
    _write_after(job, job.seeds)


def write_anchor_text(job: Job) -> None:
    """Ask for one more text after random anchor texts."""
    _write_after(job, job.anchor)


def more_like(job: Job, texts: list[str]) -> Prompt:
    """The prompt of `fac synthesize` that shows texts, as its task asks."""
    ask = request_prompt if job.task.prompt == "request" else turns_prompt
    return ask([], texts, n_words=count_words(texts[-1]), form=job.form, task=job.task)


def _write_after(job: Job, texts: list[str]) -> None:
    """Show texts in a random order; none is shown again before all were."""
    order: list[str] = []
    n_shown = min(N_SHOWN, len(texts))
    while n := job.n_lacking:
        number, shown = job.next_round(), list[list[str]]()
        for i in range(n):
            if len(order) < n_shown:
                order = job.rng("order", number, i).sample(texts, len(texts))
            shown.append(order[:n_shown])
            order = order[n_shown:]
        replies = job.ask([more_like(job, some) for some in shown], "texts")
        for text, some in zip(replies, shown, strict=True):
            job.keep(text, shown=some)
