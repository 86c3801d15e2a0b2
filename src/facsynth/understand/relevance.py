"""Whether a feature matters for a task: judgements, and those of an LLM with a rubric.

Grades are yes, probably, maybe and no, and F is cut at maybe unless another grade is asked for
(arXiv 2602.10388, appendix). `facsynth.understand.contrast` judges without an LLM.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args

import numpy as np
from jaxtyping import Bool

from facsynth.chat.ask import ask
from facsynth.chat.model import ChatFailure, ChatModel
from facsynth.compare.difference import Difference
from facsynth.data.read import json_lines
from facsynth.errors import DataError
from facsynth.progress import SILENT, Progress
from facsynth.show import TextTable, as_html
from facsynth.table.active import ActiveRows
from facsynth.understand.descriptions import Described, LeaveOut
from facsynth.understand.prompts import (
    PROMPT_VERSION,
    Grade,
    RelevanceReply,
    relevance_request,
)

__all__ = [
    "GRADES",
    "TASKS",
    "Grade",
    "Judgements",
    "Relevance",
    "read_feature_rows",
    "read_relevant",
    "judge_all",
    "judge_by_llm",
    "load_rubric",
]

GRADES: tuple[Grade, ...] = get_args(Grade)
"""From the best to the worst."""

TASKS = ("toxicity", "reward", "sycophancy", "survival", "instruction")
"""Tasks with a rubric in the package."""

_SHOWN_SPANS = 10


@dataclass(frozen=True)
class Relevance:
    """The judgement about one feature."""

    feature_id: int
    grade: Grade | None
    """None when the judge failed, or the feature was left out."""

    reason: str
    """In one line; where there is no grade, why."""

    name: str = ""
    judge: str = ""
    """Who judged: a model, `labels` or `scores`; empty where the feature was left out."""

    prompt_version: str | None = None
    log_odds: float | None = None
    """Of the judges by labels and scores: effect of the label, or of failure, at equal length."""

    q_value: float | None = None
    """Smallest false discovery rate at which that effect counts."""

    example: str | None = None
    """Where the feature is strongest, the peak marked."""

    threshold: float | None = None
    """Of the judges by labels and scores: activation above which a sample counts as active."""

    def is_relevant(self, min_grade: Grade = "maybe") -> bool:
        """Whether the grade is at least `min_grade`; a failed judgement is not."""
        return self.grade is not None and GRADES.index(self.grade) <= GRADES.index(min_grade)

    def row(self, *, min_grade: Grade = "maybe") -> dict[str, Any]:
        """The JSONL row; `relevant` is what `fac coverage --relevant` reads."""
        return {
            "feature_id": self.feature_id,
            "relevant": self.is_relevant(min_grade),
            "grade": self.grade,
            "reason": self.reason,
            "name": self.name,
            "judge": self.judge,
            "prompt_version": self.prompt_version,
            "log_odds": self.log_odds,
            "q_value": self.q_value,
            "example": self.example,
            "threshold": self.threshold,
        }


@dataclass(frozen=True)
class Judgements:
    """Judgements about several features, summed up."""

    found: Sequence[Relevance]
    min_grade: Grade = "maybe"
    """Lowest grade that is relevant."""

    difference: Difference | None = None
    """The test behind the judgements, where labels or scores are the judge."""

    notes: tuple[str, ...] = ()
    """What counts as a failure, and caveats."""

    def row(self) -> dict[str, Any]:
        """Counts under stable keys."""
        return {
            "n_features": len(self.found),
            "n_relevant": sum(one.is_relevant(self.min_grade) for one in self.found),
            "n_failed": sum(one.grade is None and bool(one.judge) for one in self.found),
            "n_left_out": sum(one.grade is None and not one.judge for one in self.found),
            "grades": {grade: sum(one.grade == grade for one in self.found) for grade in GRADES},
            "min_grade": self.min_grade,
            "difference": self.difference.row() if self.difference else None,
            "warnings": list(self.notes),
        }

    def tables(self) -> Sequence[TextTable]:
        """How many features are relevant, then the grades."""
        row = self.row()
        rows = [
            (f"relevant features (at least {self.min_grade})", row["n_relevant"]),
            ("judged features", row["n_features"]),
            *((f"  {grade}", n) for grade, n in row["grades"].items()),
            ("  failed", row["n_failed"]),
            ("  left out", row["n_left_out"]),
        ]
        test = self.difference.tables() if self.difference else ()
        return [TextTable("Relevance", ("what", "count"), rows), *test]

    _repr_html_ = as_html


def read_feature_rows(path: Path, *fields: str) -> list[dict[str, Any]]:
    """Rows of a JSONL file that have a feature and these fields.

    Raises:
        DataError: A row lacks a field.
    """
    fields = ("feature_id", *fields)
    rows = []
    for place, row in json_lines(path):
        if not isinstance(row, dict) or not all(field in row for field in fields):
            raise DataError(f"{place}: expected an object with {', '.join(fields)}")
        rows.append(row)
    return rows


def read_relevant(path: Path, n_features: int) -> Bool[np.ndarray, " n_features"]:
    """Flags of the relevant features: one id a line, or JSONL rows with `feature_id`.

    Rows with `"relevant": false`, as `fac relevance` writes them, do not count.

    Raises:
        DataError: A line is neither, or the feature does not exist.
    """
    relevant = np.zeros(n_features, dtype=np.bool_)
    for place, value in json_lines(path, advice="write a feature id or an object with feature_id"):
        try:
            feature = int(value["feature_id"] if isinstance(value, dict) else value)
        except (ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{place}: expected a feature id or an object with feature_id, "
                f"found {str(value)[:60]!r}"
            ) from error
        if not 0 <= feature < n_features:
            raise DataError(
                f"{place}: feature {feature} does not exist; the SAE has the features 0 to "
                f"{n_features - 1}"
            )
        if not (isinstance(value, dict) and value.get("relevant") is False):
            relevant[feature] = True
    return relevant


def load_rubric(task: str) -> str:
    """The criteria of a task.

    Args:
        task: One of `TASKS`, or the path of a text file with criteria.

    Raises:
        DataError: It is neither, or the file is empty or not UTF-8.
    """
    if task in TASKS:
        return (files("facsynth.understand") / "rubrics" / f"{task}.txt").read_text("utf-8")
    path = Path(task)
    if not path.is_file():
        raise DataError(f"--task {task} is neither a file nor one of {', '.join(TASKS)}")
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{path} is not UTF-8 text: {error}") from error
    if not text.strip():
        raise DataError(f"{path} is empty; write what matters for the task and what does not")
    return text


def judge_by_llm(
    chat: ChatModel,
    rubric: str,
    features: Sequence[Described],
    *,
    leave_out: LeaveOut = "cannot-tell",
    progress: Progress = SILENT,
) -> list[Relevance]:
    """Have an LLM grade features by their descriptions and spans.

    Args:
        chat: The judge.
        rubric: What matters for the task.
        features: The features, from `facsynth.understand.descriptions.read_explanations`.
        leave_out: Features that are not judged.
        progress: Where bars go.

    Returns:
        A judgement for each feature, in the same order; one that was left out, or whose call
        failed, has no grade.

    Raises:
        ChatError: More replies are unusable than the policy of the model allows.
        BudgetError: The next call would go over a limit.
    """
    seen = [feature for feature in features if feature.why_left_out(leave_out) is None]
    requests = [relevance_request(rubric, f.text, f.spans[:_SHOWN_SPANS]) for f in seen]
    asked = ask(chat, requests, what="judgements", schema=RelevanceReply, progress=progress)
    replies = iter(asked.complete())
    judged = []
    for feature in features:
        if why := feature.why_left_out(leave_out):
            judged.append(Relevance(feature.feature_id, None, why, feature.name))
            continue
        reply = next(replies)
        grade = None if isinstance(reply, ChatFailure) else reply.grade
        reason = " ".join(reply.reason.split())
        judged.append(
            Relevance(feature.feature_id, grade, reason, feature.text, chat.name, PROMPT_VERSION)
        )
    return judged


def judge_all(rows: ActiveRows, *, names: Mapping[int, str] | None = None) -> list[Relevance]:
    """Without a judge every feature that is ever active is relevant."""
    active = np.flatnonzero(rows.features)
    reason = "no judge: every feature that is active counts"
    return [Relevance(int(f), "yes", reason, (names or {}).get(int(f), ""), "none") for f in active]
