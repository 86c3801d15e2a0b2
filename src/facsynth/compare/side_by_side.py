"""Diversity of several data sets side by side, at equal numbers of samples."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64
from numpy.typing import NDArray
from scipy.sparse import csr_array

from facsynth.compare.diversity import (
    Estimate,
    distinct_n,
    find_clusters,
    measure_draws,
    measure_texts,
    measure_vectors,
)
from facsynth.coverage.fac import active_only, check_widths, firing_counts, goal_features
from facsynth.coverage.representative import hellinger_distance
from facsynth.errors import DataError
from facsynth.records import FeatureActivations

__all__ = ["CompareSettings", "DataSet", "SetDiversity", "compare_diversity"]


@dataclass(frozen=True, slots=True)
class CompareSettings:
    """How data sets are drawn from and measured."""

    max_samples: int = 1000
    """Samples measured at a time, at most; fewer when a data set has fewer."""

    n_draws: int = 5
    """Random draws from a data set that is larger than that, at least two."""

    n_clusters: int = 20
    """Clusters of cluster entropy, found on all data sets together."""

    threshold: float = 1.0
    """Activation above which (strictly) a feature is active in FAC and closeness, in SAE units."""

    random_seed: int = 0

    def __post_init__(self) -> None:
        """Refuse sizes that measure nothing."""
        if self.max_samples < 2 or self.n_draws < 2 or self.n_clusters < 1:
            raise DataError(
                f"max_samples {self.max_samples}, n_draws {self.n_draws}, n_clusters "
                f"{self.n_clusters}: the first two are at least 2, the last at least 1"
            )


@dataclass(frozen=True)
class DataSet:
    """What is measured of one data set."""

    texts: tuple[str, ...]
    activations: FeatureActivations | None = None
    """Row `i` belongs to text `i`."""

    vectors: Float64[np.ndarray, "n_texts d"] | None = None
    """Embeddings of the texts; taken for the vector measures in place of the activations."""

    tags: tuple[tuple[str, ...], ...] | None = None
    """Part-of-speech tags of the words of each text."""


@dataclass(frozen=True)
class SetDiversity:
    """One column of the comparison."""

    n_samples: int
    n_measured: int
    """Samples in each draw, equal for all data sets."""

    n_silent: int
    """Samples that activate nothing; they have no vector and count in text measures only."""

    metrics: dict[str, Estimate]
    """`hellinger` and `fac` with an anchor; text measures; vector measures with activations."""


def compare_diversity(
    sets: Sequence[DataSet],
    settings: CompareSettings,
    *,
    anchor: FeatureActivations | None = None,
) -> tuple[SetDiversity, ...]:
    """Measure every data set on random draws of the size of the smallest.

    Vectors are the embeddings where there are some, else the pooled activations of the samples,
    above 0 and not centred; the draws of all
    measures are the same. FAC and closeness to the anchor are measured on the draws as well, so
    FAC is lower, and the distance larger, than those of a whole data set that is larger.

    Args:
        sets: Data sets, all with activations or all without.
        settings: Sizes, threshold and seed.
        anchor: Table to measure FAC and closeness against; needs activations.

    Returns:
        One column per data set, in order.

    Raises:
        DataError: A data set has fewer than two samples with words or with activations, texts and
            activations differ in number, or the anchor activates nothing.
        MismatchError: Tables differ in their number of features.
    """
    _check(sets, anchor)
    size = min(settings.max_samples, *(len(one.texts) for one in sets))
    rng = np.random.default_rng(settings.random_seed)
    matrices: list[Any] = [_vector_rows(one) for one in sets]
    centres = None
    if matrices[0] is not None:
        columns = np.unique(np.concatenate([matrix.indices for matrix in matrices]))
        matrices = [matrix[:, columns] for matrix in matrices]
        centres = _shared_clusters(matrices, size, settings, rng)
    found = []
    for one, matrix in zip(sets, matrices, strict=True):
        goal = _Goal(one.activations, anchor, settings.threshold) if anchor else None
        measured = _Measured(one, goal, matrix, centres)
        n = len(one.texts)
        metrics = measure_draws(measured, n, size=size, n_draws=settings.n_draws, rng=rng)
        n_silent = 0 if matrix is None else int((np.diff(matrix.indptr) == 0).sum())
        found.append(SetDiversity(n, size, n_silent, metrics))
    return tuple(found)


@dataclass(frozen=True)
class _Measured:
    """All measures of parts of one data set."""

    data: DataSet
    goal: "_Goal | None"
    matrix: Any
    centres: Float64[np.ndarray, "n_clusters d"] | None

    def __call__(self, rows: NDArray[np.int64]) -> dict[str, float]:
        metrics = self.goal.measure(rows) if self.goal else {}
        metrics |= measure_texts([self.data.texts[i] for i in rows])
        if self.data.tags is not None:
            metrics["pos_distinct_2"] = distinct_n([self.data.tags[i] for i in rows], 2)
        if self.centres is not None:
            metrics |= measure_vectors(_vectors(self.matrix, rows), self.centres)
        return metrics


class _Goal:
    """FAC and closeness of parts of one data set to the anchor."""

    def __init__(
        self, rows: FeatureActivations | None, anchor: FeatureActivations, threshold: float
    ) -> None:
        assert rows is not None  # _check has seen to it
        self._fires = _matrix(active_only(rows, threshold=threshold))
        self._counts = firing_counts(anchor, threshold=threshold)
        self._goal = goal_features(self._counts > 0, np.ones(anchor.n_features, dtype=np.bool_))

    def measure(self, rows: NDArray[np.int64]) -> dict[str, float]:
        drawn = np.bincount(self._fires[rows].indices, minlength=self._counts.size)
        distance = hellinger_distance(drawn, self._counts) if drawn.any() else 1.0
        covered = int(np.count_nonzero(self._goal & (drawn > 0)))
        return {"hellinger": distance, "fac": covered / int(np.count_nonzero(self._goal))}


def _vector_rows(one: DataSet) -> Any:
    """Sparse rows that the vector measures are taken of; None when there are none."""
    if one.vectors is not None:
        return csr_array(one.vectors.astype(np.float64))
    return _matrix(one.activations) if one.activations else None


def _check(sets: Sequence[DataSet], anchor: FeatureActivations | None) -> None:
    for one in sets:
        if len(one.texts) < 2:
            raise DataError(f"a data set has {len(one.texts)} samples; diversity needs two")
        for beside in (one.vectors, one.tags):
            if beside is not None and len(beside) != len(one.texts):
                raise DataError(
                    f"{len(one.texts)} texts and {len(beside)} vectors or tags; give one for each"
                )
        if one.activations is None:
            if anchor is not None or any(other.activations for other in sets):
                raise DataError("activations are needed of all data sets, or of none")
            continue
        if one.activations.n_tokens.size != len(one.texts):
            raise DataError(
                f"{len(one.texts)} texts and {one.activations.n_tokens.size} rows of activations; "
                "extract the same samples that are measured"
            )
        for other in (anchor, sets[0].activations):
            if other is not None:
                check_widths(other, one.activations, np.ones(other.n_features, dtype=np.bool_))


def _matrix(rows: FeatureActivations) -> Any:
    shape = (rows.n_tokens.size, rows.n_features)
    ids = rows.feature_ids.astype(np.int32)
    return csr_array((rows.values.astype(np.float64), ids, rows.row_starts), shape=shape)


def _vectors(matrix: Any, rows: NDArray[np.int64]) -> Float64[np.ndarray, "n_rows d"]:
    """Dense rows of the samples that activate something."""
    part = matrix[rows]
    loud = np.flatnonzero(np.diff(part.indptr))
    if loud.size < 2:
        raise DataError(
            f"{loud.size} of {rows.size} samples activate a feature; vector measures need two, so "
            "leave the tables out or raise --sample"
        )
    vectors: NDArray[np.float64] = part[loud].toarray()
    return vectors


def _shared_clusters(
    matrices: Sequence[Any], size: int, settings: CompareSettings, rng: np.random.Generator
) -> Float64[np.ndarray, "n_clusters d"]:
    """Clusters of equally many samples of each data set, at most `max_samples` in all."""
    each = max(2, min(size, settings.max_samples // len(matrices)))
    loud = [np.flatnonzero(np.diff(matrix.indptr)) for matrix in matrices]
    fewest = min(rows.size for rows in loud)
    if fewest < 2:
        raise DataError(
            f"{fewest} samples of a data set activate a feature; vector measures need two, so "
            "leave the tables out"
        )
    drawn = [
        matrix[rng.choice(rows, min(each, rows.size), replace=False)].toarray()
        for matrix, rows in zip(matrices, loud, strict=True)
    ]
    return find_clusters(
        np.concatenate(drawn), n_clusters=settings.n_clusters, seed=settings.random_seed
    )
