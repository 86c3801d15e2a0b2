"""Relevance without an LLM: which features go with a label, or with the failures of a model.

Long texts activate more features. Where a label or a failure goes with the length, so do most
features, so samples are compared within length groups, as `fac diff` does.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64

from facsynth.compare.difference import Difference, compare_features
from facsynth.compare.settings import DiffSettings
from facsynth.coverage.threshold import own_threshold
from facsynth.errors import DataError
from facsynth.records import Sample, Span
from facsynth.table.active import ActiveRows, active_rows
from facsynth.table.rows import take_rows
from facsynth.table.table import FeatureTable
from facsynth.understand.names import count_terms, name_feature
from facsynth.understand.relevance import Grade, Judgements, Relevance, judge_all
from facsynth.understand.scores import read_scores
from facsynth.understand.settings import Length, RelevanceSettings
from facsynth.understand.spans import ReadTable, collect_spans, mark_peak

__all__ = [
    "Failures",
    "failure_difference",
    "find_failures",
    "judge_by_difference",
    "judge_table",
    "label_difference",
]

_FALSE_DISCOVERY: dict[Grade, float] = {"yes": 0.001, "probably": 0.01, "maybe": 0.05}
"""Largest q-value of a grade."""


@dataclass(frozen=True, eq=False)
class Failures:
    """Samples with a score, and which of them count as failures."""

    name: str
    """Of the score."""

    scored: Bool[np.ndarray, " n_samples"]
    failed: Bool[np.ndarray, " n_samples"]
    """False where there is no score."""

    worst: float
    """The score that is still a failure: at most this, or at least where low is good."""

    lower_is_better: bool

    def sentence(self) -> str:
        """What counts as a failure, and how many there are."""
        n, n_scored = int(self.failed.sum()), int(self.scored.sum())
        side = "at least" if self.lower_is_better else "at most"
        text = (
            f"{n:,} of {n_scored:,} samples count as failures: {self.name} is {side} {self.worst:g}"
        )
        n_left = self.scored.size - n_scored
        return text + (f"; {n_left:,} samples without a score are left out" if n_left else "")


def find_failures(
    name: str,
    values: Float64[np.ndarray, " n_samples"],
    *,
    lower_is_better: bool = False,
    share: float = 0.25,
) -> Failures:
    """The samples with the worst scores.

    Of two values the worse one is a failure; of more, the worst `share` of the samples and those
    with the same score as the last of them.

    Args:
        name: Of the score.
        values: One score a sample; NaN for none.
        lower_is_better: Whether low scores are good, as losses are.
        share: Of the samples, above 0 and below 1.

    Raises:
        DataError: All scores are equal, or so many that failures and successes cannot be told.
    """
    scored = ~np.isnan(values)
    good = -values[scored] if lower_is_better else values[scored]
    levels = np.unique(good)
    if levels.size < 2:
        raise DataError(
            f"all {good.size:,} values of `{name}` are {abs(float(good[0])):g}; features of "
            "failures need samples that failed and samples that did not"
        )
    cut = levels[0] if levels.size == 2 else np.quantile(good, share, method="inverted_cdf")
    if cut == levels[-1]:
        raise DataError(
            f"the worst {share:.0%} of the samples reach the best value of `{name}`; choose a "
            "smaller --low-share"
        )
    failed = np.zeros(values.size, dtype=np.bool_)
    failed[scored] = good <= cut
    worst = float(-cut if lower_is_better else cut)
    return Failures(name, scored, failed, worst, lower_is_better)


def judge_table(
    table: FeatureTable,
    settings: RelevanceSettings,
    *,
    names: Mapping[int, str] | None = None,
    tokenizer: Any = None,
) -> Judgements:
    """Judge the features of a table by scores or a label; without either every feature counts.

    Args:
        table: The samples that were scored, or that have labels; it keeps their text.
        settings: The judge. What only an LLM needs is not read.
        names: Names by feature, from `facsynth.understand.descriptions.read_explanations`.
        tokenizer: Of the model that extracted the table; names the relevant features by the words
            at their peaks, with an example each. None leaves that out.

    Raises:
        DataError: A file or a label does not fit the samples, or they have labels and none is
            named.
    """
    chosen = own_threshold(table, given=settings.threshold)
    samples, rows = table.samples(), active_rows(table, threshold=chosen.threshold)
    labels = [sample.label for sample in samples]
    named, judge, notes = dict(names or {}), "labels", chosen.notes
    if settings.scores is not None:
        name, values = read_scores(settings.scores, samples, score=settings.score)
        failures = find_failures(
            name, values, lower_is_better=settings.lower_is_better, share=settings.low_share
        )
        found = failure_difference(rows, failures, length=settings.length)
        notes, judge = (failures.sentence(), *notes), "scores"
    elif settings.label is not None:
        found = label_difference(rows, labels, settings.label, length=settings.length)
    elif known := sorted({label for label in labels if label is not None}):
        shown = ", ".join(known[:8])
        raise DataError(f"the samples have labels ({shown}); name the task's label by --label")
    else:
        return Judgements(judge_all(rows, names=named), settings.min_grade)
    found = replace(found, names={f: (name, None) for f, name in named.items()})
    if tokenizer is not None:
        ids = [int(found.feature_ids[i]) for i in found.more_in(0)]
        spans = collect_spans(ReadTable.of(table, tokenizer), ids)
        found = replace(found, names={**found.names, **_names(spans, samples, named)})
    judged = judge_by_difference(found, judge=judge)
    return Judgements(judged, settings.min_grade, found, notes + found.notes)


def _names(
    spans: Mapping[int, Sequence[Span]], samples: Sequence[Sample], known: Mapping[int, str]
) -> dict[int, tuple[str, str | None]]:
    """Name and strongest example of features; a known name stays."""
    words = count_terms(samples)
    return {
        f: (known.get(f) or name_feature(own, words), mark_peak(own[0]) if own else None)
        for f, own in spans.items()
    }


def failure_difference(
    rows: ActiveRows, failures: Failures, *, length: Length = "matched"
) -> Difference:
    """Test every feature for firing more often where a model fails.

    Args:
        rows: Active rows of the samples that were scored.
        failures: Which of them failed; from `find_failures`.
        length: Compare samples within length groups, or all at once.

    Raises:
        DataError: Failures and successes share no length, or no feature fires.
    """
    succeeded = failures.scored & ~failures.failed
    found = _difference(rows, failures.failed, succeeded, length)
    return replace(found, sets=("failures", "successes"))


def label_difference(
    rows: ActiveRows,
    labels: Sequence[str | None],
    label: str,
    *,
    length: Length = "matched",
) -> Difference:
    """Test every feature for firing more often with a label of the anchor.

    Args:
        rows: Active rows of the anchor.
        labels: Label of each sample; samples without one are left out.
        label: The label of the task.
        length: Compare samples within length groups, or all at once.

    Raises:
        DataError: No sample has the label, or all of those with labels have it; or samples with
            and without it share no length.
    """
    values = sorted({found for found in labels if found is not None})
    if label not in values:
        raise DataError(
            f"no sample has the label {label!r}; there are {', '.join(values) or 'none'}"
        )
    if len(values) == 1:
        raise DataError(f"all samples have the label {label!r}; others are needed to compare with")
    has = np.array([found == label for found in labels], dtype=np.bool_)
    others = np.array([found not in (None, label) for found in labels], dtype=np.bool_)
    found = _difference(rows, has, others, length)
    return replace(found, sets=(label, "other labels"))


def judge_by_difference(found: Difference, *, judge: str) -> list[Relevance]:
    """Grade every feature that was tested, the strongest evidence first.

    yes, probably and maybe are q-values (false discovery rates) up to 0.001, 0.01 and 0.05, with
    log odds above 0.

    Args:
        found: A test of samples that matter against others.
        judge: What told them apart: `labels` or `scores`.
    """
    order = np.lexsort((found.feature_ids, -found.log_odds, found.p_value))
    return [_judgement(found, int(i), judge) for i in order]


def _judgement(found: Difference, i: int, judge: str) -> Relevance:
    feature, (one, other) = int(found.feature_ids[i]), found.sets
    odds, q = float(found.log_odds[i]), float(found.q_value[i])
    name, example = found.names.get(feature, ("", None))
    reason = (
        f"log-odds {odds:+.2f}, q {q:.2g}: active in {found.n_a[i]:,} of {found.n_samples[0]:,} "
        f"({one}) and {found.n_b[i]:,} of {found.n_samples[1]:,} ({other})"
    )
    grade = _grade(q, odds)
    test = (odds, q, example, found.threshold)
    return Relevance(feature, grade, reason, name, judge, None, *test)


def _difference(
    rows: ActiveRows,
    one: Bool[np.ndarray, " n_samples"],
    other: Bool[np.ndarray, " n_samples"],
    length: Length,
) -> Difference:
    a, b = (
        active_rows(
            take_rows(rows.activations, np.flatnonzero(side)),
            threshold=rows.threshold,
            relevant=rows.relevant,
        )
        for side in (one, other)
    )
    return compare_features(a, b, DiffSettings(length=length, fdr=max(_FALSE_DISCOVERY.values())))


def _grade(q: float, log_odds: float) -> Grade:
    if log_odds <= 0:
        return "no"
    return next((grade for grade, limit in _FALSE_DISCOVERY.items() if q <= limit), "no")
