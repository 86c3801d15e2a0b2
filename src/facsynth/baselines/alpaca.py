"""Self-Instruct in the form of Alpaca (arXiv 2212.10560; Taori et al. 2023).

A prompt lists three examples and asks for more of the same list (Alpaca's prompt; Self-Instruct
shows six human and two written ones). Written texts join the pool of examples. A text whose ROUGE-L
with any text of the pool is 0.7 or more is dropped (Self-Instruct, section 3.2).

Deviations: a reply holds up to five texts instead of twenty, because replies are short; a prompt
shows two seed texts and, once there are any, one written text; and the project's common filter
takes the place of the lists of words and lengths that both drop.
"""

import re
from collections.abc import Sequence

from facsynth.baselines.job import Job, Prompt
from facsynth.records import Message
from facsynth.words import split_words

__all__ = ["MOST_ROUGE", "rouge_l", "write_alpaca"]

_N_SEEDS, _N_ASKED = 3, 5
MOST_ROUGE = 0.7
"""Texts with as much in common with a known one are dropped."""

_NUMBER = re.compile(r"^\s*(?:#+\s*)?\d+[.)]\s*", re.MULTILINE)


def write_alpaca(job: Job) -> None:
    """Ask for the continuation of numbered lists, and learn from what was kept."""
    pool = [split_words(text) for text in job.seeds]
    while n := job.n_lacking:
        number = job.next_round()
        n_prompts = -(-n // _N_ASKED)
        prompts = [_prompt(job, number, i) for i in range(n_prompts)]
        longest = job.max_length * _N_ASKED
        for reply in job.ask(prompts, "lists", max_tokens=longest, raw=True):
            for text in _NUMBER.split(reply)[: _N_ASKED + 1]:
                words = split_words(text)
                if not words or not job.n_room:
                    continue
                if max(rouge_l(words, known) for known in pool) >= MOST_ROUGE:
                    job.lost["like a known text (ROUGE-L)"] += 1
                elif job.keep(" ".join(text.split())):
                    pool.append(words)


def rouge_l(one: Sequence[str], other: Sequence[str]) -> float:
    """F-measure of the longest common subsequence of two lists of words, in [0, 1].

    >>> rouge_l(["a", "b", "c"], ["a", "c", "d"])
    0.6666666666666666
    """
    row = [0] * (len(other) + 1)
    for word in one:
        before = 0
        for i, known in enumerate(other, start=1):
            before, row[i] = row[i], before + 1 if word == known else max(row[i], row[i - 1])
    return 2 * row[-1] / (len(one) + len(other)) if one and other else 0.0


def _prompt(job: Job, number: int, index: int) -> Prompt:
    rng = job.rng("examples", number, index)
    n_seeds = _N_SEEDS - bool(job.kept)
    shown = rng.sample(job.seeds, min(n_seeds, len(job.seeds)))
    if job.kept:
        shown.append(rng.choice(job.kept).candidate.written)
    listed = "\n".join(f"{i}. {' '.join(job.harmless(t).split())}" for i, t in enumerate(shown, 1))
    first, last = len(shown) + 1, len(shown) + _N_ASKED
    asked = (
        f"Here is a numbered list. Each entry is {job.form}. Continue it with entries {first} to "
        f"{last}. Entries differ from each other in topic and in words.\n\n{listed}\n{first}."
    )
    return (job.system(), Message("user", asked))
