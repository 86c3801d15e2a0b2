"""Settings of training a model itself, with LoRA or all of its weights, and the paper's values."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from facsynth.errors import DataError

__all__ = ["PAPER", "LoraSettings", "TuneRun", "TuneSettings"]


@dataclass(frozen=True)
class LoraSettings:
    """Low-rank adapters beside the attention and MLP matrices (arXiv 2106.09685)."""

    rank: int = 8
    alpha: int = 16
    """Adapters are scaled by alpha / rank."""

    dropout: float = 0.1

    def __post_init__(self) -> None:
        """Check ranges."""
        if self.rank < 1 or self.alpha < 1 or not 0 <= self.dropout < 1:
            raise DataError(
                f"LoRA rank {self.rank}, alpha {self.alpha}, dropout {self.dropout}: rank and "
                "alpha are 1 or more, and dropout is in [0, 1)"
            )


@dataclass(frozen=True)
class TuneSettings:
    """How a model is trained."""

    lora: LoraSettings | None = field(default_factory=LoraSettings)
    """None trains all weights."""

    epochs: float = 3.0
    learning_rate: float = 5e-5
    """The highest, after the warm-up."""

    batch_size: int = 16
    """Samples (or pairs) of one step of the optimiser."""

    micro_batch: int = 4
    """Samples in memory at once; a step adds up several such batches."""

    max_tokens: int = 512
    """Longer texts are cut, template included."""

    cut: Literal["end", "start"] = "end"
    """Which side of a longer text is lost."""

    schedule: Literal["linear", "cosine"] = "linear"
    """How the learning rate falls to 0."""

    warmup: float = 0.0
    """Share of the steps in which it rises."""

    weight_decay: float = 0.0
    save_every: int = 100
    """Steps between checkpoints."""

    gradient_checkpointing: bool = False
    """Needs less memory and about a third more time."""

    def __post_init__(self) -> None:
        """Check ranges."""
        if min(self.epochs, self.learning_rate) <= 0 or min(self.warmup, self.weight_decay) < 0:
            raise DataError("--epochs and --learning-rate must be above 0, shares not below it")
        if min(self.batch_size, self.micro_batch, self.max_tokens, self.save_every) < 1:
            raise DataError("batch sizes, --max-tokens and --save-every must be 1 or more")
        if self.batch_size % min(self.micro_batch, self.batch_size):
            raise DataError(
                f"--batch-size {self.batch_size} is no multiple of --micro-batch "
                f"{self.micro_batch}; choose one that is"
            )

    @property
    def per_pass(self) -> int:
        """Samples of one forward pass."""
        return min(self.micro_batch, self.batch_size)


@dataclass(frozen=True)
class TuneRun:
    """A folder in which one model per seed is trained."""

    folder: Path
    settings: TuneSettings
    seeds: tuple[int, ...] = (42, 43, 44)
    control: bool = False
    """Also train on shuffled labels, with the first seed."""

    def __post_init__(self) -> None:
        """Check the seeds."""
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise DataError(f"the seeds {self.seeds} are none or not different; name each once")

    @property
    def names(self) -> dict[str, int]:
        """Sub-folder of each model, with its seed."""
        found = {f"seed-{seed}": seed for seed in self.seeds}
        return found | ({f"shuffled-{self.seeds[0]}": self.seeds[0]} if self.control else {})


PAPER = {
    "toxicity": TuneSettings(),
    "reward": TuneSettings(
        lora=LoraSettings(16, 32, 0.1),
        epochs=1.0,
        learning_rate=8e-5,
        batch_size=8,
        max_tokens=1024,
        cut="start",
        schedule="cosine",
        warmup=0.1,
        weight_decay=0.01,
    ),
    "instruction": TuneSettings(
        lora=LoraSettings(8, 16, 0.0), epochs=5.0, learning_rate=1e-4, max_tokens=2048
    ),
}
"""Settings of arXiv 2602.10388 by task; what it leaves open is LLaMA-Factory's or Trainer's own."""
