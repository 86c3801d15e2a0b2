"""Tables read a few thousand rows at a time."""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from jaxtyping import Float32, Float64
from numpy.typing import NDArray

from facsynth.records import FeatureActivations
from facsynth.table.firing import FiringRows
from facsynth.table.inputs import OpenTable
from facsynth.table.table import FeatureTable

__all__ = ["exact_quantiles", "read_blocks"]

_LOW_BITS = 16
"""A quantile is first found to the upper half of a float32's bits, then to the lower."""


def read_blocks(table: OpenTable) -> Iterator[FeatureActivations]:
    """All rows of a table, some at a time, without hidden states.

    A table on disk is read part by part.
    """
    if isinstance(table, FeatureTable) and not table.is_in_memory:
        yield from table.parts()
        return
    rows = table.activations() if isinstance(table, FeatureTable) else table
    firing = FiringRows(rows.row_starts, rows.feature_ids, rows.n_features)
    for part, block in firing.blocks():
        first = rows.row_starts[part.start]
        entries = slice(first, first + block.feature_ids.size)
        yield FeatureActivations(
            n_features=rows.n_features,
            sample_ids=rows.sample_ids[part],
            n_tokens=rows.n_tokens[part],
            row_starts=block.row_starts,
            feature_ids=rows.feature_ids[entries],
            values=rows.values[entries],
            positions=rows.positions[entries],
        )


def exact_quantiles(
    values: Callable[[], Iterator[Float32[np.ndarray, " _"]]], shares: Sequence[float]
) -> Float64[np.ndarray, " n_shares"]:
    """Quantiles of positive float32 numbers that come in pieces, as `np.quantile` gives them.

    The bits of positive numbers are ordered as the numbers are. The first pass counts their upper
    halves; the second one counts the lower halves behind those in which the quantiles lie.

    Args:
        values: Starts a pass over the pieces.
        shares: Quantiles in [0, 1].

    Returns:
        A number for each share; NaN without values.
    """
    upper = np.zeros(2**_LOW_BITS, dtype=np.int64)
    for piece in values():
        upper += np.bincount(piece.view(np.uint32) >> _LOW_BITS, minlength=upper.size)
    total = int(upper.sum())
    if not total:
        return np.full(len(shares), np.nan)
    places = np.asarray(shares, dtype=np.float64) * (total - 1)
    ranks = np.unique(np.concatenate([np.floor(places), np.ceil(places)]).astype(np.int64))
    ends = np.cumsum(upper)
    halves = np.searchsorted(ends, ranks, side="right")
    lower = {int(half): np.zeros(2**_LOW_BITS, dtype=np.int64) for half in halves}
    for piece in values():
        bits = piece.view(np.uint32)
        for half, counts in lower.items():
            inside = bits[bits >> _LOW_BITS == half] & (2**_LOW_BITS - 1)
            counts += np.bincount(inside, minlength=counts.size)
    found = {}
    for rank, half in zip(ranks.tolist(), halves.tolist(), strict=True):
        before = int(ends[half] - upper[half])
        low = int(np.searchsorted(np.cumsum(lower[half]), rank - before, side="right"))
        found[rank] = float(np.uint32((half << _LOW_BITS) + low).view(np.float32))
    below = np.array([found[int(place)] for place in np.floor(places)])
    above = np.array([found[int(place)] for place in np.ceil(places)])
    quantiles: NDArray[np.float64] = below + (above - below) * (places - np.floor(places))
    return quantiles
