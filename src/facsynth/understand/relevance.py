"""Whether a feature matters for a task: judged by an LLM with a rubric, or by labels of the anchor.

Grades are yes, probably, maybe and no, and F is cut at maybe unless another grade is asked for
(arXiv 2602.10388, appendix). The statistical judge needs labels and no LLM.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, get_args

import numpy as np
from jaxtyping import Bool
from scipy import stats

from facsynth.chat.ask import ask
from facsynth.chat.model import ChatFailure, ChatModel
from facsynth.data.read import json_lines
from facsynth.errors import DataError
from facsynth.progress import SILENT, Progress
from facsynth.show import TextTable, as_html
from facsynth.table.active import ActiveRows
from facsynth.table.rows import take_rows
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
    "LabelStatistics",
    "Relevance",
    "read_feature_rows",
    "judge_all",
    "judge_by_labels",
    "judge_by_llm",
    "label_statistics",
    "load_rubric",
]

GRADES: tuple[Grade, ...] = get_args(Grade)
"""From the best to the worst."""

TASKS = ("toxicity", "reward", "sycophancy", "survival", "instruction")
"""Tasks with a rubric in the package."""

_FALSE_DISCOVERY: dict[Grade, float] = {"yes": 0.001, "probably": 0.01, "maybe": 0.05}
"""Largest adjusted p-value of a grade."""

_SMOOTHING = 0.5
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
    """Who judged: a model, or `labels`; empty where the feature was left out."""

    prompt_version: str | None = None

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
        }


@dataclass(frozen=True)
class Judgements:
    """Judgements about several features, summed up."""

    found: Sequence[Relevance]
    min_grade: Grade = "maybe"
    """Lowest grade that is relevant."""

    def row(self) -> dict[str, Any]:
        """Counts under stable keys."""
        return {
            "n_features": len(self.found),
            "n_relevant": sum(one.is_relevant(self.min_grade) for one in self.found),
            "n_failed": sum(one.grade is None and bool(one.judge) for one in self.found),
            "n_left_out": sum(one.grade is None and not one.judge for one in self.found),
            "grades": {grade: sum(one.grade == grade for one in self.found) for grade in GRADES},
            "min_grade": self.min_grade,
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
        return [TextTable("Relevance", ("what", "count"), rows)]

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


@dataclass(frozen=True)
class LabelStatistics:
    """How each feature goes with a label."""

    log_odds: Any
    """Log-odds ratio of being active with the label against without it, smoothed; (n_features,)."""

    p_value: Any
    """One-sided exact (Fisher) p-value of a positive association."""

    q_value: Any
    """The same, adjusted by Benjamini and Hochberg over the features that are ever active."""

    n_active: Any
    """Samples in which the feature is active."""


def label_statistics(
    rows: ActiveRows, has_label: Bool[np.ndarray, " n_samples"]
) -> LabelStatistics:
    """Test every feature for being active more often in samples with the label.

    The log-odds ratio adds 1/2 to each of the four counts (Haldane 1956, Anscombe 1956). The
    p-value is the upper tail of the hypergeometric distribution. Long samples activate more
    features: where the label goes with the length, so do the features.

    Args:
        rows: Active rows of the anchor.
        has_label: Which samples have the label.

    Raises:
        DataError: All samples or none have the label, or the flags do not fit the table.
    """
    n_samples, n_with = rows.n_samples, int(has_label.sum())
    if has_label.size != n_samples:
        raise DataError(f"{has_label.size} labels for {n_samples} samples; give one each")
    if not 0 < n_with < n_samples:
        raise DataError(
            f"{n_with} of {n_samples} samples have the label; the statistical judge needs samples "
            "with and without it"
        )
    n_active = rows.counts
    both = np.rint(has_label.astype(np.float32) @ rows.fires).astype(np.int64)
    only = n_active - both
    s = _SMOOTHING
    log_odds = np.log((both + s) / (n_with - both + s)) - np.log(
        (only + s) / (n_samples - n_with - only + s)
    )
    p = stats.hypergeom.sf(both - 1, n_samples, n_active, n_with)
    p = np.clip(np.where(n_active > 0, p, 1.0), 0.0, 1.0)
    q = np.ones(rows.n_features)
    if n_active.any():
        q[n_active > 0] = stats.false_discovery_control(p[n_active > 0], method="bh")
    return LabelStatistics(log_odds, p, q, n_active)


def judge_by_labels(
    rows: ActiveRows,
    labels: Sequence[str | None],
    label: str,
    *,
    names: Mapping[int, str] | None = None,
) -> list[Relevance]:
    """Grade every feature that is ever active by its association with a label of the anchor.

    yes, probably and maybe are adjusted p-values (false discovery rates) up to 0.001, 0.01 and
    0.05, with a positive log-odds ratio.

    Args:
        rows: Active rows of the anchor.
        labels: Label of each sample; samples without one are left out.
        label: The label of the task.
        names: Names by feature, to be carried along.

    Returns:
        Judgements, the strongest association first.

    Raises:
        DataError: No sample has the label, or all of those with labels have it.
    """
    known = [row for row, found in enumerate(labels) if found is not None]
    values = sorted({str(labels[row]) for row in known})
    if label not in values:
        raise DataError(
            f"no sample has the label {label!r}; there are {', '.join(values) or 'none'}"
        )
    flags = np.array([labels[row] == label for row in known], dtype=np.bool_)
    labelled = take_rows(rows.activations, known)
    found = label_statistics(replace(rows, activations=labelled), flags)
    order = np.lexsort((-found.log_odds, found.p_value))
    return [
        Relevance(
            int(f),
            _label_grade(float(found.q_value[f]), float(found.log_odds[f])),
            f"log-odds {found.log_odds[f]:+.2f} with label {label}, adjusted p "
            f"{found.q_value[f]:.2g}, active in {found.n_active[f]}",
            (names or {}).get(int(f), ""),
            "labels",
        )
        for f in order
        if found.n_active[f]
    ]


def judge_all(rows: ActiveRows, *, names: Mapping[int, str] | None = None) -> list[Relevance]:
    """Without a judge every feature that is ever active is relevant."""
    active = np.flatnonzero(rows.features)
    reason = "no judge: every feature that is active counts"
    return [Relevance(int(f), "yes", reason, (names or {}).get(int(f), ""), "none") for f in active]


def _label_grade(q: float, log_odds: float) -> Grade:
    if log_odds <= 0:
        return "no"
    return next((grade for grade, limit in _FALSE_DISCOVERY.items() if q <= limit), "no")
