"""Settings of the comparisons between data sets and between SAEs."""

from dataclasses import dataclass
from typing import Literal

from facsynth.errors import DataError
from facsynth.settings import Settings

__all__ = [
    "DiffSettings",
    "DiversitySettings",
    "LabelSettings",
    "OverlapSettings",
    "Space",
    "TransferSettings",
]

Space = Literal["features", "hidden"]
"""Vectors of ones where a feature is active, or mean hidden states."""


def _at_least(least: int, **values: int) -> None:
    """Raise a DataError for values below a limit."""
    for name, value in values.items():
        if value < least:
            raise DataError(f"{name} is {value}; it must be at least {least}")


@dataclass(frozen=True)
class DiffSettings(Settings):
    """How features are tested for different firing rates."""

    length: Literal["matched", "none"] = "matched"
    """Compare samples within deciles of the pooled lengths, or all at once."""

    fdr: float = 0.05
    """False discovery rate of the features reported as different, above 0, at most 1."""

    top: int = 15
    """Features to show for each set."""

    def __post_init__(self) -> None:
        _at_least(1, top=self.top)
        if not 0 < self.fdr <= 1:
            raise DataError(f"fdr is {self.fdr}; it must be above 0 and at most 1")


@dataclass(frozen=True)
class OverlapSettings(Settings):
    """How shares of features are matched in size and length."""

    draws: int = 20
    """Random parts behind each matched share."""

    random_seed: int = 0
    """Random seed of the parts."""

    def __post_init__(self) -> None:
        _at_least(1, draws=self.draws)


@dataclass(frozen=True)
class DiversitySettings(Settings):
    """How data sets are drawn from and measured."""

    sample: int = 1000
    """Measure at most N samples of each data set at a time."""

    draws: int = 5
    """Random draws from a data set that is larger than the sample."""

    clusters: int = 20
    """Clusters of the cluster entropy, found on all data sets together."""

    random_seed: int = 0
    """Random seed of draws and clusters."""

    def __post_init__(self) -> None:
        _at_least(2, sample=self.sample, draws=self.draws)
        _at_least(1, clusters=self.clusters)


@dataclass(frozen=True)
class LabelSettings(Settings):
    """How label directions are compared."""

    space: Space = "features"
    """Vectors that directions are taken of: active features, or the mean hidden states that
    `fac extract --hidden` keeps."""

    resamples: int = 200
    """Bootstrap resamples behind intervals, and shuffles behind the control."""

    random_seed: int = 0
    """Random seed of both."""

    def __post_init__(self) -> None:
        _at_least(20, resamples=self.resamples)


@dataclass(frozen=True)
class TransferSettings(Settings):
    """What counts as a counterpart, and how that is tested."""

    min_correlation: float = 0.5
    """Correlation on held-out samples above which a feature has a counterpart, 0 to 1."""

    min_samples: int = 10
    """Compare features that are active in at least N samples of each half."""

    shuffles: int = 3
    """Shuffles of the samples as controls, over all samples and within length groups."""

    resamples: int = 200
    """Bootstrap resamples of the samples behind the 95 % intervals."""

    random_seed: int = 0
    """Random seed of the halves, the shuffles and the resamples."""

    top: int = 10
    """Pairs of counterparts to show."""

    def __post_init__(self) -> None:
        _at_least(2, min_samples=self.min_samples, resamples=self.resamples)
        _at_least(0, shuffles=self.shuffles, top=self.top)
        if not 0 <= self.min_correlation < 1:
            raise DataError(f"min_correlation is {self.min_correlation}; it must be in [0, 1)")
