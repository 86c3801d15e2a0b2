"""What a task adds to a written text: answers, a contrast, a pair of answers, or a choice.

Replies are read strictly. One that does not fit is asked for once more and then is a recorded
failure; it never becomes part of a sample.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Literal, TypeVar

from pydantic import BaseModel, StringConstraints, model_validator

from facsynth.chat.ask import Asked, ask
from facsynth.chat.model import ChatFailure, ChatModel, ChatRequest
from facsynth.errors import MismatchError
from facsynth.progress import SILENT, Progress
from facsynth.records import Message, Sample
from facsynth.synthesize.candidates import Candidate
from facsynth.synthesize.converse import Completed, converse
from facsynth.synthesize.prompts import (
    completion_prompt,
    written_text,
)
from facsynth.synthesize.task_format import TaskFormat
from facsynth.words import split_words

__all__ = ["Completed", "Contrasts", "Moment", "complete", "moment_of", "write_contrasts"]

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

Moment = Literal["before", "after"] | None
"""When a task adds what it adds: before scoring, after choosing, or never."""


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
    random_seed: int = 0,
    progress: Progress = SILENT,
) -> Completed:
    """Add answers, pairs or choices to written texts.

    Args:
        candidates: Conversations of one user message.
        task: What a sample is; without a completion, or with one that is a sample of its own (see
            `write_contrasts`), nothing is asked.
        chat: The generator.
        random_seed: Of the requests, of the flaws and of the order of options.
        progress: Where bars are drawn.

    Raises:
        ChatError: More requests failed than the policy allows.
    """
    done = task.completion
    if done is None or done.kind == "contrast" or not candidates:
        return Completed(tuple(candidates))
    if done.kind == "answer":
        return converse(candidates, task, chat, random_seed=random_seed, progress=progress)
    draws = [random.Random(f"{random_seed}/{c.random_seed}/{done.kind}") for c in candidates]
    if done.kind == "choice":
        requests = [_request(task, c.written, random_seed) for c in candidates]
        choices = ask(chat, requests, what="choices", schema=ChoiceReply, progress=progress)
        return _joined(choices, lambda i, reply: _with_choice(candidates[i], reply, draws[i]))
    flaws = [draw.choice(done.flaws) for draw in draws]
    requests = [
        _request(task, c.written, random_seed, flaw=flaw)
        for c, flaw in zip(candidates, flaws, strict=True)
    ]
    pairs = ask(chat, requests, what="pairs", schema=PairReply, progress=progress)
    return _joined(pairs, lambda i, reply: _with_pair(candidates[i], reply, flaws[i]))


def write_contrasts(
    candidates: Sequence[Candidate],
    task: TaskFormat,
    chat: ChatModel,
    *,
    random_seed: int = 0,
    progress: Progress = SILENT,
) -> Contrasts:
    """A sample with the other label for each text, on the same subject.

    Raises:
        ChatError: More requests failed than the policy allows.
    """
    assert task.completion is not None
    label = task.completion.label
    requests = [_request(task, candidate.written, random_seed) for candidate in candidates]
    asked = ask(chat, requests, what="contrasts", progress=progress)
    found: list[Sample | None] = []
    for candidate, outcome in zip(candidates, asked.outcomes, strict=True):
        text = written_text(outcome)
        if split_words(text) in ([], split_words(candidate.written)):
            found.append(None)
            continue
        name = f"{candidate.sample.sample_id}#{label}"
        is_plain = candidate.sample.text is not None
        turns = () if is_plain else (Message("user", text),)
        found.append(Sample(name, turns, text=text if is_plain else None, label=label))
    return Contrasts(tuple(found), asked.stopped)


def moment_of(
    task: TaskFormat, score: str, *, as_text: bool, reply: bool, has_turns: bool = False
) -> Moment:
    """When the task's completion is asked for: as late as scoring allows, because it costs calls.

    Args:
        task: What a sample is.
        score: Whose words of the anchor are scored; what is scored must be there before.
        as_text: Whether samples are plain texts.
        reply: Whether the assistant's answers are wanted at all.
        has_turns: Whether samples have further messages of the user, which follow answers.

    Raises:
        MismatchError: The task cannot be written for this anchor.
    """
    kind = task.completion.kind if task.completion else None
    if kind is None or (kind == "answer" and (as_text or not reply)):
        return None
    if as_text and kind in ("pair", "choice"):
        raise MismatchError(
            f"the task {task.name} writes conversations, but the anchor holds plain texts; give "
            "the anchor as `messages`, `instruction` or `prompt` rows and extract it again"
        )
    if kind == "contrast":
        if score == "assistant" and not as_text:
            raise MismatchError(
                f"the task {task.name} writes what users say, but the anchor was extracted with "
                "--score assistant; extract it again with --score user"
            )
        return "after"
    is_early = kind == "choice" or score != "user" or (has_turns and kind == "answer")
    return "before" if is_early else "after"


def _with_pair(candidate: Candidate, reply: PairReply, flaw: str) -> Candidate:
    asked = candidate.sample.messages
    sample = _answered_twice(candidate.sample, asked, reply.chosen, reply.rejected)
    return replace(candidate, sample=sample, fields={"flaw": flaw})


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


def _request(task: TaskFormat, text: str, random_seed: int, *, flaw: str = "") -> ChatRequest:
    assert task.completion is not None
    prompt = completion_prompt(task, text, flaw=flaw)
    return ChatRequest(messages=prompt, seed=random_seed, max_tokens=task.completion.max_tokens)


def _joined(asked: Asked[R], join: Callable[[int, R], Candidate]) -> Completed:
    made = (
        None if reply is None or isinstance(reply, ChatFailure) else join(i, reply)
        for i, reply in enumerate(asked.outcomes)
    )
    return Completed(tuple(made), asked.stopped)
