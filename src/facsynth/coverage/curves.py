"""Rarefaction and extrapolation curves with bands."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64
from numpy.typing import NDArray

from facsynth.coverage.interval import spread_scale
from facsynth.coverage.richness import expected_richness
from facsynth.coverage.unseen import extrapolated_curve
from facsynth.errors import DataError
from facsynth.table.active import ActiveRows

__all__ = ["CurvePoint", "richness_curve", "richness_curves"]

Z95 = 1.959963984540054
_N_RESAMPLES = 50


@dataclass(frozen=True, slots=True)
class CurvePoint:
    """Features expected in a number of samples of a source."""

    n_samples: int
    expected: float
    low: float
    """Lower end of the 95 % band."""

    high: float
    is_extrapolated: bool
    """More samples than the data set has."""


def richness_curve(
    rows: ActiveRows, *, n_points: int = 20, rng: np.random.Generator
) -> tuple[CurvePoint, ...]:
    """Features expected in 1 to 2 m samples, of which m were seen, with a 95 % band.

    Rarefied up to m, extrapolated (`extrapolated_curve`) up to 2 m. The band is the curve plus
    and minus 1.96 standard deviations over resamples of the samples, widened by `spread_scale`
    because resamples know nothing of unseen features. It is cut to [0, n_features].

    Raises:
        DataError: There are no samples.
    """
    n = rows.n_samples
    if not n:
        raise DataError("a table without samples has no richness curve")
    spaced = (np.linspace(1, n, n_points), np.geomspace(1, n, n_points))  # bent most at the start
    inside = np.unique(np.concatenate(spaced).round().astype(np.int64))
    sizes = np.concatenate([inside, n + inside])
    times = [
        np.bincount(rng.integers(0, n, n), minlength=n).astype(np.float32)
        for _ in range(_N_RESAMPLES)
    ]
    resampled = rows.firing.sum_samples(times).astype(np.int64)
    drawn = [_curve(counts, n, inside) for counts in resampled]
    error = Z95 * spread_scale(rows.counts, n) * np.std(drawn, axis=0)
    middle = _curve(rows.counts, n, inside)
    most = float(np.count_nonzero(rows.relevant))
    points = zip(sizes.tolist(), middle.tolist(), error.tolist(), strict=True)
    return tuple(
        CurvePoint(size, at, max(0.0, at - e), max(at, min(most, at + e)), size > n)
        for size, at, e in points
    )


def _curve(
    counts: Int64[np.ndarray, " n_features"], n: int, inside: Int64[np.ndarray, " n_inside"]
) -> Float64[np.ndarray, " n_points"]:
    beyond = extrapolated_curve(counts, n, inside.astype(np.float64))
    curve: NDArray[np.float64] = np.concatenate([expected_richness(counts, n, inside), beyond])
    return curve


def richness_curves(
    sides: Mapping[str, ActiveRows], *, random_seed: int
) -> dict[str, tuple[CurvePoint, ...]]:
    """`richness_curve` of several data sets, by their names."""
    rng = np.random.default_rng(random_seed)
    return {name: richness_curve(rows, rng=rng) for name, rows in sides.items()}
