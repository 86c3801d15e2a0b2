"""Candidates: what the generator wrote for a feature, and how it is asked for one."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from facsynth.chat.model import ChatRequest
from facsynth.records import Message, Sample, Span
from facsynth.synthesize.prompts import first_prompt, joint_prompt, second_prompt, turns_prompt
from facsynth.synthesize.settings import Prompt, Sampling
from facsynth.synthesize.task_format import TaskFormat

__all__ = [
    "NOT_ASKED",
    "Asking",
    "Candidate",
    "Joint",
    "Pair",
    "Target",
    "Wording",
    "Written",
    "first_requests",
    "second_requests",
]

_SPANS_IN_PROMPT, _STRONGEST_IN_PROMPT = 4, 2

NOT_ASKED = "not asked: budget"
"""Outcome of a text for which the budget allowed no call."""


@dataclass(frozen=True)
class Target:
    """A missing feature that is to be filled."""

    feature_id: int
    name: str
    """Words that distinguish its spans."""

    spans: tuple[Span, ...]
    """Anchor spans, strongest first."""

    texts: tuple[str, ...] = ()
    """For each span the text around it that is shown where the generator is asked in turns."""


@dataclass(frozen=True)
class Joint:
    """Missing features that one text is to fill: a group, or one alone."""

    targets: tuple[Target, ...]
    """The most needed first; the first one represents the group."""

    n_words: int | None = None
    """Length to ask for: that of an anchor text with all of these features."""

    text: str = ""
    """This anchor text, or as much of it as is shown."""


@dataclass(frozen=True)
class Wording:
    """What all requests of a run have in common."""

    form: str
    """What is written, in words that complete "Write …"."""

    sampling: Sampling
    task: TaskFormat
    """Whose templates are used."""

    prompt: Prompt = "turns"


@dataclass(frozen=True)
class Asking:
    """A request with what it is for."""

    target: int
    """Feature that it aims at."""

    request: ChatRequest
    also: tuple[int, ...] = ()
    """Further features that it aims at."""


@dataclass(frozen=True)
class Pair:
    """The contrastive pair of step 1 (arXiv 2602.10388, section 5)."""

    strong: str
    """Text that activates the feature most: a candidate, or else an anchor span."""

    weak: str
    """Text that activates it least."""


@dataclass(frozen=True)
class Candidate:
    """A text written for a feature."""

    sample: Sample
    target: int
    """Feature that it was written for."""

    step: int
    """1, or 2 with a contrastive pair."""

    round: int
    random_seed: int
    """Random seed of its request."""

    also: tuple[int, ...] = ()
    """Further features that it was written for."""

    query: str | None = None
    """The text that was asked for, where the sample's first message holds more."""

    fields: Mapping[str, object] = field(default_factory=dict)
    """What the task adds to the row of the sample."""

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
    joints: Sequence[Joint], n: int, wording: Wording, *, random_seed: int
) -> list[Asking]:
    """Step 1: `n` requests per feature or group, each with other evidence in another order."""
    requests = []
    for joint in joints:
        lead, *others = (target.feature_id for target in joint.targets)
        for index in range(n):
            number = _number(random_seed, lead, index)
            asked = _first_prompt(joint, wording, random.Random(number))
            requests.append(Asking(lead, _request(asked, wording, number), tuple(others)))
    return requests


def second_requests(
    targets: Sequence[Target],
    pairs: Mapping[int, Pair],
    n: int,
    wording: Wording,
    *,
    random_seed: int,
) -> list[Asking]:
    """Step 2: `n` requests per target.

    A request shows the target's contrastive pair; a prompt in turns shows the strongest texts of
    the anchor alone, because a generator imitates a weak one as readily.
    """
    requests = []
    form, task = wording.form, wording.task
    for target in targets:
        pair = pairs[target.feature_id]
        if wording.prompt == "turns":
            shown = _distinct(_texts(target)[:_STRONGEST_IN_PROMPT][::-1])
            asked = turns_prompt([target.name], shown, form=form, task=task)
        else:
            asked = second_prompt(target.name, pair.strong, pair.weak, form=form, task=task)
        for index in range(n):
            number = _number(random_seed, target.feature_id, index)
            requests.append(Asking(target.feature_id, _request(asked, wording, number)))
    return requests


def _first_prompt(joint: Joint, wording: Wording, rng: random.Random) -> tuple[Message, ...]:
    form, task = wording.form, wording.task
    names = [target.name for target in joint.targets]
    n_spans = max(1, _SPANS_IN_PROMPT // len(names))
    drawn = [_draw(target, n_spans, rng) for target in joint.targets]
    if wording.prompt == "turns":
        shown = _distinct([text for _, texts in drawn for text in texts], last=joint.text)
        return turns_prompt(names, shown, form=form, task=task)
    themes = [(name, spans) for name, (spans, _) in zip(names, drawn, strict=True)]
    if joint.n_words is None:
        return first_prompt(*themes[0], form=form, task=task)
    return joint_prompt(themes, n_words=joint.n_words, form=form, task=task)


def _draw(target: Target, n: int, rng: random.Random) -> tuple[list[Span], list[str]]:
    """Some of the strongest spans of a target in any order, and the texts around them."""
    order = list(range(len(target.spans[: 2 * _SPANS_IN_PROMPT])))
    rng.shuffle(order)
    texts = _texts(target)
    return [target.spans[i] for i in order[:n]], [texts[i] for i in order[:n]]


def _texts(target: Target) -> list[str]:
    return list(target.texts) or [span.text for span in target.spans]


def _distinct(texts: Sequence[str], *, last: str = "") -> list[str]:
    """Each text once, in order; one of them at the end."""
    return [*dict.fromkeys(text for text in texts if text != last), *([last] if last else [])]


def _request(messages: tuple[Message, ...], wording: Wording, number: int) -> ChatRequest:
    sampling = wording.sampling
    return ChatRequest(
        messages=messages,
        seed=number,
        max_tokens=sampling.max_length,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
    )


def _number(random_seed: int, feature_id: int, index: int) -> int:
    """The random seed of one request."""
    return (random_seed * 1_000_003 + feature_id * 1_009 + index) % 2**31
