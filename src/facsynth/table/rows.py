"""Rows of feature tables, taken and stacked."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from facsynth.errors import MismatchError
from facsynth.records import FeatureActivations

__all__ = ["stack_rows", "take_rows"]


def take_rows(
    activations: FeatureActivations, rows: Sequence[int] | NDArray[np.integer]
) -> FeatureActivations:
    """Some rows of a table, in the order given."""
    index = np.asarray(rows, dtype=np.int64)
    lengths = np.diff(activations.row_starts)[index]
    row_starts = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    owner = np.repeat(np.arange(len(index)), lengths)
    entries = activations.row_starts[index][owner] + np.arange(len(owner)) - row_starts[owner]
    return FeatureActivations(
        n_features=activations.n_features,
        sample_ids=tuple(activations.sample_ids[i] for i in index),
        n_tokens=activations.n_tokens[index],
        row_starts=row_starts,
        feature_ids=activations.feature_ids[entries],
        values=activations.values[entries],
        positions=activations.positions[entries],
        hidden=None if activations.hidden is None else activations.hidden[index],
    )


def stack_rows(parts: Sequence[FeatureActivations]) -> FeatureActivations:
    """Rows of several tables of one width; hidden states where all of them have them."""
    widths = {part.n_features for part in parts}
    if len(widths) != 1:
        raise MismatchError(f"tables of different widths cannot be stacked: {sorted(widths)}")
    lengths = np.concatenate([np.diff(part.row_starts) for part in parts])
    hidden = [part.hidden for part in parts if part.hidden is not None]
    return FeatureActivations(
        n_features=parts[0].n_features,
        sample_ids=tuple(name for part in parts for name in part.sample_ids),
        n_tokens=np.concatenate([part.n_tokens for part in parts]),
        row_starts=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        feature_ids=np.concatenate([part.feature_ids for part in parts]),
        values=np.concatenate([part.values for part in parts]),
        positions=np.concatenate([part.positions for part in parts]),
        hidden=np.concatenate(hidden) if len(hidden) == len(parts) else None,
    )
