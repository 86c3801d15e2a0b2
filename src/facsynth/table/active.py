"""The active entries of tables: above the threshold δ, of relevant features.

Code that counts features starts here. Tables are read part by part: what stays in memory is which
feature is active in which sample, in two bytes an entry, with sums and peaks. Activations and
positions are read again where they are wanted.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64
from numpy.typing import NDArray
from scipy.sparse import csr_array

from facsynth.errors import DataError, MismatchError
from facsynth.records import FeatureActivations
from facsynth.table.blocks import exact_quantiles, read_blocks
from facsynth.table.firing import FiringRows, id_type
from facsynth.table.inputs import OpenTable, TableData, open_tables
from facsynth.table.rows import stack_rows, take_rows
from facsynth.table.table import FeatureTable

__all__ = ["ActiveRows", "active_rows", "check_flags", "check_same_width", "table_width"]


@dataclass(frozen=True, eq=False)
class ActiveRows:
    """Which relevant features are active in which samples; made by `active_rows`.

    A feature is active in a sample when its activation is strictly above δ (arXiv 2602.10388,
    section 3). Axes are `n_samples` and `n_features`, the width of the SAE.
    """

    tables: tuple[OpenTable, ...]
    """What was read, one table behind the other."""

    threshold: float
    """δ, in SAE units."""

    relevant: Bool[np.ndarray, " n_features"]
    """Features that count."""

    sample_ids: tuple[str, ...]
    """One id per row."""

    n_tokens: Int64[np.ndarray, " n_samples"]
    """Scored tokens of each sample."""

    firing: FiringRows
    """The active entries of relevant features."""

    all_sums: Float64[np.ndarray, " n_features"]
    """Sum of each feature's activations above δ over the samples, relevant or not."""

    highest: Float32[np.ndarray, " n_features"]
    """Largest activation of each feature, relevant or not, above δ or not; 0 where it has none."""

    @property
    def n_samples(self) -> int:
        """Number of rows."""
        return self.n_tokens.size

    @property
    def n_features(self) -> int:
        """Width of the SAE, irrelevant features included."""
        return self.relevant.size

    @cached_property
    def counts(self) -> Int64[np.ndarray, " n_features"]:
        """Samples in which each feature is active."""
        return self.firing.counts()

    @cached_property
    def features(self) -> Bool[np.ndarray, " n_features"]:
        """Features that at least one sample activates."""
        active: Bool[np.ndarray, " n_features"] = self.counts > 0
        return active

    @property
    def sums(self) -> Float64[np.ndarray, " n_features"]:
        """Sum of each feature's activations over the samples, in SAE units."""
        return np.where(self.relevant, self.all_sums, 0.0)

    @property
    def peaks(self) -> Float32[np.ndarray, " n_features"]:
        """Largest activation of each feature, in SAE units; 0 where it has none."""
        return np.where(self.features, self.highest, np.float32(0))

    @cached_property
    def activations(self) -> FeatureActivations:
        """The same samples with the active entries of relevant features only."""
        rows = stack_rows([_in_memory(table) for table in self.tables])
        return rows.keep_entries(self._is_active(rows))

    @property
    def hidden(self) -> Float32[np.ndarray, "n_samples d_model"] | None:
        """Mean hidden states; None unless all of the tables keep them."""
        states = [table.hidden for table in self.tables]
        found = [one for one in states if one is not None]
        return np.concatenate(found) if len(found) == len(states) else None

    @cached_property
    def matrix(self) -> csr_array:
        """Activations as a float32 matrix (n_samples, n_features)."""
        rows, fires = self.activations, self.fires
        return csr_array((rows.values, fires.indices, fires.indptr), shape=fires.shape)

    @cached_property
    def fires(self) -> csr_array:
        """Float32 ones where a feature is active (n_samples, n_features); `firing` is smaller."""
        return self.firing.csr()

    def read_rows(self, rows: NDArray[np.int64]) -> FeatureActivations:
        """Active entries of some samples, whose positions in the table ascend."""
        found, start = list[FeatureActivations](), 0
        for block in (block for table in self.tables for block in read_blocks(table)):
            end = start + block.n_tokens.size
            here = take_rows(block, rows[(rows >= start) & (rows < end)] - start)
            found.append(here.keep_entries(self._is_active(here)))
            start = end
        return stack_rows(found)

    def only(self, relevant: Bool[np.ndarray, " n_features"]) -> "ActiveRows":
        """The same samples, in which fewer features count."""
        check_flags(relevant, self.n_features)
        return replace(self, relevant=relevant, firing=self.firing.only(relevant))

    def _is_active(self, rows: FeatureActivations) -> Bool[np.ndarray, " n_entries"]:
        kept = rows.values > np.float32(self.threshold)
        return kept if self.relevant.all() else kept & self.relevant[rows.feature_ids]

    def quantiles(self, shares: Sequence[float]) -> Float64[np.ndarray, " n_shares"]:
        """Quantiles of all activations above 0, one per sample and feature; NaN without any."""
        return exact_quantiles(
            lambda: (block.values for table in self.tables for block in read_blocks(table)), shares
        )


def active_rows(
    activations: TableData | Sequence[TableData],
    *,
    threshold: float,
    relevant: Bool[np.ndarray, " n_features"] | None = None,
) -> ActiveRows:
    """The active entries of a table, or of several that count together.

    Args:
        activations: A table: in memory, opened, or its folder; or several.
        threshold: δ in SAE units, at least 0; rounded to float32, as activations are.
        relevant: Features that count; None for all.

    Raises:
        DataError: The threshold is negative or not a finite float32.
        MismatchError: The flags are of another width than the table.
    """
    tables = open_tables(activations)
    if not 0 <= threshold <= float(np.finfo(np.float32).max):
        raise DataError(
            f"threshold {threshold} is not a finite number of at least 0; only activations above "
            "0 are stored, so 0 is the smallest threshold"
        )
    widths = sorted({table_width(table) for table in tables})
    if len(widths) > 1:
        raise MismatchError(f"tables of different widths cannot be stacked: {widths}")
    n_features = widths[0]
    if relevant is None:
        relevant = np.ones(n_features, dtype=np.bool_)
    check_flags(relevant, n_features)
    return _gather(tables, threshold, relevant)


def check_same_width(*tables: ActiveRows) -> None:
    """Raise a MismatchError unless all tables have equally many features."""
    widths = [table.n_features for table in tables]
    if len(set(widths)) > 1:
        raise MismatchError(
            f"tables have {min(widths)} and {max(widths)} features; extract both with the same SAE"
        )


def check_flags(relevant: NDArray[np.bool_], n_features: int) -> None:
    """Raise a MismatchError unless there is a flag for each feature."""
    if relevant.size != n_features:
        raise MismatchError(
            f"{relevant.size} features are judged and the table has {n_features}; "
            "judge the features of the SAE that made the table"
        )


def _gather(
    tables: tuple[OpenTable, ...], threshold: float, relevant: Bool[np.ndarray, " n_features"]
) -> ActiveRows:
    """Read the tables block by block; what a block adds is kept, the block is not."""
    n_features, all_relevant = relevant.size, bool(relevant.all())
    sums, highest = np.zeros(n_features), np.zeros(n_features, dtype=np.float32)
    names, tokens, lengths = list[str](), list[NDArray[np.int64]](), list[NDArray[np.int64]]()
    ids, n_entries = np.empty(sum(map(_n_entries, tables)), id_type(n_features)), 0
    for table in tables:
        n_before = len(names)
        for block in read_blocks(table):
            np.maximum.at(highest, block.feature_ids, block.values)
            loud = block.keep_entries(block.values > np.float32(threshold))
            sums = _add_sums(sums, loud)
            if not all_relevant:
                loud = loud.keep_entries(relevant[loud.feature_ids])
            end = n_entries + loud.feature_ids.size
            ids[n_entries:end], n_entries = loud.feature_ids, end
            names += block.sample_ids
            tokens.append(block.n_tokens)
            lengths.append(np.diff(loud.row_starts))
        if isinstance(table, FeatureTable):
            table.check_ids(names[n_before:])
    if 2 * n_entries < ids.size:
        ids = ids[:n_entries].copy()  # lets go of the rest
    none = [np.zeros(0, dtype=np.int64)]
    starts = np.concatenate([[0], np.cumsum(np.concatenate(none + lengths))])
    return ActiveRows(
        tables=tables,
        threshold=threshold,
        relevant=relevant,
        sample_ids=tuple(names),
        n_tokens=np.concatenate(none + tokens),
        firing=FiringRows(starts, ids[:n_entries], n_features),
        all_sums=sums,
        highest=highest,
    )


def _add_sums(
    sums: Float64[np.ndarray, " n_features"], block: FeatureActivations
) -> Float64[np.ndarray, " n_features"]:
    """The sums with those of a block added one by one, so that blocks do not change the result."""
    ids = np.concatenate([np.arange(sums.size), block.feature_ids])
    return np.bincount(ids, weights=np.concatenate([sums, block.values]))


def _n_entries(table: OpenTable) -> int:
    return table.manifest.n_entries if isinstance(table, FeatureTable) else table.values.size


def table_width(table: OpenTable) -> int:
    """Features of a table, active or not: the width of its SAE."""
    if isinstance(table, FeatureTable):
        return table.manifest.source.n_features
    return table.n_features


def _in_memory(table: OpenTable) -> FeatureActivations:
    return table.activations(hidden=True) if isinstance(table, FeatureTable) else table
