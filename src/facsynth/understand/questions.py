"""Questions to an LLM that test an explanation: which texts fit, and which marks?"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from facsynth.chat.ask import ask
from facsynth.chat.model import ChatFailure, ChatModel, ChatRequest
from facsynth.progress import Progress
from facsynth.understand.evidence import Evidence
from facsynth.understand.fidelity import Item, fidelity_of
from facsynth.understand.prompts import MatchReply, detection_request, fuzzing_request
from facsynth.understand.settings import ExplainSettings

__all__ = ["Question", "answer_questions", "questions_about"]


@dataclass(frozen=True)
class Question:
    """Which of these items fit an explanation?"""

    text: str
    """The explanation."""

    items: Sequence[Item]
    kind: Literal["detection", "fuzzing"]

    def calls(self, settings: ExplainSettings) -> list[tuple[ChatRequest, list[int]]]:
        """The calls that ask it, with the positions of the items in each; order is shuffled."""
        ask = detection_request if self.kind == "detection" else fuzzing_request
        n, step = len(self.items), settings.texts_per_call
        order = np.random.default_rng([settings.random_seed, n]).permutation(n).tolist()
        parts = [order[start : start + step] for start in range(0, n, step)]
        return [(ask(self.text, [self.items[i].span for i in part]), part) for part in parts]


def questions_about(text: str, evidence: Evidence) -> list[Question]:
    """The questions of `fidelity_of` about an explanation, in the order in which it asks them."""
    questions: list[Question] = []

    def note(
        kind: Literal["detection", "fuzzing"],
    ) -> Callable[[Sequence[Item]], list[bool | None]]:
        def ask(items: Sequence[Item]) -> list[bool | None]:
            questions.append(Question(text, items, kind))
            return [None] * len(items)

        return ask

    fidelity_of(evidence, note("detection"), note("fuzzing"))
    return questions


def answer_questions(
    chat: ChatModel, questions: Sequence[Question], settings: ExplainSettings, progress: Progress
) -> list[list[bool | None]]:
    """Answers to every question about every item; None where a call failed.

    Raises:
        ChatError: More replies are unusable than the policy of the model allows.
        BudgetError: The next call would go over a limit.
    """
    plan = [
        (number, request, positions)
        for number, question in enumerate(questions)
        for request, positions in question.calls(settings)
    ]

    def complaint(call: int, reply: MatchReply) -> str:
        is_known = set(reply.matches) <= {*range(1, len(plan[call][2]) + 1)}
        return "" if is_known else "the reply names a text that is not there"

    replies = ask(
        chat,
        [request for _, request, _ in plan],
        what="judgements",
        schema=MatchReply,
        complaint=complaint,
        progress=progress,
    ).complete()
    answers: list[list[bool | None]] = [[None] * len(question.items) for question in questions]
    for (number, _, positions), reply in zip(plan, replies, strict=True):
        if isinstance(reply, ChatFailure):
            continue
        for place, position in enumerate(positions, start=1):
            answers[number][position] = place in reply.matches
    return answers
