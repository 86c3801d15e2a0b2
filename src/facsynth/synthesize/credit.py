"""Which candidates are kept: every sample counts for all features that it activates."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool
from scipy.sparse import csr_array

from facsynth.records import FeatureActivations

__all__ = ["Kept", "activation_matrix", "choose_candidates"]


@dataclass(frozen=True, slots=True)
class Kept:
    """One candidate that was kept."""

    row: int
    """Its row in the pool."""

    new_features: tuple[int, ...]
    """Missing features that it was the first to activate."""


def activation_matrix(activations: FeatureActivations, *, threshold: float) -> csr_array:
    """Samples by features, 1 where the feature is active (strictly above the threshold)."""
    shape = (len(activations.sample_ids), activations.n_features)
    data = (activations.values > np.float32(threshold)).astype(np.int32)
    matrix = csr_array(
        (data, activations.feature_ids.astype(np.int64), activations.row_starts.copy()), shape
    )
    matrix.eliminate_zeros()
    return matrix


def choose_candidates(
    pool: FeatureActivations,
    missing: Bool[np.ndarray, " n_features"],
    *,
    threshold: float,
    admissible: Sequence[bool],
    max_kept: int,
    is_new: Callable[[int], bool],
) -> list[Kept]:
    """Greedy set cover: again and again the candidate that activates most missing features.

    Ties go to the shorter candidate, then to the earlier one.

    Args:
        pool: Activations of the candidates.
        missing: Features that nothing covers yet.
        threshold: δ.
        admissible: Candidates that may be kept at all.
        max_kept: Most candidates to keep.
        is_new: Asked once for each candidate about to be kept; False rejects it for good.
    """
    matrix = activation_matrix(pool, threshold=threshold)
    open_rows = np.array(admissible, dtype=bool)
    remaining = missing.copy()
    kept: list[Kept] = []
    while len(kept) < max_kept and open_rows.any():
        gains = (matrix @ remaining.astype(np.int32)) * open_rows
        best = int(gains.max(initial=0))
        if best == 0:
            break
        ties = np.flatnonzero(gains == best)
        row = int(ties[np.argmin(pool.n_tokens[ties])])
        open_rows[row] = False
        if not is_new(row):
            continue
        active = matrix.indices[matrix.indptr[row] : matrix.indptr[row + 1]]
        new = active[remaining[active]]
        remaining[new] = False
        kept.append(Kept(row, tuple(int(f) for f in np.sort(new))))
    return kept
