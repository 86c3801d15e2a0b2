"""CoT-Self-Instruct (arXiv 2507.23751): think about two seed texts first, then write.

The generator gets two seed texts, is told to analyse them and to plan step by step, and only then
writes a new text of the same quality and complexity between marks (section 3.1, the prompt for
tasks whose answers cannot be checked). Texts without the marks are dropped.

Deviation: the paper filters such prompts by RIP, the lowest score of a reward model over many
answers (section 3.2). Without a reward model no such filter is applied; all arms have the
project's common filter.
"""

import re

from facsynth.baselines.job import Job, Prompt
from facsynth.records import Message

__all__ = ["write_cot_self_instruct"]

_N_SEEDS = 2
_MORE_TOKENS = 256
"""Tokens for the plan, besides those of the text."""

_NEW = re.compile(r"\[New Text Begin\](.*?)(?:\[New Text End\]|\Z)", re.DOTALL | re.IGNORECASE)


def write_cot_self_instruct(job: Job) -> None:
    """Ask for a plan and a text."""
    while n := job.n_lacking:
        number = job.next_round()
        prompts = [_prompt(job, number, i) for i in range(n)]
        longest = job.max_length + _MORE_TOKENS
        for reply in job.ask(prompts, "texts", max_tokens=longest, raw=True):
            found = _NEW.search(reply)
            if found:
                job.keep(found[1].strip())
            elif reply:
                job.lost["no text between the marks"] += 1


def _prompt(job: Job, number: int, index: int) -> Prompt:
    rng = job.rng("seeds", number, index)
    shown = rng.sample(job.seeds, min(_N_SEEDS, len(job.seeds)))
    listed = "\n".join(f"Seed {i}: {job.quote(text)}" for i, text in enumerate(shown, 1))
    asked = (
        f"You write new texts for training. Each is {job.form}. Here are examples:\n{listed}\n\n"
        "Step 1: think about what the examples have in common: their domain, structure, length and "
        "difficulty. Step 2: plan, step by step, a new text of the same quality and complexity "
        "that belongs to the same domain and copies none of them. Step 3: write the new text on "
        "the last line, in this form:\n[New Text Begin]the new text[New Text End]"
    )
    return (Message("user", asked),)
