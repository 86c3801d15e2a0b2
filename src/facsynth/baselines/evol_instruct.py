"""Evol-Instruct (WizardLM, arXiv 2304.12244, section 3).

Every text of the pool is rewritten by one of six operations drawn at random: five in depth (add a
constraint, deepen, make concrete, ask for more steps, complicate the input) and one in breadth (a
rarer text of the same domain). A rewritten text that fails the elimination (section 3.2: it is
equal to its source in the eyes of the model, says "sorry", has no words, or repeats words of the
instruction) is dropped and its source stays in the pool; one that passes takes its place and joins
the data set. Rounds are the paper's epochs.

Deviations: the project's common filter decides on copies, loops and refusals; the generator itself
judges equality; "complicate the input" asks for details instead of tables and code, because texts
of any task are rewritten.
"""

import re

from facsynth.baselines.job import Job, Prompt
from facsynth.records import Message

__all__ = ["OPERATIONS", "write_evol_instruct"]

OPERATIONS = {
    "constraint": "Add one more constraint or requirement to it.",
    "deepen": "Where it asks or tells about something, go deeper and broader.",
    "concrete": "Replace general ideas by more specific ones.",
    "steps": "If it can be dealt with in a few simple steps of thinking, make it need several.",
    "input": "Add details that have to be taken into account.",
    "breadth": "Write a new text instead, of the same domain but rarer, as long and difficult.",
}
"""What the generator is to do to a text."""

_MOST_ADDED = 15
"""Words that a rewriting may add (the paper allows 10 to 20)."""

_LEAK = re.compile(r"#?(?:given|rewritten|created)[ _](?:prompt|text)#?", re.IGNORECASE)
_SORRY = re.compile(r"\bsorry\b", re.IGNORECASE)


def write_evol_instruct(job: Job) -> None:
    """Rewrite the pool again and again; keep what passes the elimination."""
    pool = list(job.seeds)
    while n := job.n_lacking:
        number = job.next_round()
        order = job.rng("order", number).sample(range(len(pool)), min(n, len(pool)))
        words = [job.rng("operation", number, i).choice(list(OPERATIONS)) for i in order]
        prompts = [_evolve(job, pool[i], word) for i, word in zip(order, words, strict=True)]
        texts = job.ask(prompts, "rewritten texts")
        verdicts = iter(
            job.ask(
                [_compare(job, pool[i], t) for i, t in zip(order, texts, strict=True) if t],
                "verdicts",
                max_tokens=8,
                temperature=0.0,
                raw=True,
            )
        )
        for i, text, word in zip(order, texts, words, strict=True):
            if not text:
                continue
            if reason := _eliminated(text, next(verdicts)):
                job.lost[reason] += 1
            elif job.keep(text, operation=word, source=pool[i]):
                pool[i] = text


def _eliminated(text: str, verdict: str) -> str:
    """Why a rewritten text is dropped; empty for a good one."""
    if verdict.strip().lower().startswith("equal"):
        return "no gain over its source"
    if _SORRY.search(text):
        return "sorry"
    return "words of the instruction" if _LEAK.search(text) else ""


def _evolve(job: Job, text: str, word: str) -> Prompt:
    rule = (
        ""
        if word == "breadth"
        else f" Keep it understandable, and add at most {_MOST_ADDED} words."
    )
    asked = (
        f"Rewrite the text below into a more complex version. It is {job.form}, and so is your "
        f"version. {OPERATIONS[word]}{rule}\n\n{job.quote(text)}\n\n"
        "Answer with the new text alone."
    )
    return (job.system(), Message("user", asked))


def _compare(job: Job, source: str, text: str) -> Prompt:
    asked = (
        "Do these two texts have the same constraints and requirements, and the same depth and "
        f"breadth?\nFirst: {job.quote(source)}\nSecond: {job.quote(text)}\n"
        'Answer with one word, "Equal" or "Different".'
    )
    return (Message("user", asked),)
