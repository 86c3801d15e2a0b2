"""Labelled texts with two classes, read from samples or from a suite such as HateCheck."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool

from facsynth.data.read import open_samples
from facsynth.data.report import ReadReport
from facsynth.data.settings import ReadSettings
from facsynth.data.shapes import PlacedRow, Reading, read_row
from facsynth.errors import DataError
from facsynth.records import Sample
from facsynth.tasks.toxicity.settings import LabelFields

__all__ = ["LabelledTexts", "positive_labels", "read_labelled"]

POSITIVE_WORDS = frozenset(
    ["1", "true", "yes", "positive", "toxic", "hateful", "hate", "harmful", "unsafe", "offensive"]
)
"""Labels of the positive class where the user names none."""

_NO_LABEL = {"", "nan", "null", "none", "n/a"}
"""What programs write for a label that is missing."""

_SUITE = ("test_case", "label_gold")
"""Fields of a HateCheck-style suite: the text and its label."""


@dataclass(frozen=True)
class LabelledTexts:
    """Samples with their classes."""

    samples: tuple[Sample, ...]
    positive: Bool[np.ndarray, " n_samples"]
    groups: tuple[str | None, ...]
    """Functionality that each sample tests, where the suite names one."""


def read_labelled(
    source: str,
    fields: LabelFields | None = None,
    *,
    all_positive: bool = False,
    reading: ReadSettings | None = None,
    rejected: Path | None = None,
    on_read: Callable[[ReadReport], None] | None = None,
) -> LabelledTexts:
    """Read samples and their classes.

    Args:
        source: What `read_samples` takes, or a suite with `test_case` and `label_gold`.
        fields: Where text, class and group of a sample are.
        all_positive: Every sample is positive; labels are not read.
        reading: How the rows are read.
        rejected: Where rows that are skipped are written.
        on_read: Gets what was read, and what was not.

    Raises:
        DataError: There is nothing to read, a label is missing, or labels are not binary.
    """
    fields = fields or LabelFields()
    stream = open_samples(source, reading, rejected=rejected, reader=partial(_read, fields))
    samples, groups = [], []
    for row, found in stream.rows():
        samples.append(found.sample)
        group = _group(row, fields)
        groups.append(None if group is None else str(group))
    if on_read:
        on_read(stream.report)
    if all_positive:
        flags = np.ones(len(samples), dtype=np.bool_)
    else:
        flags = positive_labels(samples, source, positive=fields.positive)
    return LabelledTexts(tuple(samples), flags, tuple(groups))


def _read(fields: LabelFields, row: PlacedRow, reading: ReadSettings) -> Reading:
    values: Any = row.value if isinstance(row.value, dict) else {}
    text, label = fields.text_field, fields.label_field
    if text is None and all(values.get(name) is not None for name in _SUITE):
        text, label = _SUITE[0], label or _SUITE[1]
    _group(row, fields)
    if text is None and label is None:
        return read_row(row, reading)
    text, label = text or reading.text_field, label or reading.label_field
    return read_row(row, replace(reading, text_field=text, label_field=label))


def _group(row: PlacedRow, fields: LabelFields) -> object:
    values: Any = row.value if isinstance(row.value, dict) else {}
    group = values.get(fields.group_field or "functionality")
    if fields.group_field and group is None:
        raise DataError(f"{row.place}: no field `{fields.group_field}` (--group-field)")
    return group


def positive_labels(
    samples: Sequence[Sample], source: str, *, positive: str | None = None
) -> Bool[np.ndarray, " n_samples"]:
    """Which samples belong to the positive class.

    Raises:
        DataError: A sample has no label, there are more than two labels, or it is unclear which
            label is the positive one.
    """
    for sample in samples:
        if sample.label is None or sample.label.strip().lower() in _NO_LABEL:
            raise DataError(
                f"sample {sample.sample_id!r} of {source} has no label; name its field with "
                "--label-field, or pass --all-positive with --safe if every sample is positive"
            )
    names = sorted({str(sample.label) for sample in samples})
    if len(names) > 2:
        shown = ", ".join(names[:5]) + (", …" if len(names) > 5 else "")
        raise DataError(
            f"{source} has {len(names)} labels ({shown}), but the task is binary; map them to two"
        )
    if positive is None:
        found = [name for name in names if name.strip().lower() in POSITIVE_WORDS]
        if len(found) != 1:
            raise DataError(
                f"{source} has the labels {', '.join(names)}, and it is not clear which one is "
                "positive; name it with --positive"
            )
        positive = found[0]
    elif positive not in names:
        raise DataError(
            f"{source} has the labels {', '.join(names)}, but not {positive!r}; check --positive"
        )
    return np.array([sample.label == positive for sample in samples], dtype=np.bool_)
