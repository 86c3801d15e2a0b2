"""Diversity of several data sets side by side, at equal numbers of samples."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64
from numpy.typing import NDArray
from scipy.sparse import csr_array, vstack

from facsynth.compare.diversity import (
    Estimate,
    draw_parts,
    find_clusters,
    measure_draws,
    measure_texts,
    measure_vectors,
)
from facsynth.compare.settings import DiversitySettings
from facsynth.coverage.fac import goal_features
from facsynth.coverage.representative import hellinger_distance
from facsynth.errors import DataError
from facsynth.show import TextTable, as_html
from facsynth.table.active import ActiveRows, check_same_width

__all__ = ["MEASURES", "DataSet", "Diversity", "SetDiversity", "compare_diversity"]

MEASURES = {
    "hellinger": "closeness: Hellinger distance to the anchor (0 best)",
    "fac": "FAC (1 best)",
    "mean_words": "mean words",
    "distinct_1": "Distinct-1 (higher is more diverse)",
    "distinct_2": "Distinct-2 (higher)",
    "unigram_entropy": "unigram entropy, bits (higher)",
    "bigram_entropy": "bigram entropy, bits (higher)",
    "self_bleu": "Self-BLEU-4 (lower)",
    "compression_ratio": "compression ratio (lower)",
    "cosine_distance": "cosine distance of vectors (higher)",
    "vendi": "Vendi score of vectors (higher)",
    "cluster_entropy": "semantic (cluster) entropy of vectors, bits (higher)",
}
"""Titles of all measures, in the order in which they are shown."""


@dataclass(frozen=True)
class DataSet:
    """What is measured of one data set."""

    name: str
    texts: tuple[str, ...]
    active: ActiveRows | None = None
    """Active features of each text, for closeness and FAC."""

    vectors: Any = None
    """A vector of each text (n_texts, d), sparse or dense, or the active rows that it is read from;
    None leaves the vector measures out."""


@dataclass(frozen=True)
class SetDiversity:
    """One column of the comparison."""

    name: str
    n_samples: int
    n_measured: int
    """Samples in each draw, equal for all data sets."""

    n_draws: int
    """1 where a draw holds all samples."""

    n_silent: int
    """Samples whose vector is zero; they count in text measures only."""

    metrics: dict[str, Estimate]
    """`hellinger` and `fac` with an anchor; text measures; vector measures with vectors."""


@dataclass(frozen=True)
class Diversity:
    """The diversity of several data sets."""

    sets: tuple[SetDiversity, ...]
    vectors: str | None
    """What the vectors are, in words; None without vector measures."""

    threshold: float | None
    """δ of closeness and FAC, in SAE units; None without an anchor."""

    settings: DiversitySettings

    def row(self) -> dict[str, Any]:
        """One entry for each data set in `sets`; every measure with its standard error."""
        return {
            "sets": [asdict(one) for one in self.sets],
            "vectors": self.vectors,
            "threshold": self.threshold,
            "settings": asdict(self.settings),
        }

    def tables(self) -> Sequence[TextTable]:
        """One column per data set, closeness first, sizes last."""
        rows: list[tuple[object, ...]] = [
            (title, *(_cell(one.metrics[name]) for one in self.sets))
            for name, title in MEASURES.items()
            if name in self.sets[0].metrics
        ]
        sizes = {"samples": "n_samples", "measured at a time": "n_measured", "draws": "n_draws"}
        if self.vectors:
            sizes["samples without a vector"] = "n_silent"
        rows += [(title, *(getattr(one, key) for one in self.sets)) for title, key in sizes.items()]
        columns = ("measure", *(one.name for one in self.sets))
        note = (
            "No measure here says that a data set trains a better model; differences below two "
            "standard errors (±) are chance. `fac coverage` shows what a set lacks of a domain."
        )
        return [TextTable("Diversity at equal numbers of samples", columns, rows, note=note)]

    _repr_html_ = as_html


def compare_diversity(
    sets: Sequence[DataSet],
    settings: DiversitySettings | None = None,
    *,
    anchor: ActiveRows | None = None,
    vectors: str = "pooled feature activations",
) -> Diversity:
    """Measure every data set on random draws of the size of the smallest.

    The draws of all measures are the same. FAC and closeness to the anchor are measured on the
    draws as well, so FAC is lower, and the distance larger, than those of a whole data set that
    is larger.

    Args:
        sets: Data sets, all with vectors or all without.
        settings: Sizes and the random seed.
        anchor: Table to measure FAC and closeness against; needs the active rows of the sets.
        vectors: What the vectors are, for the result.

    Raises:
        DataError: A data set has fewer than two samples with words or with vectors, texts and
            rows differ in number, or the anchor activates nothing.
        MismatchError: Tables differ in their number of features.
    """
    settings = settings or DiversitySettings()
    _check(sets, anchor)
    size = min(settings.sample, *(len(one.texts) for one in sets))
    rng = np.random.default_rng(settings.random_seed)
    matrices: list[Any] = [None] * len(sets)
    loud, centres = [_loud(one) for one in sets], None
    each = max(2, min(size, settings.sample // len(sets))) if sets[0].vectors is not None else 0
    few = [rng.choice(rows, min(each, rows.size), replace=False) for rows in loud if each]
    draws = [draw_parts(len(one.texts), size=size, n_draws=settings.draws, rng=rng) for one in sets]
    if each:
        matrices, centres = _clusters(sets, few, draws, settings)
    found = []
    for one, matrix, drawn, heard in zip(sets, matrices, draws, loud, strict=True):
        n = len(one.texts)
        metrics = measure_draws(_Measures(one, anchor, matrix, centres), drawn)
        n_silent = 0 if matrix is None else n - heard.size
        found.append(SetDiversity(one.name, n, size, len(drawn), n_silent, metrics))
    return Diversity(
        sets=tuple(found),
        vectors=None if centres is None else vectors,
        threshold=anchor.threshold if anchor else None,
        settings=settings,
    )


def _clusters(
    sets: Sequence[DataSet],
    clustered: Sequence[NDArray[np.int64]],
    draws: Sequence[Sequence[NDArray[np.int64]]],
    settings: DiversitySettings,
) -> tuple[list[Any], Float64[np.ndarray, "n_clusters d"]]:
    """The vectors of all rows that are drawn, and clusters of those to cluster."""
    matrices = _drawn_vectors(
        sets, [[few, *many] for few, many in zip(clustered, draws, strict=True)]
    )
    to_cluster = [_loud_vectors(*pair) for pair in zip(matrices, clustered, strict=True)]
    centres = find_clusters(
        vstack(to_cluster, format="csr"),
        n_clusters=settings.clusters,
        random_seed=settings.random_seed,
    )
    return matrices, centres


@dataclass(frozen=True)
class _Measures:
    """All measures of parts of one data set."""

    data: DataSet
    anchor: ActiveRows | None
    matrix: "_Drawn | None"
    centres: Float64[np.ndarray, "n_clusters d"] | None

    def __call__(self, rows: NDArray[np.int64]) -> dict[str, float]:
        metrics = self._against(self.anchor, rows) if self.anchor else {}
        metrics |= measure_texts([self.data.texts[i] for i in rows])
        if self.matrix is not None and self.centres is not None:
            metrics |= measure_vectors(_loud_vectors(self.matrix, rows), self.centres)
        return metrics

    def _against(self, anchor: ActiveRows, rows: NDArray[np.int64]) -> dict[str, float]:
        assert self.data.active is not None  # _check has seen to it
        goal = goal_features(anchor.features, anchor.relevant)
        drawn = self.data.active.firing.take(rows).counts()
        distance = hellinger_distance(drawn, anchor.counts)
        covered = int(np.count_nonzero(goal & (drawn > 0)))
        return {"hellinger": distance, "fac": covered / int(np.count_nonzero(goal))}


def _check(sets: Sequence[DataSet], anchor: ActiveRows | None) -> None:
    for one in sets:
        n = len(one.texts)
        if n < 2:
            raise DataError(f"a data set has {n} samples; diversity needs two")
        n_active = n if one.active is None else one.active.n_samples
        n_vectors = n if one.vectors is None else _n_rows(one.vectors)
        for n_rows in sorted({n_active, n_vectors} - {n}):
            raise DataError(
                f"{n} texts and {n_rows} rows of features or vectors; give one for each"
            )
        if (one.vectors is None) != (sets[0].vectors is None):
            raise DataError("vectors are needed of all data sets, or of none")
        if anchor and one.active is None:
            raise DataError("closeness to an anchor needs the feature table of every data set")
        if anchor and one.active:
            check_same_width(anchor, one.active)


@dataclass(frozen=True)
class _Drawn:
    """The vectors of the samples of some draws."""

    rows: NDArray[np.int64]
    """Positions of these samples, ascending."""

    matrix: Any
    """Their sparse vectors."""

    def of(self, rows: NDArray[np.int64]) -> Any:
        return self.matrix[np.searchsorted(self.rows, rows)]


def _n_rows(vectors: Any) -> int:
    return vectors.n_samples if isinstance(vectors, ActiveRows) else int(vectors.shape[0])


def _loud(one: DataSet) -> NDArray[np.int64]:
    """Positions of the samples whose vector is not zero; none without vectors."""
    if one.vectors is None:
        return np.zeros(0, dtype=np.int64)
    if isinstance(one.vectors, ActiveRows):
        return np.flatnonzero(one.vectors.firing.lengths)
    return np.flatnonzero(np.diff(csr_array(one.vectors).indptr))


def _drawn_vectors(
    sets: Sequence[DataSet], draws: Sequence[Sequence[NDArray[np.int64]]]
) -> list[_Drawn]:
    """The vectors that the draws of each set need."""
    rows = [np.unique(np.concatenate(drawn)) for drawn in draws]
    found = [_vectors(one.vectors, wanted) for one, wanted in zip(sets, rows, strict=True)]
    return [_Drawn(*pair) for pair in zip(rows, found, strict=True)]


def _vectors(vectors: Any, rows: NDArray[np.int64]) -> Any:
    if not isinstance(vectors, ActiveRows):
        return csr_array(vectors, dtype=np.float64)[rows]
    read = vectors.read_rows(rows)
    parts = (read.values.astype(np.float64), read.feature_ids.astype(np.int64), read.row_starts)
    return csr_array(parts, shape=(rows.size, vectors.n_features))


def _loud_vectors(drawn: _Drawn, rows: NDArray[np.int64]) -> csr_array:
    """The vectors of the samples whose vector is not zero."""
    part = drawn.of(rows)
    loud = np.flatnonzero(np.diff(part.indptr))
    if loud.size < 2:
        raise DataError(
            f"{loud.size} samples of a data set activate a feature; vector measures need two, so "
            "measure the texts alone or raise --sample"
        )
    return part[loud]


def _cell(found: Estimate) -> str:
    error = found.standard_error
    return f"{found.value:.3f}" + (f" ± {error:.3f}" if error is not None else "")
