"""Where samples and features stand on the map: nearby points fire, or are fired, alike.

The counts are weighted by rarity (TF-IDF) and reduced by a truncated SVD. From there every point
is drawn to its nearest neighbours and pushed away from random points, as UMAP does (McInnes,
Healy and Melville 2018) with the kernel 1 / (1 + d²) and without its weights. Only neighbourhoods
mean something, distances across the map do not.
"""

import numpy as np
import scipy.sparse as sp
from jaxtyping import Float64, Int64
from scipy.sparse.linalg import svds

from facsynth.table.active import ActiveRows

__all__ = ["lay_out"]

_DIMENSIONS = 32
_NEIGHBOURS = 12
_TILE = 1_024
_EPOCHS = 150
_REPELLED = 4
"""Random points for each neighbour."""

_LEAST = 8
"""With fewer points there is no map."""


def lay_out(
    rows: ActiveRows, features: np.ndarray, *, random_seed: int
) -> tuple[Float64[np.ndarray, "n_rows 2"], Float64[np.ndarray, "n_shown 2"]] | None:
    """Places of the samples and of some features, in [0, 1]; None where they are too few.

    Args:
        rows: The samples of all sets, one table behind the other.
        features: Ids of the features on the page.
        random_seed: Starts the SVD and UMAP.
    """
    fires = sp.csr_array(rows.fires)[:, features].astype(np.float64)
    if min(fires.shape) < _LEAST or not fires.nnz:
        return None
    counts = np.maximum(np.asarray(fires.sum(axis=0)).ravel(), 1)
    weighted = fires @ sp.diags_array(np.log1p(fires.shape[0] / counts))
    norms = np.sqrt(np.asarray(weighted.multiply(weighted).sum(axis=1)).ravel())
    scaled = sp.csr_array(sp.diags_array(1 / np.maximum(norms, 1e-12)) @ weighted)
    k = min(_DIMENSIONS, min(scaled.shape) - 1)
    rng = np.random.default_rng(random_seed)
    left, values, right = svds(scaled, k=k, v0=rng.standard_normal(min(scaled.shape)))
    return (
        _flat(left * values, random_seed),
        _flat(right.T * values, random_seed),
    )


def _flat(points: Float64[np.ndarray, "n k"], random_seed: int) -> Float64[np.ndarray, "n 2"]:
    """Two coordinates by stochastic gradient descent from the two main directions."""
    rng, n = np.random.default_rng(random_seed), len(points)
    points = points / np.maximum(np.linalg.norm(points, axis=1, keepdims=True), 1e-12)
    near = _neighbours(points)
    # By rank, because outliers would never come back; svds puts the largest direction last.
    at = 20 * _ranks(points[:, -2:]) + rng.normal(0, 1e-3, (n, 2))
    for epoch in range(_EPOCHS):
        step = 1 - epoch / _EPOCHS
        pull = _forces(at[:, None] - at[near], attract=True)
        at += step * pull.sum(axis=1) - step * _summed(pull, near)
        for _ in range(_REPELLED):
            others = rng.integers(0, n, near.shape)
            at += step * _forces(at[:, None] - at[others], attract=False).sum(axis=1)
    return _spread(at)


def _forces(away: np.ndarray, *, attract: bool) -> np.ndarray:
    """Gradients of log q and of log (1 - q) for q = 1 / (1 + d²), clipped, shape (n, k, 2).

    Shapes are not checked, since a map calls this 1,500 times.
    """
    squared = away[..., :1] ** 2 + away[..., 1:] ** 2
    scale = -2 / (1 + squared) if attract else 2 / ((0.01 + squared) * (1 + squared))
    clipped: np.ndarray = np.clip(scale * away, -4, 4) / _NEIGHBOURS
    return clipped


def _summed(
    forces: Float64[np.ndarray, "n k 2"], owner: Int64[np.ndarray, "n k"]
) -> Float64[np.ndarray, "n 2"]:
    """The forces of each point that owns some of them."""
    n, owners = len(forces), owner.ravel()
    sums = [np.bincount(owners, forces[..., i].ravel(), minlength=n) for i in (0, 1)]
    return np.stack(sums, axis=1)


def _neighbours(points: Float64[np.ndarray, "n d"]) -> Int64[np.ndarray, "n k"]:
    """For each point those of the largest cosines, tile by tile."""
    n, found = len(points), []
    k = min(_NEIGHBOURS, n - 1)
    for start in range(0, n, _TILE):
        cosines = points[start : start + _TILE] @ points.T
        inside = np.arange(len(cosines))
        cosines[inside, start + inside] = -np.inf
        found.append(np.argpartition(-cosines, k - 1, axis=1)[:, :k])
    return np.concatenate(found)


def _spread(points: Float64[np.ndarray, "n 2"]) -> Float64[np.ndarray, "n 2"]:
    """Coordinates in [0, 1]: half by value, half by rank, so that crowds come apart."""
    low, high = np.quantile(points, [0.005, 0.995], axis=0)
    values = np.clip((points - low) / np.maximum(high - low, 1e-12), 0, 1)
    placed: np.ndarray = np.round((values + _ranks(points)) / 2, 4)
    return placed


def _ranks(points: Float64[np.ndarray, "n 2"]) -> Float64[np.ndarray, "n 2"]:
    ranks = points.argsort(axis=0, kind="stable").argsort(axis=0)
    return np.asarray(ranks / max(1, len(points) - 1), dtype=np.float64)
