"""Which features fire in which samples, in two or four bytes an entry.

A sparse matrix of ones, for tables of a million samples: SciPy would keep 12 to 16 bytes an entry.
Products are made in blocks of rows, by SciPy.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Float64, Int32, Int64, UInt
from numpy.typing import NDArray
from scipy.sparse import csr_array

__all__ = ["FiringRows", "flag_rows", "id_type", "row_entries"]

BLOCK_ENTRIES = 2**22
"""Entries that are unpacked at once: about 50 MB."""

_SUM_ENTRIES = 2**16
"""Entries whose weights are summed at once: larger results are new pages, 4 times slower."""

_TOGETHER = 32
"""Columns of one product."""


def id_type(n_features: int) -> type[np.unsignedinteger[Any]]:
    """Type of feature ids: two bytes where the width of the SAE allows it."""
    return np.uint16 if n_features <= 2**16 else np.uint32


def flag_rows(n_samples: int, chosen: Int64[np.ndarray, " n_drawn"]) -> NDArray[np.bool_]:
    """Flags (n_samples,) of the samples at some positions."""
    flags = np.zeros(n_samples, dtype=np.bool_)
    flags[chosen] = True
    return flags


@dataclass(frozen=True, eq=False)
class FiringRows:
    """Sparse rows (n_samples, n_features) of ones where a feature fires."""

    row_starts: Int64[np.ndarray, " n_row_starts"]
    """Sample `i` owns the entries `row_starts[i]:row_starts[i + 1]`."""

    feature_ids: UInt[np.ndarray, " n_entries"]
    """Feature of each entry, ascending within a row."""

    n_features: int

    @property
    def shape(self) -> tuple[int, int]:
        """Samples and features."""
        return self.row_starts.size - 1, self.n_features

    @property
    def lengths(self) -> Int64[np.ndarray, " n_samples"]:
        """Features that fire in each sample."""
        return np.diff(self.row_starts)

    def csr(self, dtype: Any = np.float32) -> csr_array:
        """The same rows for SciPy."""
        ones = np.ones(self.feature_ids.size, dtype=dtype)
        # SciPy wants ids and starts of one type; int64 holds any table.
        index = np.int32 if self.feature_ids.size < 2**31 else np.int64
        ids, starts = self.feature_ids.astype(index), self.row_starts.astype(index)
        return csr_array((ones, ids, starts), shape=self.shape)

    def blocks(self) -> Iterator[tuple[slice, "FiringRows"]]:
        """Consecutive rows with about `BLOCK_ENTRIES` entries, and where they are."""
        n_rows, start = self.shape[0], 0
        while start < n_rows:
            most = self.row_starts[start] + BLOCK_ENTRIES
            end = int(np.searchsorted(self.row_starts, most, side="right")) - 1
            end = min(n_rows, max(end, start + 1))
            first, last = self.row_starts[start], self.row_starts[end]
            starts = self.row_starts[start : end + 1] - first
            yield (
                slice(start, end),
                FiringRows(starts, self.feature_ids[first:last], self.n_features),
            )
            start = end

    def take(self, rows: Sequence[int] | NDArray[np.int64]) -> "FiringRows":
        """Some rows, in the order given."""
        index = np.asarray(rows, dtype=np.int64)
        row_starts = np.concatenate([[0], np.cumsum(self.lengths[index])]).astype(np.int64)
        ids = np.empty(int(row_starts[-1]), dtype=self.feature_ids.dtype)
        whole = FiringRows(row_starts, ids, self.n_features)
        for part, block in whole.blocks():
            block.feature_ids[:] = self.feature_ids[row_entries(self.row_starts, index[part])]
        return whole

    def row(self, row: int) -> UInt[np.ndarray, " n_active"]:
        """Features that fire in one sample."""
        return self.feature_ids[self.row_starts[row] : self.row_starts[row + 1]]

    def only(self, features: Bool[np.ndarray, " n_features"]) -> "FiringRows":
        """The same samples with some of the features only."""
        if features.all():
            return self
        kept = features[self.feature_ids]
        n_kept = np.concatenate([[0], np.cumsum(kept, dtype=np.int64)])
        return FiringRows(n_kept[self.row_starts], self.feature_ids[kept], self.n_features)

    def counts(self) -> Int64[np.ndarray, " n_features"]:
        """Samples in which each feature fires."""
        total = np.zeros(self.n_features, dtype=np.int64)
        for _, block in self.blocks():
            total += np.bincount(block.feature_ids, minlength=self.n_features)
        return total

    def sum_features(
        self, weights: Float64[np.ndarray, " n_features"]
    ) -> Float64[np.ndarray, " n_samples"]:
        """Sum of the weights of the features that fire in each sample: rows @ weights."""
        filled = np.flatnonzero(self.lengths)
        starts, sums = self.row_starts[filled], np.empty(filled.size)
        cuts = np.searchsorted(starts, np.arange(0, self.feature_ids.size, _SUM_ENTRIES))
        for first, last in pairwise(np.unique([*cuts, filled.size])):
            end = starts[last] if last < filled.size else self.feature_ids.size
            # weights[ids] checks every id first.
            values = np.take(weights, self.feature_ids[starts[first] : end], mode="clip")
            sums[first:last] = np.add.reduceat(values, starts[first:last] - starts[first])
        found = np.zeros(self.shape[0])
        found[filled] = sums
        return found

    def sum_samples(
        self, weights: Sequence[Float[np.ndarray, " n_samples"] | Bool[np.ndarray, " n_samples"]]
    ) -> Float64[np.ndarray, "n_weightings n_features"]:
        """Sum, for each feature, of the weights of the samples in which it fires: weights @ rows.

        Args:
            weights: Weightings of the samples: numbers, or flags that choose samples.
        """
        found = np.zeros((len(weights), self.n_features))
        for first in range(0, len(weights), _TOGETHER):
            some = weights[first : first + _TOGETHER]
            is_flags = all(one.dtype == np.bool_ for one in some)
            dtype = np.float32 if is_flags else np.float64  # float32 counts a block exactly
            for part, block in self.blocks():
                columns = np.stack([one[part] for one in some], axis=1).astype(dtype)
                found[first : first + len(some)] += (block.csr(dtype).T @ columns).T
        return found

    def seen_in(
        self, choices: Sequence[Bool[np.ndarray, " n_samples"]]
    ) -> Bool[np.ndarray, "n_choices n_features"]:
        """Features that fire in at least one of the chosen samples, for several choices.

        Features that every choice has shown are not looked at any more, so that large choices cost
        little more than a small one.
        """
        seen = np.zeros((len(choices), self.n_features), dtype=np.bool_)
        for part, block in self.blocks():
            unseen: NDArray[np.bool_] = np.logical_not(np.all(seen, axis=0))
            left = np.flatnonzero(unseen[block.feature_ids])
            if left.size:
                starts = np.searchsorted(left, block.row_starts)
                rows = FiringRows(starts, block.feature_ids[left], self.n_features)
                seen |= rows.sum_samples([one[part] for one in choices]) > 0
        return seen

    def by_feature(
        self,
    ) -> tuple[Int64[np.ndarray, " n_column_starts"], Int32[np.ndarray, " n_entries"]]:
        """Rows in which each feature fires, ascending, and where each feature starts."""
        starts = np.concatenate([[0], np.cumsum(self.counts())]).astype(np.int64)
        rows, filled = np.empty(self.feature_ids.size, dtype=np.int32), starts[:-1].copy()
        for part, block in self.blocks():
            columns = block.csr(np.bool_).tocsc()
            n_new = np.diff(columns.indptr)
            rank = np.arange(columns.indices.size) - np.repeat(columns.indptr[:-1], n_new)
            rows[np.repeat(filled, n_new) + rank] = columns.indices + part.start
            filled += n_new
        return starts, rows


def row_entries(
    row_starts: Int64[np.ndarray, " n_row_starts"], rows: Int64[np.ndarray, " n_rows"]
) -> Int64[np.ndarray, " n_taken"]:
    """Positions of the entries of some rows, one row behind the other."""
    n_entries = row_starts[rows + 1] - row_starts[rows]
    shifts = row_starts[rows] - np.cumsum(n_entries) + n_entries
    return np.repeat(shifts, n_entries) + np.arange(int(n_entries.sum()))
