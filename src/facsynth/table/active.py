"""The active entries of a table: above the threshold δ, of relevant features.

Code that counts features starts here: the rows are cut once, and their counts are cached.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from jaxtyping import Bool, Float32, Float64, Int64
from scipy.sparse import csr_array

from facsynth.errors import DataError, MismatchError
from facsynth.records import FeatureActivations

__all__ = ["ActiveRows", "active_rows", "check_same_width"]


@dataclass(frozen=True, eq=False)
class ActiveRows:
    """Rows of a table that hold only active entries; made by `active_rows`.

    A feature is active in a sample when its activation is strictly above δ (arXiv 2602.10388,
    section 3). Axes are `n_samples` and `n_features`, the width of the SAE.
    """

    activations: FeatureActivations
    """The same samples with the active entries of relevant features only."""

    threshold: float
    """δ, in SAE units."""

    relevant: Bool[np.ndarray, " n_features"]
    """Features that count."""

    @property
    def n_samples(self) -> int:
        """Number of rows."""
        return len(self.activations.sample_ids)

    @property
    def n_features(self) -> int:
        """Width of the SAE, irrelevant features included."""
        return self.activations.n_features

    @cached_property
    def counts(self) -> Int64[np.ndarray, " n_features"]:
        """Samples in which each feature is active."""
        return np.bincount(self.activations.feature_ids, minlength=self.n_features)

    @cached_property
    def features(self) -> Bool[np.ndarray, " n_features"]:
        """Features that at least one sample activates."""
        active: Bool[np.ndarray, " n_features"] = self.counts > 0
        return active

    @cached_property
    def sums(self) -> Float64[np.ndarray, " n_features"]:
        """Sum of each feature's activations over the samples, in SAE units."""
        rows = self.activations
        sums = np.bincount(rows.feature_ids, weights=rows.values, minlength=self.n_features)
        return sums.astype(np.float64, copy=False)  # bincount of nothing gives integers

    @cached_property
    def peaks(self) -> Float32[np.ndarray, " n_features"]:
        """Largest activation of each feature, in SAE units; 0 where it has none."""
        peaks = np.zeros(self.n_features, dtype=np.float32)
        np.maximum.at(peaks, self.activations.feature_ids, self.activations.values)
        return peaks

    @cached_property
    def matrix(self) -> csr_array:
        """Activations as a float32 matrix (n_samples, n_features)."""
        return self._csr(self.activations.values)

    @cached_property
    def fires(self) -> csr_array:
        """Float32 ones where a feature is active (n_samples, n_features)."""
        return self._csr(np.ones(self.activations.values.size, dtype=np.float32))

    def _csr(self, values: Float32[np.ndarray, " n_entries"]) -> csr_array:
        rows = self.activations
        # SciPy wants ids and starts of one type; int64 holds any table.
        ids = rows.feature_ids.astype(np.int64)
        return csr_array((values, ids, rows.row_starts), shape=(self.n_samples, self.n_features))


def active_rows(
    activations: FeatureActivations,
    *,
    threshold: float,
    relevant: Bool[np.ndarray, " n_features"] | None = None,
) -> ActiveRows:
    """The active entries of a table.

    Args:
        activations: A table.
        threshold: δ in SAE units, at least 0; rounded to float32, as activations are.
        relevant: Features that count; None for all.

    Raises:
        DataError: The threshold is negative or not a finite float32.
        MismatchError: The flags are of another width than the table.
    """
    if not 0 <= threshold <= float(np.finfo(np.float32).max):
        raise DataError(
            f"threshold {threshold} is not a finite number of at least 0; only activations above "
            "0 are stored, so 0 is the smallest threshold"
        )
    if relevant is not None and relevant.size != activations.n_features:
        raise MismatchError(
            f"{relevant.size} features are judged and the table has {activations.n_features}; "
            "judge the features of the SAE that made the table"
        )
    kept = activations.values > np.float32(threshold)
    if relevant is None:
        relevant = np.ones(activations.n_features, dtype=np.bool_)
    else:
        kept &= relevant[activations.feature_ids]
    return ActiveRows(activations.keep_entries(kept), threshold, relevant)


def check_same_width(*tables: ActiveRows) -> None:
    """Raise a MismatchError unless all tables have equally many features."""
    widths = [table.n_features for table in tables]
    if len(set(widths)) > 1:
        raise MismatchError(
            f"tables have {min(widths)} and {max(widths)} features; extract both with the same SAE"
        )
