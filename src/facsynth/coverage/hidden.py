"""Distance between the mean hidden states of a seed and of the anchor.

Features see what an SAE has learned; hidden states see the rest as well. Beside the distance
stands what random anchor samples reach, as beside every other measure.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64
from numpy.typing import NDArray

from facsynth.coverage.controls import Draws, length_matched_subset, summarize_draws
from facsynth.errors import DataError
from facsynth.records import FeatureActivations
from facsynth.table.active import ActiveRows

__all__ = [
    "HiddenCloseness",
    "common_scale",
    "hidden_states",
    "measure_hidden",
    "spread",
    "standard_shift",
]


HasHidden = FeatureActivations | ActiveRows
"""Rows in memory, or the active rows of tables: with the mean hidden states if they were kept."""


@dataclass(frozen=True, slots=True)
class HiddenCloseness:
    """Distance between the mean hidden states of seed and anchor, beside that of random samples."""

    distance: float
    """See `standard_shift`; 0 is best. A seed of n samples that is nothing but a random part of
    the anchor reaches about √(1/n)."""

    random_subset: Draws
    """The same for random anchor samples, as many as the seed has."""

    length_matched: Draws
    """The same for such anchor samples of the seed's lengths."""


def spread(states: NDArray[np.floating]) -> Float64[np.ndarray, " d_model"]:
    """Standard deviation of each dimension over samples; infinite where all are equal."""
    deviations: NDArray[np.float64] = states.std(axis=0, dtype=np.float64)
    noise = 1e-6 * np.abs(states).max(axis=0, initial=0.0)  # float32 means of equal states differ
    return np.where(deviations > noise, deviations, np.inf)


def common_scale(
    tables: Sequence[HasHidden],
) -> Float64[np.ndarray, " d_model"] | None:
    """`spread` over all samples of several tables that have hidden states; None without any."""
    found = [(table.n_tokens, table.hidden) for table in tables]
    states = [hidden[n_tokens > 0] for n_tokens, hidden in found if hidden is not None]
    return spread(np.concatenate(states)) if states else None


def hidden_states(
    rows: HasHidden, scale: Float64[np.ndarray, " d_model"] | None = None
) -> Float64[np.ndarray, "n_samples d_model"]:
    """Mean hidden states with each dimension in units of its spread.

    A sample without scored tokens stands at the mean of the others.

    Args:
        rows: A table.
        scale: Unit of each dimension; the spread over the samples with scored tokens when None.

    Raises:
        DataError: The table keeps no hidden states.
    """
    hidden = rows.hidden
    if hidden is None:
        raise DataError(
            "the table keeps no hidden states; extract the data again with `fac extract --hidden`"
        )
    states: NDArray[np.float64] = hidden / (common_scale([rows]) if scale is None else scale)
    has_text = rows.n_tokens > 0
    if has_text.any():
        states[~has_text] = states[has_text].mean(axis=0)
    return states


def standard_shift(
    states: NDArray[np.floating],
    center: Float64[np.ndarray, " d_model"],
    scale: Float64[np.ndarray, " d_model"],
) -> float:
    """Root mean square, over dimensions, of the shift of the mean in standard deviations.

    √(mean_j ((m_j - c_j) / s_j)²) for the mean m of the states. Each dimension counts in units
    of its own spread, because a few dimensions of a residual stream are far larger than others.
    """
    shifts = (states.mean(axis=0, dtype=np.float64) - center) / scale
    return float(np.sqrt(np.square(shifts).mean()))


def measure_hidden(
    anchor: HasHidden,
    seed: HasHidden,
    *,
    n_draws: int = 20,
    rng: np.random.Generator,
) -> HiddenCloseness | None:
    """Distance between the mean hidden states of two tables, over samples with scored tokens.

    Returns:
        The distance; None when a table keeps no hidden states or has no scored token.
    """
    states, seed_states = anchor.hidden, seed.hidden
    if states is None or seed_states is None:
        return None
    whole, part = states[anchor.n_tokens > 0], seed_states[seed.n_tokens > 0]
    if not len(whole) or not len(part):
        return None
    center, scale = whole.mean(axis=0, dtype=np.float64), spread(whole)
    lengths, wanted = anchor.n_tokens[anchor.n_tokens > 0], seed.n_tokens[seed.n_tokens > 0]
    size = min(len(whole), len(part))
    random, matched = [], []
    for _ in range(n_draws):
        drawn = rng.choice(len(whole), size, replace=False)
        random.append(standard_shift(whole[drawn], center, scale))
        chosen = length_matched_subset(lengths, wanted, rng=rng)
        matched.append(standard_shift(whole[chosen], center, scale))
    return HiddenCloseness(
        distance=standard_shift(part, center, scale),
        random_subset=summarize_draws(random, size),
        length_matched=summarize_draws(matched, size),
    )
