"""What every baseline writes with: examples, a generator, and the filter that all arms share.

A method is a function of a `Job`. It asks (`Job.ask`), offers texts (`Job.keep`) and stops when
`Job.n_lacking` is 0. It holds no state of its own on disk: replies are cached, so the function is
run again after a kill and does the same.
"""

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float

from facsynth.baselines.settings import BaselineSettings
from facsynth.chat.ask import ask
from facsynth.chat.fence import break_turn_marks, fence
from facsynth.chat.model import ChatFailure, ChatModel, ChatReply, ChatRequest
from facsynth.data.copies import index_texts
from facsynth.progress import SILENT, Progress
from facsynth.records import Message, Sample, user_text
from facsynth.synthesize.admission import Admission
from facsynth.synthesize.candidates import NO_TARGET, Candidate
from facsynth.synthesize.prompts import written_text
from facsynth.synthesize.task_format import TaskFormat

__all__ = ["Draft", "Job", "Local", "Prompt", "Vectors"]

Prompt = tuple[Message, ...]
"""What the generator is asked."""

Vectors = Callable[[Sequence[str]], Float[np.ndarray, "_ _"]]
"""One row for each text."""


@dataclass(frozen=True)
class Draft:
    """A text that was kept, and what its method says about it."""

    candidate: Candidate
    facts: dict[str, Any]


@dataclass(frozen=True)
class Local:
    """What only local models give, for the methods that need it."""

    vectors: Mapping[str, Vectors] = field(default_factory=dict)
    """By `hidden` and `gradient`, functions that give texts vectors: for prismatic, synalign."""

    tokenizer: Callable[[], Any] | None = None
    """Loads that of the generator, for magpie; None at an endpoint."""


class Job:
    """The work of one method."""

    def __init__(
        self,
        seeds: Sequence[Sample],
        anchor: Sequence[Sample],
        settings: BaselineSettings,
        task: TaskFormat,
        chat: ChatModel,
        *,
        local: Local,
        evaluation: Sequence[Sample] = (),
        progress: Progress = SILENT,
    ) -> None:
        """Start without a text.

        Args:
            seeds: The data set to improve: the examples of all methods.
            anchor: The target domain; the seed's texts stand for it where there is none.
            settings: How to write; its form is set.
            task: What a sample is.
            chat: The generator.
            local: What local models give.
            evaluation: Samples that must not be copied.
            progress: Where bars go.
        """
        self.settings, self.task, self.progress = settings, task, progress
        self.seeds = [user_text(sample) for sample in seeds]
        """Texts to learn from."""

        self.anchor = [user_text(sample) for sample in anchor or seeds]
        self.chat, self.local = chat, local
        target = anchor or seeds
        self._admission = Admission(
            target,
            seeds,
            max_overlap=settings.max_overlap,
            max_run=settings.max_run,
            evaluation=evaluation,
        )
        self.as_text = bool(target) and not target[0].messages
        self._written = index_texts([])
        self.kept: list[Draft] = []
        self.lost = Counter[str]()
        """Texts that were not kept, by the reason."""

        self.stopped: str | None = None
        """Which limit ended the asking."""

        self._n_asked = self._n_rounds = 0

    @property
    def form(self) -> str:
        """What is written, in words that complete "Write …"."""
        return self.settings.form

    @property
    def n_lacking(self) -> int:
        """Texts still to be kept; 0 when the job is over."""
        is_over = self.stopped is not None or self._n_rounds >= self.settings.max_rounds
        return 0 if is_over else max(0, self.settings.max_samples - len(self.kept))

    @property
    def max_length(self) -> int:
        """Longest reply that holds one text, in tokens."""
        return self.settings.sampling.max_length or min(1024, max(48, 2 * self.max_words))

    @property
    def max_words(self) -> int:
        """Longest text that is kept."""
        return self._admission.max_words

    def rng(self, *what: object) -> random.Random:
        """A random generator for one purpose; equal ones for equal purposes."""
        return random.Random("/".join(map(str, (self.settings.random_seed, *what))))

    def system(self) -> Message:
        """The task's system message, which says how to answer."""
        return Message("system", self.task.fill("system"))

    def quote(self, text: str) -> str:
        """A text as material between tags, on one line."""
        return fence(" ".join(text.split()))

    def harmless(self, text: str) -> str:
        """A text in which no mark can begin or end a turn."""
        return break_turn_marks(text)

    def vectors(self, kind: str, texts: Sequence[str]) -> Float[np.ndarray, "n_texts d"]:
        """A row for each text: its mean `hidden` state, or its loss's `gradient`."""
        return self.local.vectors[kind](texts)

    def ask(
        self,
        prompts: Sequence[Prompt],
        what: str,
        *,
        max_tokens: int | None = None,
        temperature: float | None = None,
        raw: bool = False,
    ) -> list[str]:
        """The replies to prompts: one text each, empty where there is none.

        Args:
            prompts: What to ask.
            what: What is asked for, in the plural.
            max_tokens: Longest reply; that of a written text by default.
            temperature: By default that of the settings.
            raw: Give the replies as they came; else without what surrounds a text, and whole.
        """
        sampling = self.settings.sampling
        requests = [
            ChatRequest(
                prompt,
                seed=self.rng(self._n_asked + n).randrange(2**31),
                max_tokens=max_tokens or self.max_length,
                temperature=sampling.temperature if temperature is None else temperature,
                top_p=sampling.top_p,
            )
            for n, prompt in enumerate(prompts)
        ]
        self._n_asked += len(requests)
        asked = ask(self.chat, requests, what=what, progress=self.progress)
        self.stopped = self.stopped or asked.stopped
        replies = []
        for reply in asked.outcomes:
            text = reply.text if isinstance(reply, ChatReply) else ""
            if isinstance(reply, ChatReply) and reply.truncated and "\n" in text:
                text = text.rpartition("\n")[0]  # the last line has no end
            replies.append(text if raw else written_text(reply, max_words=self.max_words))
            if not replies[-1]:
                reason = "failed request" if isinstance(reply, ChatFailure) else "no whole text"
                self.lost["not asked: budget" if reply is None else reason] += 1
        return replies

    def next_round(self) -> int:
        """Count a round; its number from 0."""
        self._n_rounds += 1
        return self._n_rounds - 1

    def keep(self, text: str, **facts: Any) -> bool:
        """Keep a text if it passes the filter of all arms and is new."""
        if not text or not self.n_room:
            return False
        sample = Sample(
            f"{len(self.kept)}",
            () if self.as_text else (Message("user", text),),
            text=text if self.as_text else None,
            label=self.task.label,
        )
        candidate = Candidate(sample, NO_TARGET, 1, self._n_rounds - 1, len(self.kept))
        if flaw := self._admission.find_flaw(candidate):
            self.lost[flaw] += 1
            return False
        if self._written.overlap(text) > self.settings.max_overlap:
            self.lost["near-copy"] += 1
            return False
        self._written.add(text)
        self.kept.append(Draft(candidate, facts))
        return True

    @property
    def n_room(self) -> int:
        """Texts that may still be kept."""
        return max(0, self.settings.max_samples - len(self.kept))
