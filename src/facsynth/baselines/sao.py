"""SAO, Self-Alignment Optimization (arXiv 2510.06652): persona role-play and self-judged pairs.

Every text is written by the generator in the role of a persona (section 3, prompt generation). For
tasks of preference pairs it writes two answers and judges by itself which one is better
(self-judgment); the better one is the chosen answer.

Deviations: the paper draws personas from Persona-Hub; here the generator describes the person who
might have written a random seed text, so that nothing is downloaded. Pairs keep the position in
which they were judged to a random order, since models favour a position. Training is not part of a
baseline: the paper optimises SimPO.
"""

import re

from facsynth.baselines.job import Job, Prompt
from facsynth.records import Message

__all__ = ["judged_pairs", "write_sao"]

_PERSONA_TOKENS = 48
_BETTER = re.compile(r"\b([AB])\b")


def write_sao(job: Job) -> None:
    """Ask for a persona, then for its text."""
    while n := job.n_lacking:
        number = job.next_round()
        seeds = [job.rng("seed", number, i).choice(job.seeds) for i in range(n)]
        personas = job.ask(
            [_persona(job, seed) for seed in seeds], "personas", max_tokens=_PERSONA_TOKENS
        )
        known = [persona for persona in personas if persona]
        texts = job.ask([_role(job, persona) for persona in known], "texts")
        for persona, text in zip(known, texts, strict=True):
            job.keep(text, persona=persona)


def judged_pairs(job: Job, questions: list[str], max_tokens: int) -> list[tuple[str, str] | None]:
    """A better and a worse answer to each question, as the generator judges.

    Returns:
        None where an answer or the judgment is missing, or both answers are equal.
    """
    asked = [(Message("user", text),) for text in questions]
    first, second = (job.ask(asked, "answers", max_tokens=max_tokens, raw=True) for _ in range(2))
    prompts, places, swaps = list[Prompt](), list[int](), list[bool]()
    for i, (a, b) in enumerate(zip(first, second, strict=True)):
        if a and b and a != b:
            swap = job.rng("order", i).random() < 0.5
            prompts.append(_judge(job, questions[i], *((b, a) if swap else (a, b))))
            places.append(i)
            swaps.append(swap)
    verdicts = job.ask(prompts, "judgments", max_tokens=8, temperature=0.0, raw=True)
    pairs: list[tuple[str, str] | None] = [None] * len(questions)
    for i, swap, verdict in zip(places, swaps, verdicts, strict=True):
        if letter := _BETTER.search(verdict):
            is_first = (letter[1] == "A") != swap
            pairs[i] = (first[i], second[i]) if is_first else (second[i], first[i])
    return pairs


def _persona(job: Job, seed: str) -> Prompt:
    asked = (
        f"Who might have written this text?\n{job.quote(seed)}\n"
        'Describe a person of that kind in one sentence that begins with "A".'
    )
    return (Message("user", asked),)


def _role(job: Job, persona: str) -> Prompt:
    asked = (
        f"Play this role: {job.harmless(persona)}\n\nIn this role, write {job.form}. "
        "Answer with the text alone."
    )
    return (job.system(), Message("user", asked))


def _judge(job: Job, question: str, a: str, b: str) -> Prompt:
    asked = (
        f"A person wrote:\n{job.quote(question)}\n\nAnswer A:\n{job.quote(a)}\n\n"
        f"Answer B:\n{job.quote(b)}\n\nWhich answer is more helpful, correct and clear? "
        'Answer with one letter, "A" or "B".'
    )
    return (Message("user", asked),)
