"""What a synthesis run wrote and kept."""

from collections.abc import Mapping
from dataclasses import dataclass

from facsynth.records import FeatureActivations, Sample
from facsynth.synthesize.candidates import Candidate

__all__ = ["KeptSample", "Synthesis"]


@dataclass(frozen=True)
class KeptSample:
    """A synthetic sample with where it came from."""

    candidate: Candidate
    sample: Sample
    """With what the task adds, such as the assistant's answer."""

    new_features: tuple[int, ...]
    """Missing features that it was the first to cover."""

    credited: Mapping[int, float]
    """Activation of every feature missing before the run that it activates."""

    is_contrast: bool = False
    """Whether it was written beside the candidate's own sample, with the other label."""


@dataclass(frozen=True)
class Synthesis:
    """What a run wrote and kept."""

    kept: tuple[KeptSample, ...]
    activations: FeatureActivations
    """Activations of the kept samples, in their order."""

    missing_before: tuple[int, ...]
    """Missing features before the run, ranked."""

    rounds: tuple[Mapping[str, float | int], ...]
    """One row per round: targets and newly kept samples of the round, and candidates, kept
    samples, covered missing features and FAC up to its end."""

    outcomes: Mapping[str, int]
    """Requested texts by what became of them."""

    generator: str

    stopped: str
    """Why the run ended: `covered` (nothing left to aim at), `no_gain` (no kept sample in the
    last rounds that patience allows), `diminishing` (too few), `max_samples`, `max_rounds` or
    `budget`."""

    n_unanswered: int
    """Kept texts without what the task adds, such as the assistant's answer."""

    fac: tuple[float, float] | None = None
    """FAC of the seed, and with the kept samples; None where nothing was missing."""

    is_sensitive: bool = False
    """Whether texts may offend or harm."""
