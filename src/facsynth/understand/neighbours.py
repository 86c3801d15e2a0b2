"""Features that are alike: by the direction they write, or by the samples that they are active in.

Nearest features are found without a table of all pairs: similarities are made in tiles, and only
the nearest few of each feature stay. A wide SAE (131,072 features) would need 69 GB for all pairs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import scipy.sparse as sp
from jaxtyping import Bool, Float32, Int64
from scipy.cluster.hierarchy import fcluster, linkage

from facsynth.errors import MismatchError
from facsynth.table.active import ActiveRows

__all__ = [
    "Neighbour",
    "cluster_features",
    "coactive_neighbours",
    "decoder_neighbours",
    "find_neighbours",
]

_TILE = 256
"""Features whose similarities with all others are in memory at once."""

_LEAST_SAMPLES = 2
"""A feature active in fewer samples has no neighbours by samples and is not a neighbour."""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A feature that is like another one."""

    feature_id: int
    cosine: float | None
    """Cosine of the two decoder directions, in [-1, 1]; 0 where one of them is zero, None without
    the SAE."""

    shared: float
    """Samples with both features divided by samples with at least one, in [0, 1]."""


def decoder_neighbours(
    decoder: Float32[np.ndarray, "n_features d_model"],
    of: Sequence[int],
    n: int,
    *,
    among: Bool[np.ndarray, " n_features"],
) -> list[list[int]]:
    """The `n` features with the highest cosine between decoder directions, for each asked feature.

    Ties go to the smaller number. A feature whose direction is zero neither has neighbours nor is
    one.
    """
    unit = _unit_rows(decoder)
    is_dead: np.ndarray = np.linalg.norm(unit, axis=1) == 0

    def similar(part: Int64[np.ndarray, " n_tile"]) -> Float32[np.ndarray, "n_tile n_features"]:
        cosines: np.ndarray = unit[part] @ unit.T
        cosines[:, is_dead | ~among] = -np.inf
        cosines[is_dead[part]] = -np.inf
        return cosines

    return _nearest(similar, of, n)


def coactive_neighbours(rows: ActiveRows, of: Sequence[int], n: int) -> list[list[int]]:
    """The `n` features that are most often active in the same samples, for each asked feature.

    The similarity is Jaccard's: samples in which both are active, divided by samples in which at
    least one is. Ties go to the smaller number.
    """
    counts = rows.counts
    common = sp.diags_array((counts >= _LEAST_SAMPLES).astype(np.float32))
    active = sp.csr_array(common @ rows.fires.T)
    by_sample = sp.csr_array(active.T)

    def similar(part: Int64[np.ndarray, " n_tile"]) -> Float32[np.ndarray, "n_tile n_features"]:
        both = (active[part] @ by_sample).toarray()
        either = counts[part, None] + counts[None, :] - both
        shares: np.ndarray = (both / np.maximum(either, 1)).astype(np.float32)
        shares[both == 0] = -np.inf
        return shares

    return _nearest(similar, of, n)


def find_neighbours(
    rows: ActiveRows,
    decoder: Float32[np.ndarray, "n_features d_model"] | None,
    of: Sequence[int],
    *,
    n_each: int = 3,
) -> dict[int, tuple[Neighbour, ...]]:
    """The nearest features by common samples, then those by direction that are not among them.

    Only features that some sample of the table activates are named.

    Raises:
        MismatchError: Table and decoder differ in their number of features.
    """
    if decoder is not None and len(decoder) != rows.n_features:
        raise MismatchError(
            f"the table has {rows.n_features} features and the SAE {len(decoder)}; pass "
            "the SAE that made the table"
        )
    shared = coactive_neighbours(rows, of, n_each)
    near = (
        [[] for _ in of]
        if decoder is None
        else (decoder_neighbours(decoder, of, n_each, among=rows.features))
    )
    found = [list(dict.fromkeys([*one, *two])) for one, two in zip(shared, near, strict=True)]
    owner = np.repeat(np.array(of, dtype=np.int64), [len(others) for others in found])
    other = np.array([o for others in found for o in others], dtype=np.int64)
    active, counts = sp.csr_array(rows.fires.T), rows.counts
    cosine: list[Any] = [None] * other.size
    if decoder is not None:
        unit = _unit_rows(decoder)
        cosine = np.einsum("ij,ij->i", unit[owner], unit[other]).tolist()
    both = active[owner].multiply(active[other]).sum(axis=1)
    share = both / (counts[owner] + counts[other] - both)
    made = iter(map(Neighbour, other.tolist(), cosine, share.tolist()))
    return {f: tuple(next(made) for _ in others) for f, others in zip(of, found, strict=True)}


def cluster_features(
    rows: ActiveRows,
    decoder: Float32[np.ndarray, "n_features d_model"] | None,
    of: Sequence[int],
    *,
    min_similarity: float = 0.1,
) -> list[tuple[int, ...]]:
    """Groups of features that are alike in direction and in samples.

    The similarity of two features is the mean of the cosine of their directions (0 where it is
    negative) and of their common samples (Jaccard). Groups are merged while the mean similarity
    between them is at least `min_similarity` (average linkage).

    Returns:
        Every feature in one group, possibly alone. Members, and groups by their first member, are
        in the order of `of`.
    """
    if len(of) < 2:
        return [(feature,) for feature in of]
    part, n = sp.csr_array(rows.fires.T)[list(of)], rows.counts[list(of)]
    both = (part @ part.T).toarray()
    shared = both / np.maximum(n[:, None] + n[None, :] - both, 1)
    distance = 1 - shared
    if decoder is not None:
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
    similar: Callable[[Int64[np.ndarray, " n_tile"]], np.ndarray], of: Sequence[int], n: int
) -> list[list[int]]:
    """The best columns of the asked rows of a matrix that is made tile by tile."""
    asked, found = np.array(of, dtype=np.int64), list[list[int]]()
    for start in range(0, asked.size, _TILE):
        part = asked[start : start + _TILE]
        values = similar(part)
        values[np.arange(part.size), part] = -np.inf
        k = min(n, max(1, values.shape[1] - 1))
        # All that reach the k-th value, so that ties can go to the smaller number.
        bound = -np.partition(-values, k - 1, axis=1)[:, k - 1]
        for line, least in zip(values, bound, strict=True):
            columns = np.flatnonzero((line >= least) & np.isfinite(line))
            found.append(columns[np.argsort(-line[columns], kind="stable")][:k].tolist())
    return found
