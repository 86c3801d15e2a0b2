"""Candidates: what the generator wrote for a feature, and how it is asked for one."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from facsynth.chat.model import ChatRequest
from facsynth.records import Message, Sample
from facsynth.synthesize.prompts import (
    request_prompt,
    second_prompt,
    turns_prompt,
    with_tools,
)
from facsynth.synthesize.settings import Sampling
from facsynth.synthesize.task_format import TaskFormat

__all__ = [
    "NOT_ASKED",
    "NO_TARGET",
    "Asking",
    "Candidate",
    "Pair",
    "Shown",
    "Wording",
    "Written",
    "first_requests",
    "second_requests",
]

NOT_ASKED = "not asked: budget"
"""Outcome of a text for which the budget allowed no call."""

NO_TARGET = -1
"""Target of a text that any feature will do for."""


@dataclass(frozen=True)
class Shown:
    """What a prompt shows for an aim."""

    feature_ids: tuple[int, ...]
    """Features aimed at, the most wanted first."""

    themes: tuple[str, ...]
    """What they mean, in words; empty where prompts do not say it."""

    texts: tuple[str, ...]
    """Evidence of the anchor; the last text is imitated most."""

    n_words: int
    """Length to ask for: that of the anchor sample."""

    n_turns: int = 1
    """Messages of the user that the anchor sample has."""

    imitates: str | None = None
    """The anchor sample, by its id."""

    answer_words: int | None = None
    """Words of its middle answer; None without answers."""

    tools: tuple[str, ...] = ()
    """Tools that the anchor sample has."""


@dataclass(frozen=True)
class Wording:
    """What all requests of a run have in common."""

    form: str
    """What is written, in words that complete "Write …"."""

    sampling: Sampling
    task: TaskFormat
    """Whose templates are used."""

    is_request: bool = False
    """Whether evidence is quoted in one message; else it appears as earlier answers."""


@dataclass(frozen=True)
class Asking:
    """One request, and what it is for."""

    request: ChatRequest
    shown: Shown

    @property
    def target(self) -> int:
        """Feature that it is to activate, or `NO_TARGET`."""
        return self.shown.feature_ids[0] if self.shown.feature_ids else NO_TARGET

    @property
    def also(self) -> tuple[int, ...]:
        """Further features that it is to activate."""
        return self.shown.feature_ids[1:]


@dataclass(frozen=True)
class Pair:
    """Step 1's strong and weak text for a feature."""

    strong: str
    weak: str


@dataclass(frozen=True)
class Candidate:
    """A text that the generator wrote, as a sample."""

    sample: Sample
    target: int
    """Feature that it was written for, or `NO_TARGET`."""

    step: int
    """1 or 2."""

    round: int
    """From 0."""

    random_seed: int
    """Random seed of its request."""

    also: tuple[int, ...] = ()
    """Further features that it was written for."""

    query: str | None = None
    """The text that was asked for, where the sample's first message holds more."""

    fields: Mapping[str, object] = field(default_factory=dict)
    """What the task adds to the row of the sample."""

    n_turns: int = 1
    """Messages of the user that the sample is to have."""

    imitates: str | None = None
    """The anchor sample that it is to be like, by its id."""

    answer_words: int | None = None
    """Words that its answers should have, about, as those of the anchor sample; None for any."""

    @property
    def written(self) -> str:
        """The text that was asked for, without the assistant's answer."""
        if self.query is not None:
            return self.query
        return self.sample.messages[0].content if self.sample.messages else self.sample.text or ""


@dataclass(frozen=True)
class Written:
    """What the generator wrote on request."""

    candidates: tuple[Candidate, ...]
    lost: Mapping[str, int]
    """Requests that gave no candidate, by the reason."""

    stopped: str | None = None
    """Which limit ended the asking; None if every request was asked."""


def first_requests(
    shown: Sequence[Shown], n: int, wording: Wording, *, random_seed: int
) -> list[Asking]:
    """`n` requests for each aim, equal but for their random seeds, so that it is read once.

    The evidence is in random order, but for the last text.
    """
    found = []
    for place, one in enumerate(shown):
        numbers = [_number(random_seed, place * n + index) for index in range(n)]
        texts = list(one.texts[:-1])
        random.Random(numbers[0]).shuffle(texts)
        texts += one.texts[-1:]
        ask = request_prompt if wording.is_request else turns_prompt
        asked = ask(one.themes, texts, n_words=one.n_words, form=wording.form, task=wording.task)
        found += [_asking(one, asked, wording, number) for number in numbers]
    return found


def second_requests(
    shown: Sequence[Shown],
    pairs: Mapping[int, Pair],
    n: int,
    wording: Wording,
    *,
    random_seed: int,
) -> list[Asking]:
    """Step 2: `n` requests for each feature, which show its contrastive pair."""
    found = []
    for place, one in enumerate(shown):
        pair = pairs[one.feature_ids[0]]
        asked = second_prompt(
            one.themes, pair.strong, pair.weak, form=wording.form, task=wording.task
        )
        for index in range(n):
            number = _number(random_seed, place * n + index)
            found.append(_asking(one, asked, wording, number))
    return found


def _asking(one: Shown, asked: tuple[Message, ...], wording: Wording, number: int) -> Asking:
    sampling = wording.sampling
    assert sampling.max_length is not None  # a run settles it
    request = ChatRequest(
        messages=with_tools(asked, one.tools, wording.task),
        seed=number,
        max_tokens=sampling.max_length,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
    )
    return Asking(request, one)


def _number(random_seed: int, index: int) -> int:
    """The random seed of one request."""
    return (random_seed * 1_000_003 + index) % 2**31
