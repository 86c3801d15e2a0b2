"""Features that are alike: by the direction they write, or by the samples that they are active in.

Nearest features are found without a table of all pairs: similarities are made in tiles, and only
the nearest few of each feature stay. A wide SAE (131,072 features) would need 69 GB for all pairs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float32, Int64
from scipy.cluster.hierarchy import fcluster, linkage

from facsynth.errors import DataError, MismatchError
from facsynth.table.active import ActiveRows

__all__ = [
    "Neighbour",
    "Neighbours",
    "cluster_features",
    "coactive_neighbours",
    "decoder_neighbours",
    "find_neighbours",
]


@dataclass(frozen=True)
class Neighbours:
    """The nearest features of each feature that was asked for, the nearest first."""

    ids: Int64[np.ndarray, "n_asked n_neighbours"]
    """Feature numbers; -1 where there are no more."""

    similarity: Float32[np.ndarray, "n_asked n_neighbours"]
    """Similarity of each, at most 1; 0 where the id is -1."""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A feature that is like another one."""

    feature_id: int
    cosine: float
    """Cosine of the two decoder directions, in [-1, 1]; 0 where one of them is zero."""

    shared: float
    """Samples with both features divided by samples with at least one, in [0, 1]."""


def decoder_neighbours(
    decoder: Float32[np.ndarray, "n_features d_model"],
    n_neighbours: int = 10,
    *,
    of: Sequence[int] | None = None,
    among: Bool[np.ndarray, " n_features"] | None = None,
    tile: int = 256,
) -> Neighbours:
    """Features with the highest cosine between decoder directions.

    Args:
        decoder: One direction per feature.
        n_neighbours: Neighbours of each feature.
        of: Features whose neighbours are wanted; None for all.
        among: Which features may be neighbours; None for all.
        tile: Features whose similarities are in memory at once.

    Returns:
        Neighbours by cosine, in [-1, 1]; ties go to the smaller number. A feature whose direction
        is zero has none, and is nobody's neighbour.
    """
    unit = _unit_rows(decoder)
    is_dead: np.ndarray = np.linalg.norm(unit, axis=1) == 0
    is_out: np.ndarray = is_dead if among is None else is_dead | ~among

    def similar(part: Int64[np.ndarray, " n_tile"]) -> Float32[np.ndarray, "n_tile n_features"]:
        cosines: np.ndarray = unit[part] @ unit.T
        cosines[:, is_out] = -np.inf
        cosines[is_dead[part]] = -np.inf
        return cosines

    return _nearest(similar, len(decoder), of, n_neighbours, tile)


def coactive_neighbours(
    rows: ActiveRows,
    n_neighbours: int = 10,
    *,
    of: Sequence[int] | None = None,
    min_samples: int = 2,
    tile: int = 256,
) -> Neighbours:
    """Features that are active in the same samples.

    The similarity is Jaccard's: samples in which both are active, divided by samples in which at
    least one is.

    Args:
        rows: Active rows of a feature table.
        n_neighbours: Neighbours of each feature.
        of: Features whose neighbours are wanted; None for all.
        min_samples: A feature active in fewer samples has no neighbours and is none.
        tile: Features whose similarities are in memory at once.

    Returns:
        Neighbours with a similarity in (0, 1]; ties go to the smaller number.
    """
    counts = rows.counts
    common = sp.diags_array((counts >= min_samples).astype(np.float32))
    active = sp.csr_array(common @ rows.fires.T)
    by_sample = sp.csr_array(active.T)

    def similar(part: Int64[np.ndarray, " n_tile"]) -> Float32[np.ndarray, "n_tile n_features"]:
        both = (active[part] @ by_sample).toarray()
        either = counts[part, None] + counts[None, :] - both
        shares: np.ndarray = (both / np.maximum(either, 1)).astype(np.float32)
        shares[both == 0] = -np.inf
        return shares

    return _nearest(similar, rows.n_features, of, n_neighbours, tile)


def find_neighbours(
    rows: ActiveRows,
    decoder: Float32[np.ndarray, "n_features d_model"],
    of: Sequence[int],
    *,
    n_each: int = 3,
) -> dict[int, tuple[Neighbour, ...]]:
    """The nearest features by common samples, then those by direction that are not among them.

    Only features that some sample of the table activates are named.

    Args:
        rows: Active rows of a feature table.
        decoder: The directions of its SAE.
        of: Features whose neighbours are wanted.
        n_each: Most neighbours of each kind.

    Raises:
        MismatchError: Table and decoder differ in their number of features.
    """
    if len(decoder) != rows.n_features:
        raise MismatchError(
            f"the table has {rows.n_features} features and the SAE {len(decoder)}; pass "
            "the SAE that made the table"
        )
    shared = coactive_neighbours(rows, n_each, of=of)
    near = decoder_neighbours(decoder, n_each, of=of, among=rows.features)
    found = [
        [other for other in dict.fromkeys([*one, *two]) if other >= 0]
        for one, two in zip(shared.ids.tolist(), near.ids.tolist(), strict=True)
    ]
    owner = np.repeat(np.array(of, dtype=np.int64), [len(others) for others in found])
    other = np.array([o for others in found for o in others], dtype=np.int64)
    unit, active, counts = _unit_rows(decoder), sp.csr_array(rows.fires.T), rows.counts
    cosine = np.einsum("ij,ij->i", unit[owner], unit[other])
    both = active[owner].multiply(active[other]).sum(axis=1)
    share = both / (counts[owner] + counts[other] - both)
    made = iter(map(Neighbour, other.tolist(), cosine.tolist(), share.tolist()))
    return {f: tuple(next(made) for _ in others) for f, others in zip(of, found, strict=True)}


def cluster_features(
    rows: ActiveRows,
    decoder: Float32[np.ndarray, "n_features d_model"],
    of: Sequence[int],
    *,
    min_similarity: float = 0.1,
) -> list[tuple[int, ...]]:
    """Groups of features that are alike in direction and in samples.

    The similarity of two features is the mean of the cosine of their directions (0 where it is
    negative) and of their common samples (Jaccard). Groups are merged while the mean similarity
    between them is at least `min_similarity` (average linkage).

    Args:
        rows: Active rows of a feature table.
        decoder: The directions of its SAE.
        of: Features to group; their pairs are in memory (2,000 take 50 MB).
        min_similarity: Least mean similarity inside a group, in [0, 1].

    Returns:
        Every feature in one group, possibly alone. Members, and groups by their first member, are
        in the order of `of`.
    """
    if len(of) < 2:
        return [(feature,) for feature in of]
    part, n = sp.csr_array(rows.fires.T)[list(of)], rows.counts[list(of)]
    both = (part @ part.T).toarray()
    shared = both / np.maximum(n[:, None] + n[None, :] - both, 1)
    unit = _unit_rows(decoder)[list(of)]
    distance = 1 - (shared + np.clip(unit @ unit.T, 0, 1)) / 2
    above = np.triu_indices(len(of), 1)
    labels = fcluster(linkage(distance[above], "average"), 1 - min_similarity, "distance")
    groups: dict[int, list[int]] = {}
    for feature, label in zip(of, labels.tolist(), strict=True):
        groups.setdefault(label, []).append(feature)
    return [tuple(group) for group in groups.values()]


def _unit_rows(
    decoder: Float32[np.ndarray, "n_features d_model"],
) -> Float32[np.ndarray, "n_features d_model"]:
    """Directions of length 1; one of length 0 stays."""
    norms = np.linalg.norm(decoder, axis=1, keepdims=True)
    unit: np.ndarray = (decoder / np.maximum(norms, 1e-30)).astype(np.float32)
    return unit


def _nearest(
    similar: Callable[[Int64[np.ndarray, " n_tile"]], np.ndarray],
    n_features: int,
    of: Sequence[int] | None,
    n_neighbours: int,
    tile: int,
) -> Neighbours:
    """The best columns of the asked rows of a matrix that is made tile by tile."""
    if n_neighbours < 1 or tile < 1:
        raise DataError(f"n_neighbours ({n_neighbours}) and tile ({tile}) must be at least 1")
    asked = np.arange(n_features) if of is None else np.array(of, dtype=np.int64)
    n = min(n_neighbours, max(1, n_features - 1))
    ids = np.full((asked.size, n), -1, dtype=np.int64)
    values = np.zeros((asked.size, n), dtype=np.float32)
    for start in range(0, asked.size, tile):
        part = asked[start : start + tile]
        rows = slice(start, start + part.size)
        tile_values = similar(part)
        tile_values[np.arange(part.size), part] = -np.inf
        order = _largest(tile_values, n)
        best = np.take_along_axis(tile_values, order, axis=1)
        found = np.isfinite(best)
        ids[rows] = np.where(found, order, -1)
        values[rows] = np.where(found, best, 0.0)
    return Neighbours(ids, values)


def _largest(
    values: Float32[np.ndarray, "n_tile n_features"], n: int
) -> Int64[np.ndarray, "n_tile n_neighbours"]:
    """Columns of the `n` largest values of each row, the largest first; ties by column."""
    bound = -np.partition(-values, n - 1, axis=1)[:, n - 1 : n]
    order = np.empty((len(values), n), dtype=np.int64)
    for row, (line, least) in enumerate(zip(values, bound, strict=True)):
        columns = np.flatnonzero(line >= least)
        order[row] = columns[np.argsort(-line[columns], kind="stable")][:n]
    return order
