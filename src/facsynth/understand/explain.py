"""What features mean: by terms without an LLM, or in words by one, each with its fidelity."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import numpy as np

from facsynth.chat.ask import ask
from facsynth.chat.model import ChatFailure, ChatModel, ChatRequest
from facsynth.chat.scripted import RecordingChat
from facsynth.errors import DataError
from facsynth.progress import SILENT, Progress
from facsynth.understand.evidence import Evidence
from facsynth.understand.fidelity import (
    Fidelity,
    Item,
    fidelity_of,
    rule_fidelity,
    score_answers,
)
from facsynth.understand.names import TermCounts, name_terms
from facsynth.understand.prompts import (
    PROMPT_VERSION,
    FeatureReply,
    MatchReply,
    detection_request,
    explanation_request,
    fuzzing_request,
)

__all__ = [
    "ExplainSettings",
    "Explanation",
    "calls_to_explain",
    "explain_by_llm",
    "explain_by_terms",
    "explanation_row",
    "score_imported",
]

_PLACEHOLDER = "x" * 200
"""Stands for an explanation that is not written yet, in estimates."""


@dataclass(frozen=True)
class ExplainSettings:
    """How an LLM explains and is tested."""

    n_candidates: int = 1
    """Explanations asked for; with several, that which fits the shown spans best is kept."""

    texts_per_call: int = 5
    """Texts judged in one call of the detection and fuzzing scores."""

    is_scored: bool = True
    """Whether explanations are tested on held-out spans."""

    temperature: float = 0.7
    """Temperature of the explanations; judging always takes 0."""

    seed: int = 0
    """Seed of the requests, and of the order of texts."""

    def __post_init__(self) -> None:
        if self.n_candidates < 1 or self.texts_per_call < 1:
            raise DataError("n_candidates and texts_per_call must be at least 1")


@dataclass(frozen=True)
class Explanation:
    """What one feature means, and how far that can be trusted."""

    feature_id: int
    name: str
    """The explanation in words where there is one, else the terms."""

    method: Literal["terms", "llm", "imported"]
    """Where the name comes from, and what the fidelity is of."""

    terms: tuple[str, ...] = ()
    """Distinctive words and pairs of words."""

    explanation: str | None = None
    """The sentence of an LLM or of an imported file; None without a usable one."""

    failure: str | None = None
    """Why there is no explanation although one was asked for."""

    fidelity: Fidelity | None = None
    model: str | None = None
    """Who wrote the explanation."""

    prompt_version: str | None = None

    @property
    def is_doubtful(self) -> bool:
        """Whether the name was tested and found wanting."""
        return self.fidelity is not None and self.fidelity.is_doubtful


def explain_by_terms(
    evidence: Mapping[int, Evidence], background: TermCounts, *, n_terms: int = 3
) -> list[Explanation]:
    """Name features by the distinctive terms of their shown spans and test these as a rule."""
    explained = []
    for feature, found in evidence.items():
        terms = name_terms(found.shown, background, n_terms=n_terms)
        fidelity = rule_fidelity(terms, found) if terms else None
        name = ", ".join(terms) or "(no name)"
        explained.append(Explanation(feature, name, "terms", terms, fidelity=fidelity))
    return explained


def explain_by_llm(
    chat: ChatModel,
    evidence: Mapping[int, Evidence],
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
        evidence: Evidence by feature.
        by_terms: The features to explain, from `explain_by_terms`.
        settings: How.
        progress: Where bars go.

    Raises:
        ChatError: More replies are unusable than the policy of the model allows.
        BudgetError: The next call would go over a limit.
    """
    settings = settings or ExplainSettings()
    asked = [found for found in by_terms if evidence[found.feature_id].shown]
    requests = [
        explanation_request(
            evidence[found.feature_id],
            seed=settings.seed + candidate,
            temperature=settings.temperature if settings.n_candidates > 1 else 0.0,
        )
        for found in asked
        for candidate in range(settings.n_candidates)
    ]
    replies = ask(
        chat, requests, what="explanations", schema=FeatureReply, progress=progress
    ).complete()
    n = settings.n_candidates
    candidates = {found.feature_id: replies[i * n : (i + 1) * n] for i, found in enumerate(asked)}
    texts = _best_candidates(chat, evidence, candidates, settings, progress)
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
        if (text := texts.get(found.feature_id))
        else replace(found, failure=_why_none(candidates.get(found.feature_id, ())))
        for found in by_terms
    ]
    return (
        _scored(chat, evidence, explained, settings, progress) if settings.is_scored else explained
    )


def score_imported(
    evidence: Mapping[int, Evidence],
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
    settings = settings or ExplainSettings()
    explained = [
        replace(found, name=text, method="imported", explanation=text, fidelity=None)
        if (text := texts.get(found.feature_id))
        else found
        for found in by_terms
    ]
    if chat is None or not settings.is_scored:
        return explained
    return _scored(chat, evidence, explained, settings, progress)


def calls_to_explain(
    run: Callable[[ChatModel], Sequence[Explanation]],
    evidence: Mapping[int, Evidence],
    recorder: RecordingChat,
    chat: ChatModel,
    *,
    settings: ExplainSettings,
) -> list[ChatRequest]:
    """The calls that a run would make now; nothing is called.

    Args:
        run: The run as a function of the chat model.
        evidence: Evidence by feature.
        recorder: Takes the place of the model.
        chat: The recorder behind the cache of the run.
        settings: Those of the run.

    Returns:
        The requests that no cached reply answers. Where an explanation is not written yet, the
        questions about it are counted with one of 200 characters. Repairs come on top.
    """
    explained = run(chat)
    pending = [found for found in explained if found.failure is not None]
    requests = list(recorder.requests)
    for found in pending:
        known = evidence[found.feature_id]
        if not known.shown or not settings.is_scored:
            continue
        if settings.n_candidates > 1:
            asked = _requests(_PLACEHOLDER, _selection_items(known), "detection", settings)
            requests += [request for request, _ in asked] * settings.n_candidates
        tests: list[ChatRequest] = []
        fidelity_of(
            known,
            _counting(tests, "detection", settings),
            _counting(tests, "fuzzing", settings),
        )
        requests += {request.key: request for request in tests}.values()
    return requests


def explanation_row(explained: Explanation, evidence: Evidence) -> dict[str, Any]:
    """The JSONL row of a feature, with its spans."""
    return {
        "feature_id": explained.feature_id,
        "name": explained.name,
        "method": explained.method,
        "terms": list(explained.terms),
        "explanation": explained.explanation,
        "failure": explained.failure,
        "doubtful": explained.is_doubtful,
        "fidelity": asdict(explained.fidelity) if explained.fidelity else None,
        "model": explained.model,
        "prompt_version": explained.prompt_version,
        "n_samples": evidence.n_samples,
        "spans": [asdict(span) for span in evidence.shown],
        "near_misses": [asdict(span) for span in evidence.shown_misses],
    }


def _why_none(replies: Sequence[FeatureReply | ChatFailure]) -> str:
    if not replies:
        return "no sample shows the feature"
    failures = [reply.reason for reply in replies if isinstance(reply, ChatFailure)]
    return failures[0] if len(failures) == len(replies) else "the model cannot tell"


def _best_candidates(
    chat: ChatModel,
    evidence: Mapping[int, Evidence],
    candidates: Mapping[int, Sequence[FeatureReply | ChatFailure]],
    settings: ExplainSettings,
    progress: Progress,
) -> dict[int, str]:
    """The explanation of each feature that fits its shown spans best; the first of equals."""
    usable = {
        feature: list(dict.fromkeys(text for reply in replies if (text := _text(reply))))
        for feature, replies in candidates.items()
    }
    best = {feature: texts[0] for feature, texts in usable.items() if texts}
    asked = [
        (feature, text, _selection_items(evidence[feature]))
        for feature, texts in usable.items()
        if len(texts) > 1 and settings.is_scored
        for text in texts
    ]
    answers = _answers(
        chat, [(text, items, "detection") for _, text, items in asked], settings, progress
    )
    scores: dict[int, float] = {}
    for (feature, text, items), said in zip(asked, answers, strict=True):
        score = score_answers(said, [item.is_positive for item in items])
        if score is not None and score.balanced_accuracy > scores.get(feature, -1.0):
            scores[feature], best[feature] = score.balanced_accuracy, text
    return best


def _text(reply: FeatureReply | ChatFailure) -> str:
    if isinstance(reply, ChatFailure) or reply.cannot_tell:
        return ""
    return " ".join(reply.explanation.split())


def _selection_items(evidence: Evidence) -> list[Item]:
    return [
        *(Item(span, True) for span in evidence.shown),
        *(Item(span, False) for span in evidence.shown_misses),
    ]


def _scored(
    chat: ChatModel,
    evidence: Mapping[int, Evidence],
    explained: Sequence[Explanation],
    settings: ExplainSettings,
    progress: Progress,
) -> list[Explanation]:
    """Fidelity of the explanations in words: first all questions at once, then the scores."""
    questions: list[tuple[str, Sequence[Item], str]] = []

    def note(text: str, kind: str) -> Callable[[Sequence[Item]], list[bool | None]]:
        def ask(items: Sequence[Item]) -> list[bool | None]:
            questions.append((text, items, kind))
            return [None] * len(items)

        return ask

    told = [found for found in explained if found.explanation is not None]
    for found in told:
        text = str(found.explanation)
        fidelity_of(evidence[found.feature_id], note(text, "detection"), note(text, "fuzzing"))
    answers = iter(_answers(chat, questions, settings, progress))
    scores = {
        found.feature_id: fidelity_of(
            evidence[found.feature_id], lambda _: next(answers), lambda _: next(answers)
        )
        for found in told
    }
    return [replace(f, fidelity=scores.get(f.feature_id, f.fidelity)) for f in explained]


def _answers(
    chat: ChatModel,
    questions: Sequence[tuple[str, Sequence[Item], str]],
    settings: ExplainSettings,
    progress: Progress,
) -> list[list[bool | None]]:
    """Answers to every question about every item; None where a call failed."""
    plan = [
        (number, request, positions)
        for number, (text, items, kind) in enumerate(questions)
        for request, positions in _requests(text, items, kind, settings)
    ]

    def complaint(call: int, reply: MatchReply) -> str:
        numbers = range(1, len(plan[call][2]) + 1)
        return (
            "" if set(reply.matches) <= {*numbers} else "the reply names a text that is not there"
        )

    replies = ask(
        chat,
        [request for _, request, _ in plan],
        what="judgements",
        schema=MatchReply,
        complaint=complaint,
        progress=progress,
    ).complete()
    answers: list[list[bool | None]] = [[None] * len(items) for _, items, _ in questions]
    for (number, _, positions), reply in zip(plan, replies, strict=True):
        if isinstance(reply, ChatFailure):
            continue
        for place, position in enumerate(positions, start=1):
            answers[number][position] = place in reply.matches
    return answers


def _requests(
    text: str, items: Sequence[Item], kind: str, settings: ExplainSettings
) -> list[tuple[ChatRequest, list[int]]]:
    """The calls of one question, with the positions of the items in each; order is shuffled."""
    ask = detection_request if kind == "detection" else fuzzing_request
    order = np.random.default_rng([settings.seed, len(items)]).permutation(len(items))
    step = settings.texts_per_call
    parts = [[int(i) for i in order[start : start + step]] for start in range(0, len(items), step)]
    return [(ask(text, [items[i].span for i in part]), part) for part in parts]


def _counting(
    requests: list[ChatRequest], kind: str, settings: ExplainSettings
) -> Callable[[Sequence[Item]], list[bool | None]]:
    def ask(items: Sequence[Item]) -> list[bool | None]:
        requests.extend(request for request, _ in _requests(_PLACEHOLDER, items, kind, settings))
        return [None] * len(items)

    return ask
