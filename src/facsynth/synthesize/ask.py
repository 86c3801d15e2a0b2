"""Asking the generator: requests become candidates, with what their task adds."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from facsynth.chat.ask import ask
from facsynth.chat.model import ChatFailure, ChatModel, ChatReply, Outcome
from facsynth.progress import SILENT, Progress
from facsynth.records import Message, Sample
from facsynth.synthesize.candidates import NO_TARGET, NOT_ASKED, Asking, Candidate, Written
from facsynth.synthesize.complete import complete
from facsynth.synthesize.prompts import written_text
from facsynth.synthesize.task_format import TaskFormat

__all__ = ["Writer"]


@dataclass(frozen=True)
class Writer:
    """Who writes the candidates of a run, and in which shape."""

    chat: ChatModel
    task: TaskFormat
    """What a candidate is."""

    as_text: bool
    """Whether samples are plain texts; else they are conversations."""

    run_id: str = ""
    """Part of every sample's id, so that samples of different runs do not collide."""

    max_words: int | None = None
    """Longest text; a longer one is cut to its first sentences."""

    asks_lengths: bool = False
    """Whether answers are asked for in the lengths of the anchor's."""

    completion_seed: int | None = None
    """Random seed of what the task adds; None if candidates are scored without it."""

    find_flaw: Callable[[Candidate], str | None] = lambda _: None
    """Why a text cannot be kept; nothing is added to such a text."""

    progress: Progress = SILENT

    def write(self, requests: Sequence[Asking], *, round_: int, step: int) -> Written:
        """Ask for candidates, and for what the task adds before they are scored.

        Args:
            requests: What to ask, each with the features that it aims at.
            round_: Number of the round, from 0.
            step: 1 or 2.

        Raises:
            ChatError: More requests failed than the policy allows.
        """
        what = f"texts of round {round_ + 1}, step {step}"
        asked = ask(self.chat, [r.request for r in requests], what=what, progress=self.progress)
        candidates, lost = list[Candidate](), Counter[str]()
        for number, (one, reply) in enumerate(zip(requests, asked.outcomes, strict=True)):
            text = written_text(reply, max_words=self.max_words)
            if not text:
                lost[_why_lost(reply)] += 1
                continue
            name = f"fac-{self.run_id}-{round_}-{step}-{_name(one.target)}-{number}"
            sample = self._sample(name, text, one.shown.tools)
            made = Candidate(sample, one.target, step, round_, one.request.seed, one.also)
            like = one.shown
            made = replace(made, n_turns=like.n_turns, imitates=like.imitates)
            if self.asks_lengths:
                made = replace(made, answer_words=like.answer_words)
            candidates.append(made)
        if self.completion_seed is None:
            return Written(tuple(candidates), lost, asked.stopped)
        sound = [c for c in candidates if not self.find_flaw(c)]
        done = complete(
            sound, self.task, self.chat, random_seed=self.completion_seed, progress=self.progress
        )
        added = dict(zip(map(id, sound), done.candidates, strict=True))
        found = [c for one in candidates if (c := added.get(id(one), one)) is not None]
        if n_bare := len(candidates) - len(found):
            lost[NOT_ASKED if done.stopped else "without the task's form"] += n_bare
        return Written(tuple(found), lost, asked.stopped or done.stopped)

    def _sample(self, sample_id: str, text: str, tools: tuple[str, ...]) -> Sample:
        label = self.task.label
        if self.as_text:
            return Sample(sample_id, text=text, label=label)
        return Sample(sample_id, messages=(Message("user", text),), label=label, tools=tools)


def _name(target: int) -> str:
    return "any" if target == NO_TARGET else str(target)


def _why_lost(reply: Outcome | None) -> str:
    if reply is None:
        return NOT_ASKED
    if isinstance(reply, ChatFailure):
        return "failed request"
    return "cut off" if isinstance(reply, ChatReply) and reply.truncated else "no words"
