"""Conversations: the generator plays both sides, the assistant and the user."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import cycle

from facsynth.chat.ask import ask
from facsynth.chat.model import ChatFailure, ChatModel, ChatReply, ChatRequest
from facsynth.progress import SILENT, Progress
from facsynth.records import Message
from facsynth.synthesize.candidates import Candidate
from facsynth.synthesize.prompts import next_prompt, whole_sentences, written_text
from facsynth.synthesize.task_format import TaskFormat
from facsynth.synthesize.tools import answer_with_tools, tools_message

__all__ = ["Completed", "converse"]

_SIDES = {"assistant": "answers", "user": "next messages"}


@dataclass(frozen=True)
class Completed:
    """Candidates with what their task adds."""

    candidates: tuple[Candidate | None, ...]
    """In the order given; None where no sample of the task's form was made."""

    stopped: str | None = None
    """Which limit ended the asking; None if every request was asked."""


def converse(
    candidates: Sequence[Candidate],
    task: TaskFormat,
    chat: ChatModel,
    *,
    random_seed: int,
    progress: Progress = SILENT,
) -> Completed:
    """Let the generator play both sides until each conversation has its turns.

    One that breaks off or calls a tool ends with its last answer; without any it is none.

    Args:
        candidates: Conversations of one user message.
        task: With a completion of the kind `answer`.
        chat: The generator.
        random_seed: Of the requests.
        progress: Where bars are drawn.

    Raises:
        ChatError: More requests failed than the policy allows.
    """
    assert task.completion is not None
    talks = [candidate.sample.messages for candidate in candidates]
    todo, stopped = list(range(len(talks))), None
    for side in cycle(_SIDES):
        if not todo or stopped is not None:
            break
        prompts = [_prompt(side, talks[i], candidates[i], task) for i in todo]
        n_tokens = task.completion.max_tokens
        requests = [ChatRequest(prompt, random_seed, n_tokens) for prompt in prompts]
        asked = ask(chat, requests, what=_SIDES[side], progress=progress)
        stopped, going_on = asked.stopped, []
        for i, outcome in zip(todo, asked.outcomes, strict=True):
            turn = _turn(side, outcome, candidates[i].sample.tools)
            if turn is not None:
                talks[i] = (*talks[i], turn)
                is_over = side == "assistant" and len(talks[i]) >= 2 * candidates[i].n_turns
                going_on += [] if is_over or turn.tool_calls else [i]
        todo = going_on
    return Completed(tuple(map(_ended, candidates, talks)), stopped)


def _ended(candidate: Candidate, talk: tuple[Message, ...]) -> Candidate | None:
    """The candidate with its conversation up to the last answer."""
    talk = talk if talk[-1].role == "assistant" else talk[:-1]
    return replace(candidate, sample=replace(candidate.sample, messages=talk)) if talk else None


def _prompt(
    side: str, talk: tuple[Message, ...], candidate: Candidate, task: TaskFormat
) -> tuple[Message, ...]:
    """What is asked for the next turn of a side."""
    if side == "user":
        return next_prompt(task, talk)
    tools, n_words = candidate.sample.tools, candidate.answer_words
    told = [tools_message(tools).content] if tools else []
    told += [] if n_words is None else [f"Answer in about {n_words} words."]
    # One message, since many templates refuse a second one of the system.
    return (Message("system", "\n\n".join(told)), *talk) if told else talk


def _turn(side: str, reply: ChatReply | ChatFailure | None, tools: Sequence[str]) -> Message | None:
    """The turn of a reply, if it is one; an answer that was cut ends with a whole sentence."""
    if side == "user":
        text = written_text(reply)
    elif isinstance(reply, ChatReply):
        text = whole_sentences(reply.text.strip()) if reply.truncated else reply.text.strip()
    else:
        text = ""
    if text and side == "assistant" and tools:
        return answer_with_tools(text, tools)
    return Message(side, text) if text else None
