"""Settings of a choice of samples.

Coverage grows with text length, so a greedy choice without length quotas takes long and odd texts
and is much worse than a random one. Within length quotas herding to the target's firing rates is
ahead of random samples, and coverage is not (docs/studies/keep_rules.md). So both are the default.
"""

from dataclasses import dataclass
from typing import Literal

from facsynth.errors import DataError
from facsynth.settings import Settings

__all__ = ["FilterSettings", "SelectSettings"]


@dataclass(frozen=True)
class SelectSettings(Settings):
    """How samples are chosen."""

    budget: int
    """Number of samples to choose. A pool with fewer samples that have text is chosen whole."""

    objective: Literal["representative", "coverage", "direction"] = "representative"
    """Match the target's firing rates; cover the most features; or keep the difference between
    the classes, or between chosen and rejected."""

    space: Literal["features", "hidden"] = "features"
    """Vectors that representative and direction match: active features, or the mean hidden states
    that `fac extract --hidden` keeps."""

    quota: Literal["length", "none"] = "length"
    """Choose equally many from each length decile of the pool, or from anywhere."""

    budget_tokens: int | None = None
    """Tokens that all chosen samples may have together. Samples that do not fit are skipped."""

    weights: Literal["equal", "frequency"] = "equal"
    """For the objective coverage: count a feature once, or as often as it fires in the target."""

    random_seed: int = 0
    """Random seed of the random choices that serve as a control."""

    def __post_init__(self) -> None:
        for name, budget in (("budget", self.budget), ("budget_tokens", self.budget_tokens)):
            if budget is not None and budget < 1:
                raise DataError(f"{name} is {budget}; it must be at least 1")
        if self.space == "hidden" and self.objective == "coverage":
            raise DataError(
                "hidden states have no coverage; choose the objective representative or direction"
            )
        if self.weights != "equal" and self.objective != "coverage":
            raise DataError(
                f"the objective {self.objective} has no weights of features; leave them equal or "
                "choose the objective coverage"
            )


@dataclass(frozen=True)
class FilterSettings(Settings):
    """What happens to the samples that activate the named features."""

    drop: tuple[str, ...] = ()
    """Leave out samples that activate these: feature ids and topics, such as 136,topic:3."""

    keep: tuple[str, ...] = ()
    """Keep only samples that activate these."""

    label: tuple[str, ...] = ()
    """Give samples that activate these a label: NAME=136,topic:3; the first that fits counts."""

    at_least: int = 1
    """Features of one group that a sample has to activate; more for large topics."""

    def __post_init__(self) -> None:
        if sum(map(bool, (self.drop, self.keep, self.label))) != 1:
            raise DataError("say what to do with which features: --drop, --keep or --label")
        if self.at_least < 1:
            raise DataError(f"at_least is {self.at_least}; it must be 1 or more")

    @property
    def action(self) -> Literal["drop", "keep", "label"]:
        """What is done."""
        return "drop" if self.drop else "keep" if self.keep else "label"
