"""What an LLM is asked about a feature, and the form of its replies.

A change of wording changes the version, which every explanation carries.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, Field, model_validator

from facsynth.chat.fence import FENCED, break_turn_marks, fence_all, on_one_line
from facsynth.chat.model import ChatRequest
from facsynth.records import Message, Span
from facsynth.understand.evidence import Evidence
from facsynth.understand.spans import mark_peak

__all__ = [
    "PROMPT_VERSION",
    "FeatureReply",
    "Grade",
    "MatchReply",
    "RelevanceReply",
    "detection_request",
    "explanation_request",
    "fuzzing_request",
    "relevance_request",
]

PROMPT_VERSION = "understand-2"

_EXPLAIN = """\
A language model has inner features: each one switches on in some texts and is silent in others.
You see texts in which ONE feature switches on. The token where it is strongest stands between
« and ». Say in one short sentence, or a few words, what the feature stands for: what the marked
tokens, or the contexts right before them, have in common. Be specific enough to tell these texts
from the silent ones. Look at the weak texts too, not only at the strongest. Do not mention the
marks, and do not list the texts. If you see nothing in common, set "cannot_tell" to true.
Answer with one JSON object: {"explanation": "...", "cannot_tell": false}"""

_DETECT = """\
A feature of a language model is described in words. You get numbered texts. Say which of them
contain what is described. It may be none, some or all of them.
Answer with one JSON object with the numbers of those texts: {"matches": [1, 3]}"""

_FUZZ = """\
A feature of a language model is described in words. You get numbered texts, each with one word
between « and ». Say in which of them the marked word is an instance of what is described. It may
be none, some or all of them.
Answer with one JSON object with the numbers of those texts: {"matches": [1, 3]}"""

_RELEVANCE = """\
You judge whether a feature of a language model matters for a task. You get the task's criteria,
a description of the feature, and texts in which it switches on, strongest token between « and ».
Grades: "yes": the feature is about what the criteria name; "probably": most of its texts are;
"maybe": some of its texts are, or it takes part in it; "no": none of that.
Judge what the feature stands for, not a chance mention in one text.
Answer with one JSON object: {"grade": "maybe", "reason": "one short line"}"""


Grade = Literal["yes", "probably", "maybe", "no"]
"""How much a feature matters, from the best to the worst."""


def _lowered(value: object) -> object:
    return value.strip().lower() if isinstance(value, str) else value


class FeatureReply(BaseModel):
    """What an explainer answers."""

    explanation: str = Field(default="", max_length=600)
    cannot_tell: bool = False

    @model_validator(mode="after")
    def _says_something(self) -> "FeatureReply":
        if not (self.cannot_tell or self.explanation.strip()):
            raise ValueError("there is no explanation, and cannot_tell is not set")
        self.explanation = " ".join(self.explanation.split())
        return self


class MatchReply(BaseModel):
    """Numbers of the texts that fit, from 1."""

    matches: list[int]


class RelevanceReply(BaseModel):
    """What a judge answers."""

    grade: Annotated[Grade, BeforeValidator(_lowered)]
    reason: str = Field(max_length=400)


def explanation_request(evidence: Evidence, *, random_seed: int) -> ChatRequest:
    """Ask what a feature stands for, from its shown spans and shown near misses."""
    strongest = evidence.shown[0].activation
    strengths = [f"({round(10 * span.activation / strongest)}/10) " for span in evidence.shown]
    active = fence_all([mark_peak(span) for span in evidence.shown])
    listed = [strength + text for strength, text in zip(strengths, active, strict=True)]
    parts = ["Texts where the feature is active, with its strength:", *listed]
    if evidence.shown_misses:
        silent = [span.text for span in evidence.shown_misses]
        parts += ["", "Texts where it is silent:", *fence_all(silent, start=len(active) + 1)]
    return _request(_EXPLAIN, "\n".join(parts), random_seed=random_seed, max_tokens=150)


def detection_request(explanation: str, spans: Sequence[Span]) -> ChatRequest:
    """Ask which texts fit an explanation."""
    texts = [span.text for span in spans]
    return _request(_DETECT, _numbered(explanation, texts), max_tokens=60)


def fuzzing_request(explanation: str, spans: Sequence[Span]) -> ChatRequest:
    """Ask in which texts the marked word fits an explanation."""
    return _request(_FUZZ, _numbered(explanation, [mark_peak(s) for s in spans]), max_tokens=60)


def relevance_request(rubric: str, explanation: str, spans: Sequence[Span]) -> ChatRequest:
    """Ask how much a feature matters for the task of a rubric."""
    texts = "\n".join(fence_all([mark_peak(span) for span in spans]))
    feature = on_one_line(explanation)
    content = (
        f"Criteria:\n{break_turn_marks(rubric.strip())}\n\nFeature: {feature}\n\nTexts:\n{texts}"
    )
    return _request(_RELEVANCE, content, max_tokens=120)


def _numbered(explanation: str, texts: Sequence[str]) -> str:
    return "\n".join([f"Feature: {on_one_line(explanation)}", "", *fence_all(texts)])


def _request(system: str, content: str, *, max_tokens: int, random_seed: int = 0) -> ChatRequest:
    messages = (Message("system", f"{system}\n{FENCED}"), Message("user", content))
    return ChatRequest(messages, random_seed, max_tokens=max_tokens, temperature=0.0)
