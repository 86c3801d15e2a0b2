"""Scores of models on the samples of a benchmark."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float64

from facsynth.data.read import read_rows
from facsynth.errors import DataError

__all__ = ["read_scores"]

_ID_FIELDS = ("sample_id", "id")


def read_scores(
    path: str | Path, sample_ids: Sequence[str]
) -> dict[str, Float64[np.ndarray, " n_samples"]]:
    """Read one score per sample and model.

    Args:
        path: A file of rows, such as `.csv` or `.jsonl`: one row per sample with `sample_id` (or
            `id`), and one column per model with a number.
        sample_ids: The samples wanted; rows of other samples are left out.

    Returns:
        By model, the scores in the order of `sample_ids`.

    Raises:
        DataError: A sample has no row or two, or a score is not a finite number.
    """
    path = Path(path)
    wanted = {sample_id: i for i, sample_id in enumerate(sample_ids)}
    found: dict[str, Float64[np.ndarray, " n_samples"]] = {}
    seen = set()
    for place, row in read_rows(path):
        name = next((str(row[field]) for field in _ID_FIELDS if row.get(field) is not None), None)
        if name is None:
            raise DataError(f"{place}: no `sample_id` or `id`")
        if name not in wanted:
            continue
        if name in seen:
            raise DataError(f"{place}: sample {name!r} has two rows")
        seen.add(name)
        for model in set(row) - set(_ID_FIELDS):
            scores = found.setdefault(model, np.full(len(sample_ids), np.nan))
            scores[wanted[name]] = _number(row[model], f"{place}, `{model}`")
    for model, scores in found.items():
        if np.isnan(scores).any():
            lacking = sample_ids[int(np.flatnonzero(np.isnan(scores))[0])]
            raise DataError(f"{path} has no score of {model!r} for sample {lacking!r}; add it")
    if not found:
        raise DataError(f"{path} has no score for any sample of the table; compare the ids")
    return dict(sorted(found.items()))


def _number(value: object, place: str) -> float:
    try:
        number = float(value)  # type: ignore[arg-type]  # what cannot be one raises
    except (TypeError, ValueError) as error:
        raise DataError(f"{place}: a number was expected, found {str(value)[:40]!r}") from error
    if not math.isfinite(number):
        raise DataError(f"{place}: {number} is not a finite number")
    return number
