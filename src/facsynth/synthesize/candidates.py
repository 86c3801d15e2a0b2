"""Candidates: what the generator wrote for a feature, and how to ask for it."""

import random
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from facsynth.chat.ask import ask
from facsynth.chat.model import (
    ChatFailure,
    ChatModel,
    ChatReply,
    ChatRequest,
    Outcome,
)
from facsynth.progress import Progress
from facsynth.records import Message, Sample, Span
from facsynth.synthesize.prompts import (
    clean_reply,
    first_prompt,
    joint_prompt,
    second_prompt,
    turns_prompt,
    whole_sentences,
)
from facsynth.synthesize.task_format import TaskFormat
from facsynth.words import count_words

__all__ = [
    "NOT_ASKED",
    "Asking",
    "Candidate",
    "Joint",
    "Pair",
    "Prompt",
    "Sampling",
    "Target",
    "Written",
    "ask_candidates",
    "first_requests",
    "joint_requests",
    "second_requests",
    "written_text",
]

_SPANS_IN_PROMPT, _STRONGEST_IN_PROMPT = 4, 2

NOT_ASKED = "not asked: budget"
"""What became of a text for which the budget allowed no call."""

Prompt = Literal["turns", "request"]


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
    """Missing features that one text is to fill together."""

    targets: tuple[Target, ...]
    """The most needed first; the first one stands for the group."""

    n_words: int
    """Length to ask for: that of an anchor text with all of these features."""

    text: str = ""
    """This anchor text, or as much of it as is shown."""


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
    seed: int
    """Seed of its request."""

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


@dataclass(frozen=True)
class Sampling:
    """How the generator draws."""

    temperature: float = 0.8
    """Paper: 0.8."""

    top_p: float = 0.9
    """Paper: 0.9."""

    max_tokens: int = 96
    """Longest text, in the generator's tokens."""


def first_requests(
    targets: Sequence[Target],
    n: int,
    *,
    form: str,
    sampling: Sampling,
    seed: int,
    task: TaskFormat | None = None,
    prompt: Prompt = "turns",
) -> list[Asking]:
    """Step 1: `n` requests per target, each with other evidence in another order."""
    requests = []
    for target in targets:
        for index in range(n):
            number = _seed(seed, target.feature_id, index)
            spans, texts = _draw(target, _SPANS_IN_PROMPT, random.Random(number))
            if prompt == "turns":
                asked = turns_prompt([target.name], _distinct(texts), form=form, task=task)
            else:
                asked = first_prompt(target.name, spans, form=form, task=task)
            requests.append(Asking(target.feature_id, _request(asked, sampling, number)))
    return requests


def joint_requests(
    joints: Sequence[Joint],
    n: int,
    *,
    form: str,
    sampling: Sampling,
    seed: int,
    task: TaskFormat | None = None,
    prompt: Prompt = "turns",
) -> list[Asking]:
    """Step 1 for groups of features: `n` requests per group, each with other evidence."""
    requests = []
    for joint in joints:
        lead, *others = joint.targets
        names = [target.name for target in joint.targets]
        n_spans = max(1, _SPANS_IN_PROMPT // len(joint.targets))
        for index in range(n):
            number = _seed(seed, lead.feature_id, index)
            rng = random.Random(number)
            drawn = [_draw(target, n_spans, rng) for target in joint.targets]
            if prompt == "turns":
                shown = _distinct([text for _, texts in drawn for text in texts], last=joint.text)
                asked = turns_prompt(names, shown, form=form, task=task)
            else:
                themes = [(name, spans) for name, (spans, _) in zip(names, drawn, strict=True)]
                asked = joint_prompt(themes, form=form, n_words=joint.n_words, task=task)
            also = tuple(target.feature_id for target in others)
            requests.append(Asking(lead.feature_id, _request(asked, sampling, number), also))
    return requests


def second_requests(
    targets: Sequence[Target],
    pairs: Mapping[int, Pair],
    n: int,
    *,
    form: str,
    sampling: Sampling,
    seed: int,
    task: TaskFormat | None = None,
    prompt: Prompt = "turns",
) -> list[Asking]:
    """Step 2: `n` requests per target.

    A request shows the target's contrastive pair; a prompt in turns shows the strongest texts of
    the anchor alone, because a generator imitates a weak one as readily.
    """
    requests = []
    for target in targets:
        pair = pairs[target.feature_id]
        if prompt == "turns":
            shown = _distinct(_texts(target)[:_STRONGEST_IN_PROMPT][::-1])
            asked = turns_prompt([target.name], shown, form=form, task=task)
        else:
            asked = second_prompt(target.name, pair.strong, pair.weak, form=form, task=task)
        for index in range(n):
            number = _seed(seed, target.feature_id, index)
            requests.append(Asking(target.feature_id, _request(asked, sampling, number)))
    return requests


def ask_candidates(
    requests: Sequence[Asking],
    chat: ChatModel,
    *,
    step: int,
    round_: int,
    as_text: bool,
    progress: Progress,
    label: str | None = None,
    max_words: int | None = None,
) -> Written:
    """Ask the generator and wrap its answers.

    Raises:
        ChatError: More requests failed than the policy allows.
    """
    what = f"texts of round {round_ + 1}, step {step}"
    asked = ask(chat, [one.request for one in requests], what=what, progress=progress)
    candidates, lost = [], Counter[str]()
    for number, (one, reply) in enumerate(zip(requests, asked.outcomes, strict=True)):
        if reply is None:
            lost[NOT_ASKED] += 1
            continue
        text = written_text(reply, max_words=max_words)
        if not text:
            lost[_why_lost(reply)] += 1
            continue
        name = f"fac-{round_}-{step}-{one.target}-{number}"
        sample = (
            Sample(name, text=text, label=label)
            if as_text
            else Sample(name, messages=(Message("user", text),), label=label)
        )
        candidates.append(Candidate(sample, one.target, step, round_, one.request.seed, one.also))
    return Written(tuple(candidates), lost, asked.stopped)


def written_text(reply: Outcome, *, max_words: int | None = None) -> str:
    """The text of a reply without what is around it; of one that is too long, whole sentences.

    Args:
        reply: What came. One that was cut off has no text without a whole sentence.
        max_words: Words from which on a text is too long; one whose first sentence is too long
            already stays as it is.
    """
    if isinstance(reply, ChatFailure):
        return ""
    text = clean_reply(reply.text)
    if not reply.truncated and (max_words is None or count_words(text) <= max_words):
        return text
    return whole_sentences(text, max_words=max_words) or ("" if reply.truncated else text)


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


def _why_lost(reply: Outcome) -> str:
    if isinstance(reply, ChatReply):
        return "cut off" if reply.truncated else "no words"
    return "failed request"


def _request(messages: tuple[Message, ...], sampling: Sampling, seed: int) -> ChatRequest:
    return ChatRequest(
        messages=messages,
        seed=seed,
        max_tokens=sampling.max_tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
    )


def _seed(seed: int, feature_id: int, index: int) -> int:
    return (seed * 1_000_003 + feature_id * 1_009 + index) % 2**31
