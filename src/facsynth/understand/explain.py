"""What features mean: by terms without an LLM, or in words by one, each with its fidelity."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import median
from typing import Any, Literal

from facsynth.chat.ask import ask
from facsynth.chat.model import ChatFailure, ChatModel, ChatRequest
from facsynth.chat.scripted import RecordingChat
from facsynth.progress import SILENT, Progress
from facsynth.show import TextTable, as_html
from facsynth.understand.descriptions import CANNOT_TELL
from facsynth.understand.evidence import Evidence
from facsynth.understand.fidelity import (
    DOUBTFUL_BELOW,
    Fidelity,
    fidelity_of,
    rule_fidelity,
)
from facsynth.understand.names import TermCounts, name_terms
from facsynth.understand.prompts import PROMPT_VERSION, FeatureReply, explanation_request
from facsynth.understand.questions import answer_questions, questions_about
from facsynth.understand.settings import ExplainSettings

__all__ = [
    "ExplainSettings",
    "Explanation",
    "Explanations",
    "calls_to_explain",
    "explain_by_llm",
    "explain_by_terms",
    "score_imported",
]

_PLACEHOLDER = "x" * 200
"""Stands for an explanation that is not written yet, in estimates."""


@dataclass(frozen=True)
class Explanation:
    """What one feature means, and how far that can be trusted."""

    evidence: Evidence
    """What is known about the feature."""

    name: str
    """The explanation in words where there is one, else the terms."""

    method: Literal["terms", "llm", "imported"]
    """Where the name comes from, and what the fidelity is of."""

    terms: tuple[str, ...] = ()
    """Distinctive words and pairs of words."""

    explanation: str | None = None
    """The sentence of an LLM or of an imported file; None without a usable one."""

    failure: str | None = None
    """Why an explanation that was asked for is missing."""

    fidelity: Fidelity | None = None
    model: str | None = None
    """Who wrote the explanation."""

    prompt_version: str | None = None

    @property
    def feature_id(self) -> int:
        """The feature."""
        return self.evidence.feature_id

    @property
    def is_doubtful(self) -> bool:
        """Whether the name was tested and scored below `DOUBTFUL_BELOW`."""
        return self.fidelity is not None and self.fidelity.is_doubtful

    def row(self) -> dict[str, Any]:
        """The JSONL row of the feature, with its spans."""
        return {
            "feature_id": self.feature_id,
            "name": self.name,
            "method": self.method,
            "terms": list(self.terms),
            "explanation": self.explanation,
            "failure": self.failure,
            "doubtful": self.is_doubtful,
            "cannot_tell": self.failure == CANNOT_TELL,
            "fidelity": asdict(self.fidelity) if self.fidelity else None,
            "model": self.model,
            "prompt_version": self.prompt_version,
            "threshold": self.evidence.threshold,
            "n_samples": self.evidence.n_samples,
            "spans": [asdict(span) for span in self.evidence.shown],
            "near_misses": [asdict(span) for span in self.evidence.shown_misses],
        }


@dataclass(frozen=True)
class Explanations:
    """Explanations of several features, summed up."""

    found: Sequence[Explanation]

    def row(self) -> dict[str, Any]:
        """Counts, and the median detection score, under stable keys."""
        tested = [one.fidelity.detection for one in self.found if one.fidelity]
        scores = [score.balanced_accuracy for score in tested if score]
        n_doubtful = sum(one.is_doubtful for one in self.found)
        return {
            "n_features": len(self.found),
            "n_explained": sum(one.explanation is not None for one in self.found),
            "n_failed": sum(one.failure is not None for one in self.found),
            "n_scored": len(scores),
            "n_doubtful": n_doubtful,
            "doubtful_share": n_doubtful / len(scores) if scores else None,
            "median_balanced_accuracy": median(scores) if scores else None,
        }

    def tables(self) -> Sequence[TextTable]:
        """How many features were explained and tested."""
        row = self.row()
        rows = [
            ("explained features", row["n_features"]),
            ("in words", row["n_explained"]),
            ("failed", row["n_failed"]),
            ("tested", row["n_scored"]),
            (f"doubtful (below {DOUBTFUL_BELOW:g})", row["n_doubtful"]),
            ("median balanced accuracy", row["median_balanced_accuracy"]),
        ]
        note = "" if row["n_scored"] else "None was tested: too few spans, or no LLM to test them."
        return [TextTable("Explanations", ("what", "value"), rows, note)]

    _repr_html_ = as_html


def explain_by_terms(evidence: Mapping[int, Evidence], background: TermCounts) -> list[Explanation]:
    """Name features by the distinctive terms of their shown spans and test these as a rule."""
    explained = []
    for found in evidence.values():
        terms = name_terms(found.shown, background)
        fidelity = rule_fidelity(terms, found) if terms else None
        name = ", ".join(terms) or "(no name)"
        explained.append(Explanation(found, name, "terms", terms, fidelity=fidelity))
    return explained


def explain_by_llm(
    chat: ChatModel,
    by_terms: Sequence[Explanation],
    *,
    settings: ExplainSettings | None = None,
    progress: Progress = SILENT,
) -> list[Explanation]:
    """Have an LLM explain features and judge its explanations on held-out spans.

    A feature for which every call fails, or for which the LLM cannot tell, keeps its terms and
    carries the reason in `failure`.

    Args:
        chat: Explains, and answers the detection and fuzzing questions.
        by_terms: The features to explain, from `explain_by_terms`.
        settings: How.
        progress: Where bars go.

    Raises:
        ChatError: More replies are unusable than the policy of the model allows.
        BudgetError: The next call would go over a limit.
    """
    settings = settings or ExplainSettings()
    asked = [found for found in by_terms if found.evidence.shown]
    requests = [explanation_request(f.evidence, random_seed=settings.random_seed) for f in asked]
    replies = ask(
        chat, requests, what="explanations", schema=FeatureReply, progress=progress
    ).complete()
    given = {found.feature_id: reply for found, reply in zip(asked, replies, strict=True)}
    explained = [
        replace(
            found,
            name=text,
            method="llm",
            explanation=text,
            fidelity=None,
            model=chat.name,
            prompt_version=PROMPT_VERSION,
        )
        if (text := _text(given.get(found.feature_id)))
        else replace(found, failure=_why_none(given.get(found.feature_id)))
        for found in by_terms
    ]
    return _scored(chat, explained, settings, progress)


def score_imported(
    by_terms: Sequence[Explanation],
    texts: Mapping[int, str],
    *,
    chat: ChatModel | None = None,
    settings: ExplainSettings | None = None,
    progress: Progress = SILENT,
) -> list[Explanation]:
    """Put ready-made explanations in place of the terms; with a chat model, test them.

    Features without an imported explanation keep their terms.
    """
    explained = [
        replace(found, name=text, method="imported", explanation=text, fidelity=None)
        if (text := texts.get(found.feature_id))
        else found
        for found in by_terms
    ]
    if chat is None:
        return explained
    return _scored(chat, explained, settings or ExplainSettings(), progress)


def calls_to_explain(
    run: Callable[[ChatModel], Sequence[Explanation]],
    recorder: RecordingChat,
    chat: ChatModel,
    *,
    settings: ExplainSettings,
) -> list[ChatRequest]:
    """The calls that a run would make now; nothing is called.

    Returns:
        The requests that no cached reply answers. Where an explanation is not written yet, the
        questions about it are counted with one of 200 characters. Repairs come on top.
    """
    explained = run(chat)
    requests = list(recorder.requests)
    for found in explained:
        if found.failure is None or not found.evidence.shown or not settings.fidelity:
            continue
        questions = questions_about(_PLACEHOLDER, found.evidence)
        calls = [request for question in questions for request, _ in question.calls(settings)]
        requests += {request.key: request for request in calls}.values()
    return requests


def _why_none(reply: FeatureReply | ChatFailure | None) -> str:
    if reply is None:
        return "no sample shows the feature"
    return reply.reason if isinstance(reply, ChatFailure) else CANNOT_TELL


def _text(reply: FeatureReply | ChatFailure | None) -> str:
    if not isinstance(reply, FeatureReply) or reply.cannot_tell:
        return ""
    return " ".join(reply.explanation.split())


def _scored(
    chat: ChatModel,
    explained: Sequence[Explanation],
    settings: ExplainSettings,
    progress: Progress,
) -> list[Explanation]:
    """With the fidelity of explanations in words: all questions at once, then the scores."""
    if not settings.fidelity:
        return list(explained)
    questions = [
        question
        for found in explained
        if found.explanation is not None
        for question in questions_about(found.explanation, found.evidence)
    ]
    answers = iter(answer_questions(chat, questions, settings, progress))
    return [
        found
        if found.explanation is None
        else replace(
            found,
            fidelity=fidelity_of(found.evidence, lambda _: next(answers), lambda _: next(answers)),
        )
        for found in explained
    ]
