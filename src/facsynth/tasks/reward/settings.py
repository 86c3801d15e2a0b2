"""Settings of the task reward; the paper's values (arXiv 2602.10388) are the defaults."""

from dataclasses import dataclass, field

from facsynth.errors import DataError
from facsynth.settings import Settings
from facsynth.tasks.settings import LoraSettings, OptimizerSettings, TuneSettings

__all__ = ["RewardSettings"]

_OPTIMIZER = OptimizerSettings(
    epochs=1.0, learning_rate=8e-5, batch_size=8, schedule="cosine", warmup=0.1, weight_decay=0.01
)
_PAPER = TuneSettings(
    max_length=1024, cut="start", optimizer=_OPTIMIZER, lora=LoraSettings(16, 32, 0.1)
)


@dataclass(frozen=True)
class RewardSettings(Settings):
    """How a reward model is trained."""

    max_samples: int | None = None
    """Draw at most N pairs for each random seed."""

    train: TuneSettings = field(default_factory=lambda: _PAPER)

    def __post_init__(self) -> None:
        if (self.max_samples or 1) < 1:
            raise DataError("--max-samples must be 1 or more")
