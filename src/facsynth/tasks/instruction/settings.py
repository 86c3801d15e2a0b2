"""Settings of the task instruction; the paper's values (arXiv 2602.10388) are the defaults."""

from dataclasses import dataclass, field

from facsynth.errors import DataError
from facsynth.settings import Settings
from facsynth.tasks.settings import LoraSettings, OptimizerSettings, TuneSettings

__all__ = ["AnswerSettings", "InstructionSettings"]

_PAPER = TuneSettings(
    max_length=2048,
    optimizer=OptimizerSettings(epochs=5.0, learning_rate=1e-4),
    lora=LoraSettings(8, 16, 0.0),
)


@dataclass(frozen=True)
class InstructionSettings(Settings):
    """How an instruction model is trained."""

    max_samples: int | None = None
    """Draw at most N conversations for each random seed."""

    train: TuneSettings = field(default_factory=lambda: _PAPER)

    def __post_init__(self) -> None:
        if (self.max_samples or 1) < 1:
            raise DataError("--max-samples must be 1 or more")
        if self.train.head_only:
            raise DataError("a head cannot learn to answer; train adapters or all weights")


@dataclass(frozen=True)
class AnswerSettings(Settings):
    """How a model is asked: greedily, one user message each."""

    max_new_tokens: int | None = None
    """Longest answer in tokens; by default 1,280 (IFEval), 512 (GSM8K) or 2,048 (AlpacaEval)."""

    batch_size: int = 16
    """Answers to write at once."""

    def __post_init__(self) -> None:
        if min(self.max_new_tokens or 1, self.batch_size) < 1:
            raise DataError("--max-new-tokens and --batch-size must be 1 or more")
