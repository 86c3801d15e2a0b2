"""Build small activation tables by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from facsynth.records import FeatureActivations, Sample
from facsynth.table.firing import FiringRows
from facsynth.table.manifest import TableSource
from facsynth.table.write import finish_table, samples_hash, write_part


def make_activations(
    rows: list[dict[int, float]],
    n_features: int = 4,
    n_tokens: list[int] | None = None,
    sample_ids: list[str] | None = None,
) -> FeatureActivations:
    """One dict per sample, feature -> activation; ten tokens each unless `n_tokens` says more."""
    entries = [(feature, value) for row in rows for feature, value in sorted(row.items())]
    return FeatureActivations(
        n_features=n_features,
        sample_ids=tuple(sample_ids or (f"s{i}" for i in range(len(rows)))),
        n_tokens=np.array([10] * len(rows) if n_tokens is None else n_tokens, dtype=np.int64),
        row_starts=np.cumsum([0, *map(len, rows)], dtype=np.int64),
        feature_ids=np.array([feature for feature, _ in entries], dtype=np.uint32),
        values=np.array([value for _, value in entries], dtype=np.float32),
        positions=np.zeros(len(entries), dtype=np.uint16),
    )


def write_table(folder: Path, rows: FeatureActivations, samples: list[Sample]) -> None:
    """A finished feature table of these rows, called by the ids of the samples."""
    source = TableSource(
        *("model", "sae", rows.n_features, 1, "sae", "max", "all", 99, "format", "lm", "sae")
    )
    folder.mkdir()
    rows = replace(rows, sample_ids=tuple(sample.sample_id for sample in samples))
    write_part(folder, 0, rows, samples)
    finish_table(folder, source, samples_hash(samples), n_parts=1)


def dense(activations: FeatureActivations) -> np.ndarray:
    """The same table as a dense array (n_samples, n_features)."""
    array = np.zeros((activations.n_tokens.size, activations.n_features), dtype=np.float32)
    rows = np.repeat(np.arange(activations.n_tokens.size), np.diff(activations.row_starts))
    array[rows, activations.feature_ids] = activations.values
    return array


def firing(fires: np.ndarray) -> FiringRows:
    """A dense table of zeros and ones (n_samples, n_features) as sparse rows."""
    rows, features = np.nonzero(fires)
    starts = np.searchsorted(rows, np.arange(len(fires) + 1)).astype(np.int64)
    return FiringRows(starts, features.astype(np.uint16), fires.shape[1])


VALUES = st.sampled_from([0.1, 0.25, 0.5, 1.0, 1.5, 2.0, 4.5])
"""Activations that often tie with each other and with a threshold."""


def row_lists(n_features: int = 6, max_samples: int = 8) -> st.SearchStrategy[list]:
    """Rows for `make_activations`, at least one."""
    row = st.dictionaries(st.integers(0, n_features - 1), VALUES, max_size=n_features)
    return st.lists(row, min_size=1, max_size=max_samples)
