"""Labelled texts with two classes, read from samples or from a suite such as HateCheck."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool

from facsynth.data.read import read_placed_rows
from facsynth.data.settings import ReadSettings
from facsynth.data.shapes import read_row
from facsynth.errors import DataError
from facsynth.records import Sample

__all__ = ["LabelledTexts", "positive_labels", "read_labelled"]

POSITIVE_WORDS = frozenset(
    ["1", "true", "yes", "positive", "toxic", "hateful", "hate", "harmful", "unsafe", "offensive"]
)
"""Labels that mean the positive class where nobody says which one does."""

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
    *,
    positive: str | None = None,
    text_field: str | None = None,
    label_field: str | None = None,
    group_field: str | None = None,
    all_positive: bool = False,
    split: str = "train",
    limit: int | None = None,
) -> LabelledTexts:
    """Read samples and their classes.

    Args:
        source: What `read_samples` takes, or a suite with `test_case` and `label_gold`.
        positive: Label of the positive class; without it, one of `POSITIVE_WORDS`.
        text_field: Field of the text, where it is not found by itself.
        label_field: Field of the label; `label` by default.
        group_field: Field with what a sample tests; `functionality` where rows have it.
        all_positive: Labels are not read: every sample is positive.
        split: Split of a Hub data set.
        limit: Read the first `limit` rows only.

    Raises:
        DataError: There is nothing to read, a label is missing, or labels are not binary.
    """
    samples, groups = [], []
    for row in read_placed_rows(source, ReadSettings(split=split, limit=limit)):
        fields: Any = row.value if isinstance(row.value, dict) else {}
        is_suite = text_field is None and all(fields.get(name) is not None for name in _SUITE)
        text, label = _SUITE if is_suite else (text_field, None)
        settings = ReadSettings(text_field=text, label_field=label_field or label)
        samples.append(read_row(row, settings).sample)
        group = fields.get(group_field or "functionality")
        if group_field and group is None:
            raise DataError(f"{row.place}: no field `{group_field}`, which --group-field names")
        groups.append(None if group is None else str(group))
    if not samples:
        raise DataError(f"no samples in {source}; it holds no rows")
    if all_positive:
        flags = np.ones(len(samples), dtype=np.bool_)
    else:
        flags = positive_labels(samples, source, positive=positive)
    return LabelledTexts(tuple(samples), flags, tuple(groups))


def positive_labels(
    samples: Sequence[Sample], source: str, *, positive: str | None = None
) -> Bool[np.ndarray, " n_samples"]:
    """Which samples belong to the positive class.

    Raises:
        DataError: A sample has no label, there are more than two labels, or it is unclear which
            label is the positive one.
    """
    for sample in samples:
        if sample.label is None:
            raise DataError(
                f"sample {sample.sample_id!r} of {source} has no label; name its field with "
                "--label-field, or pass --all-positive (with --safe) if every sample is positive"
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
                f"{source} has the labels {', '.join(names)}, of which none or both may be the "
                "positive one; name it with --positive"
            )
        positive = found[0]
    elif positive not in names:
        raise DataError(
            f"{source} has the labels {', '.join(names)} and not {positive!r}; check --positive"
        )
    return np.array([sample.label == positive for sample in samples], dtype=np.bool_)
