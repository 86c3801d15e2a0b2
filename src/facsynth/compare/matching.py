"""The features of two tables whose activations correlate most, without a table of all pairs.

Products of features are made in tiles, over blocks of samples where both tables are dense.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float64, Int64

__all__ = ["best_matches", "common_features", "pair_correlations"]

_TILE_VALUES = 2**23
"""Products that exist at once: 64 MiB."""

_BLOCK_SAMPLES = 4096
"""Samples of a block where activations are dense."""

_DENSE = 0.004
"""Product of the densities above which dense blocks are faster than sparse products."""


def best_matches(
    a: Any,
    b: Any,
    usable: tuple[Bool[np.ndarray, " n_features_a"], Bool[np.ndarray, " n_features_b"]],
) -> tuple[Int64[np.ndarray, " n_features_a"], Int64[np.ndarray, " n_features_b"]]:
    """The features of two tables whose activations correlate most, from each side.

    Returns:
        For every feature of A the feature of B with the highest Pearson correlation, of equal ones
        the first, and the same for B; -1 for features that are not compared.
    """
    n = a.shape[0]
    ids_a, ids_b = (np.flatnonzero(flags) for flags in usable)
    partners = [np.full(matrix.shape[1], -1, dtype=np.int64) for matrix in (a, b)]
    if ids_a.size and ids_b.size:
        columns, other = sp.csc_array(a)[:, ids_a], sp.csr_array(sp.csc_array(b)[:, ids_b])
        mean_a, sd_a = _moments(columns)
        mean_b, sd_b = _moments(other)
        highest = np.full(ids_b.size, -np.inf)
        for tile, products in _tiles(columns, other):
            r = products
            r /= n
            r -= np.outer(mean_a[tile], mean_b)
            r /= sd_a[tile, None]
            r /= sd_b
            partners[0][ids_a[tile]] = ids_b[r.argmax(axis=1)]
            back = r.argmax(axis=0)
            top = r[back, np.arange(ids_b.size)]
            better = top > highest
            highest[better] = top[better]
            partners[1][ids_b[better]] = ids_a[tile][back[better]]
    return partners[0], partners[1]


def pair_correlations(
    a: Any, b: Any, weights: Float64[np.ndarray, "n_samples n_resamples"]
) -> Float64[np.ndarray, "n_pairs n_resamples"]:
    """Pearson correlation of column i of `a` with column i of `b`, for weighted samples.

    Returns:
        Correlations; 0 where a feature does not vary among the samples drawn.
    """
    total = weights.sum(axis=0)
    mean_a, mean_b, square_a, square_b, product = (
        (matrix.T @ weights) / total for matrix in (a, b, a * a, b * b, a * b)
    )
    spread = np.clip(square_a - mean_a**2, 0, None) * np.clip(square_b - mean_b**2, 0, None)
    varies = spread > 1e-12 * np.maximum(square_a * square_b, 1e-300)
    found: Float64[np.ndarray, "n_pairs n_resamples"] = np.where(
        varies, (product - mean_a * mean_b) / np.sqrt(np.where(varies, spread, 1.0)), 0.0
    )
    return found


def common_features(matrix: Any, min_samples: int) -> Bool[np.ndarray, " n_features"]:
    """Features active in enough samples whose activations vary."""
    counts = np.bincount(matrix.indices, minlength=matrix.shape[1])
    kept: Bool[np.ndarray, " n_features"] = (counts >= min_samples) & (_moments(matrix)[1] > 0)
    return kept


def _moments(matrix: Any) -> tuple[Float64[np.ndarray, " n"], Float64[np.ndarray, " n"]]:
    """Mean and standard deviation of each column; 0 where rounding leaves no more."""
    n = matrix.shape[0]
    mean = np.asarray(matrix.sum(axis=0)) / n
    square = np.asarray((matrix * matrix).sum(axis=0)) / n
    variance = square - mean**2
    return mean, np.sqrt(np.where(variance > 1e-12 * square, variance, 0.0))


def _tiles(a: Any, b: Any) -> Iterator[tuple[slice, Float64[np.ndarray, "_ n_features_b"]]]:
    """aᵀb, some columns of `a` at a time; by dense blocks of samples where both are dense."""
    size = max(1, _TILE_VALUES // b.shape[1])
    cells = max(1, a.shape[0] * a.shape[1]), max(1, b.shape[0] * b.shape[1])
    is_dense = (a.nnz / cells[0]) * (b.nnz / cells[1]) > _DENSE
    for start in range(0, a.shape[1], size):
        tile = slice(start, min(start + size, a.shape[1]))
        part = a[:, tile]
        yield tile, _dense_product(sp.csr_array(part), b) if is_dense else (part.T @ b).toarray()


def _dense_product(a: Any, b: Any) -> Float64[np.ndarray, "n_features_a n_features_b"]:
    found = np.zeros((a.shape[1], b.shape[1]))
    for start in range(0, a.shape[0], _BLOCK_SAMPLES):
        rows = slice(start, start + _BLOCK_SAMPLES)
        found += a[rows].toarray().T @ b[rows].toarray()
    return found
