"""Settings of the task toxicity; the paper's values (arXiv 2602.10388) are the defaults."""

from dataclasses import dataclass, field

from facsynth.errors import DataError
from facsynth.settings import Settings
from facsynth.tasks.settings import TuneSettings

__all__ = ["LabelFields", "ToxicitySettings"]


@dataclass(frozen=True)
class ToxicitySettings(Settings):
    """How a toxicity classifier is trained."""

    n_safe: int = 1000
    """Safe samples to draw for each random seed, with --safe."""

    max_per_class: int | None = None
    """Draw at most N samples of each class for each random seed."""

    train: TuneSettings = field(default_factory=TuneSettings)

    def __post_init__(self) -> None:
        if min(self.n_safe, self.max_per_class or 1) < 1:
            raise DataError("--n-safe and --max-per-class must be 1 or more")


@dataclass(frozen=True)
class LabelFields(Settings):
    """Where text, class and group of a sample are."""

    text_field: str | None = None
    """Read this field as plain text."""

    label_field: str | None = None
    """Field with the class of a sample; by default `label`."""

    group_field: str | None = None
    """Field with what a sample tests; by default `functionality`, where rows have it."""

    positive: str | None = None
    """Label of the toxic class, where it is ambiguous."""
