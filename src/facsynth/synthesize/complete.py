"""What a task adds to a written text: an answer, a contrast, a pair of answers, or a choice.

Replies are read strictly. One that does not fit is asked for once more and then is a recorded
failure; it never becomes part of a sample.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, TypeVar

from pydantic import BaseModel, StringConstraints, model_validator

from facsynth.chat.ask import Asked, ask
from facsynth.chat.model import ChatFailure, ChatModel, ChatReply, ChatRequest
from facsynth.progress import SILENT, Progress
from facsynth.records import Message, Sample
from facsynth.synthesize.candidates import Candidate, written_text
from facsynth.synthesize.prompts import completion_prompt, whole_sentences
from facsynth.synthesize.task_format import TaskFormat
from facsynth.words import split_words

__all__ = ["Completed", "Contrasts", "complete", "write_contrasts"]

_Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]


class _Reply(BaseModel):
    """A reply with two texts that must differ."""

    @model_validator(mode="after")
    def _differ(self) -> "_Reply":
        first, second = (split_words(text) for text in self.model_dump().values())
        if first == second:
            raise ValueError("the two texts are the same")
        return self


class PairReply(_Reply):
    """A good answer, and one with a flaw."""

    chosen: _Text
    rejected: _Text


class ChoiceReply(_Reply):
    """Two replies, of which one shows the behaviour that is measured."""

    matching: _Text
    other: _Text


R = TypeVar("R", bound=_Reply)


@dataclass(frozen=True)
class Completed:
    """Candidates with what their task adds."""

    candidates: tuple[Candidate | None, ...]
    """In the order given; None where there is no sample of the task's form."""

    stopped: str | None = None
    """Which limit ended the asking; None if every request was asked."""


@dataclass(frozen=True)
class Contrasts:
    """Samples with the other label."""

    samples: tuple[Sample | None, ...]
    """One for each text, in order; None where it failed."""

    stopped: str | None = None
    """Which limit ended the asking; None if every request was asked."""


def complete(
    candidates: Sequence[Candidate],
    task: TaskFormat,
    chat: ChatModel,
    *,
    seed: int = 0,
    progress: Progress = SILENT,
) -> Completed:
    """Add answers, pairs or choices to written texts.

    A text without an answer stays a sample; one without its pair or choice does not.

    Args:
        candidates: Conversations of one user message.
        task: What a sample is; without a completion, or with one that is a sample of its own (see
            `write_contrasts`), nothing is asked.
        chat: The generator.
        seed: Seed of the requests, of the flaws and of the order of options.
        progress: Where bars are drawn.

    Raises:
        ChatError: More requests failed than the policy allows.
    """
    if task.completion is None or task.completion.kind == "contrast" or not candidates:
        return Completed(tuple(candidates))
    kind = task.completion.kind
    if kind == "answer":
        length = task.completion.max_tokens
        asked = ask(
            chat,
            [ChatRequest(c.sample.messages, seed=seed, max_tokens=length) for c in candidates],
            what="answers",
            progress=progress,
        )
        pairs = zip(candidates, asked.outcomes, strict=True)
        return Completed(tuple(_with_answer(c, reply) for c, reply in pairs), asked.stopped)
    draws = [random.Random(f"{seed}/{candidate.seed}/{kind}") for candidate in candidates]
    if kind == "pair":
        return _complete_pairs(candidates, draws, task, chat, seed=seed, progress=progress)
    requests = [_request(task, c.written, seed) for c in candidates]
    choices = ask(chat, requests, what="choices", schema=ChoiceReply, progress=progress)
    return _joined(choices, lambda i, reply: _with_choice(candidates[i], reply, draws[i]))


def write_contrasts(
    candidates: Sequence[Candidate],
    task: TaskFormat,
    chat: ChatModel,
    *,
    seed: int = 0,
    progress: Progress = SILENT,
) -> Contrasts:
    """A sample with the other label for each text, on the same subject.

    Raises:
        ChatError: More requests failed than the policy allows.
    """
    assert task.completion is not None
    requests = [_request(task, candidate.written, seed) for candidate in candidates]
    asked = ask(chat, requests, what="contrasts", progress=progress)
    found: list[Sample | None] = []
    for candidate, outcome in zip(candidates, asked.outcomes, strict=True):
        text = written_text(outcome) if outcome is not None else ""
        is_other = split_words(text) not in ([], split_words(candidate.written))
        name = f"{candidate.sample.sample_id}#{task.completion.label}"
        found.append(_alike(candidate.sample, name, text, task) if is_other else None)
    return Contrasts(tuple(found), asked.stopped)


def _with_answer(candidate: Candidate, reply: ChatReply | ChatFailure | None) -> Candidate:
    """The candidate with an answer, if there is one; a cut one ends with a whole sentence."""
    if not isinstance(reply, ChatReply):
        return candidate
    text = reply.text.strip()
    if not (answer := whole_sentences(text) if reply.truncated else text):
        return candidate
    messages = (*candidate.sample.messages, Message("assistant", answer))
    return replace(candidate, sample=replace(candidate.sample, messages=messages))


def _alike(sample: Sample, name: str, text: str, task: TaskFormat) -> Sample:
    """A sample of the same shape with another text and the other label."""
    assert task.completion is not None
    label = task.completion.label
    if sample.text is not None:
        return Sample(name, text=text, label=label)
    return Sample(name, messages=(Message("user", text),), label=label)


def _complete_pairs(
    candidates: Sequence[Candidate],
    draws: Sequence[random.Random],
    task: TaskFormat,
    chat: ChatModel,
    *,
    seed: int,
    progress: Progress,
) -> Completed:
    assert task.completion is not None
    flaws = [draw.choice(task.completion.flaws) for draw in draws]
    requests = [
        _request(task, candidate.written, seed, flaw=flaw)
        for candidate, flaw in zip(candidates, flaws, strict=True)
    ]
    pairs = ask(chat, requests, what="pairs", schema=PairReply, progress=progress)

    def join(i: int, reply: PairReply) -> Candidate:
        candidate = candidates[i]
        asked = candidate.sample.messages
        sample = _answered_twice(candidate.sample, asked, reply.chosen, reply.rejected)
        return replace(candidate, sample=sample, fields={"flaw": flaws[i]})

    return _joined(pairs, join)


def _with_choice(candidate: Candidate, reply: ChoiceReply, draw: random.Random) -> Candidate:
    """The candidate as an item with two options; both orders are in its fields."""
    first, swapped = (
        _item(candidate.written, reply, matching_first=order)
        for order in draw.sample((True, False), 2)
    )
    asked = (Message("user", first["question"]),)
    # As a preference pair, the item is against the behaviour that it measures.
    chosen, rejected = first["answer_not_matching_behavior"], first["answer_matching_behavior"]
    return replace(
        candidate,
        sample=_answered_twice(candidate.sample, asked, chosen, rejected),
        query=candidate.written,
        fields={**first, "swapped": swapped},
    )


def _item(text: str, reply: ChoiceReply, *, matching_first: bool) -> dict[str, str]:
    """One order of the options, in the fields of CAA (arXiv 2312.06681)."""
    options = (reply.matching, reply.other) if matching_first else (reply.other, reply.matching)
    letters = ("(A)", "(B)") if matching_first else ("(B)", "(A)")
    listed = "\n".join(
        f" {letter} {' '.join(option.split())}"
        for letter, option in zip(("(A)", "(B)"), options, strict=True)
    )
    return {
        "question": f"{text}\n\nChoices:\n{listed}",
        "answer_matching_behavior": letters[0],
        "answer_not_matching_behavior": letters[1],
    }


def _answered_twice(
    sample: Sample, asked: tuple[Message, ...], chosen: str, rejected: str
) -> Sample:
    return replace(
        sample,
        messages=(*asked, Message("assistant", chosen)),
        rejected=(*asked, Message("assistant", rejected)),
    )


def _request(task: TaskFormat, text: str, seed: int, *, flaw: str = "") -> ChatRequest:
    assert task.completion is not None
    prompt = completion_prompt(task, text, flaw=flaw)
    return ChatRequest(messages=prompt, seed=seed, max_tokens=task.completion.max_tokens)


def _joined(asked: Asked[R], join: Callable[[int, R], Candidate]) -> Completed:
    made = (
        None if reply is None or isinstance(reply, ChatFailure) else join(i, reply)
        for i, reply in enumerate(asked.outcomes)
    )
    return Completed(tuple(made), asked.stopped)
