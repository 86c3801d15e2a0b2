"""The vectors that choices and directions are taken of, one row per sample.

They are rows of ones where features fire (`FiringRows`), dense hidden states, or differences of
either (SciPy's sparse rows, or dense).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from jaxtyping import Float64
from numpy.typing import NDArray
from scipy.sparse import issparse

from facsynth.table.firing import FiringRows

__all__ = [
    "as_rows",
    "column_sums",
    "cosine",
    "dense_row",
    "products",
    "square_norms",
    "take",
]


def as_rows(vectors: Any) -> Any:
    """The vectors as SciPy's sparse rows, or dense ones as they are."""
    return vectors.csr(np.float64) if isinstance(vectors, FiringRows) else vectors


def take(vectors: Any, rows: NDArray[np.int64]) -> Any:
    """The vectors of some samples."""
    return vectors.take(rows) if isinstance(vectors, FiringRows) else vectors[rows]


def column_sums(
    vectors: Any, weights: Sequence[NDArray[np.bool_] | NDArray[np.float64]]
) -> Float64[np.ndarray, "n_weightings d"]:
    """Sum of the vectors, times the weight of each sample, for several weightings."""
    if isinstance(vectors, FiringRows):
        return vectors.sum_samples(weights)
    columns = np.stack(weights, axis=1).astype(np.float64)
    sums: NDArray[np.float64] = np.asarray(vectors.T @ columns).T
    return sums


def products(vectors: Any, weights: Float64[np.ndarray, " d"]) -> Float64[np.ndarray, " n_samples"]:
    """Product of each vector with one of weights."""
    if isinstance(vectors, FiringRows):
        return vectors.sum_features(weights)
    found: NDArray[np.float64] = np.asarray(vectors @ weights, dtype=np.float64)
    return found


def dense_row(vectors: Any, row: int) -> Float64[np.ndarray, " d"]:
    """The vector of one sample."""
    if isinstance(vectors, FiringRows):
        found = np.zeros(vectors.n_features)
        found[vectors.row(row)] = 1.0
        return found
    return np.asarray(vectors[[row]].sum(axis=0), dtype=np.float64).ravel()


def cosine(one: Any, other: Any) -> float:
    """Cosine of two arrays of one shape, in [-1, 1]; 0 where one of them is zero."""
    norms = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(np.clip((one * other).sum() / norms, -1.0, 1.0)) if norms else 0.0


def square_norms(vectors: Any) -> Float64[np.ndarray, " n_samples"]:
    """Squared length of each vector."""
    if isinstance(vectors, FiringRows):
        return vectors.lengths.astype(np.float64)
    squares = vectors.multiply(vectors) if issparse(vectors) else vectors * vectors
    norms: NDArray[np.float64] = np.asarray(squares.sum(axis=1), dtype=np.float64).ravel()
    return norms
