"""Settings that tasks share: how a model, or a head on it, is trained."""

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any, Literal

from facsynth.errors import DataError
from facsynth.settings import Settings

__all__ = [
    "HeadSettings",
    "Loader",
    "LoraSettings",
    "OptimizerSettings",
    "TuneSettings",
    "check_random_seeds",
    "is_control",
]

Loader = Callable[[], Any]
"""Loads the untrained `LanguageModel`; called once for every model that is trained."""


@dataclass(frozen=True)
class OptimizerSettings(Settings):
    """How the weights are fitted, by AdamW."""

    epochs: float = 3.0
    """Passes over the data."""

    learning_rate: float = 5e-5
    """Peak learning rate."""

    batch_size: int = 16
    """Samples per optimizer step."""

    micro_batch: int = 4
    """Samples in memory at once; a step sums the gradients of several such batches."""

    schedule: Literal["linear", "cosine"] = "linear"
    """Decay of the learning rate to 0."""

    warmup: float = 0.0
    """Share of the steps in which the learning rate rises, in [0, 1]."""

    weight_decay: float = 0.0
    """Weight decay of AdamW."""

    save_every: int = 100
    """Steps between checkpoints."""

    gradient_checkpointing: bool = False
    """Use less memory and about a third more time."""

    log_to: tuple[Literal["tensorboard", "trackio", "wandb", "mlflow"], ...] = ()
    """Where loss and learning rate are logged, through Transformers; its package must be there."""

    def __post_init__(self) -> None:
        if missing := [name for name in self.log_to if find_spec(name) is None]:
            raise DataError(f"--log-to {missing[0]} needs a package: pip install {missing[0]}")
        if min(self.epochs, self.learning_rate) <= 0:
            raise DataError("--epochs and --learning-rate must be above 0")
        if min(self.warmup, self.weight_decay) < 0 or self.warmup > 1:
            raise DataError("--warmup is a share in [0, 1], and --weight-decay is 0 or more")
        if min(self.batch_size, self.micro_batch, self.save_every) < 1:
            raise DataError("--batch-size, --micro-batch and --save-every must be 1 or more")
        if self.batch_size % self.per_pass:
            raise DataError(
                f"--batch-size {self.batch_size} must be a multiple of --micro-batch "
                f"{self.micro_batch}"
            )

    @property
    def per_pass(self) -> int:
        """Samples of one forward pass."""
        return min(self.micro_batch, self.batch_size)


@dataclass(frozen=True)
class LoraSettings(Settings):
    """Low-rank adapters on the attention and MLP matrices (arXiv 2106.09685)."""

    lora_rank: int = 8
    """Rank of the adapters."""

    lora_alpha: int = 16
    """Scale adapters by alpha / rank."""

    lora_dropout: float = 0.1
    """Dropout of the adapters, in [0, 1)."""

    def __post_init__(self) -> None:
        if min(self.lora_rank, self.lora_alpha) < 1 or not 0 <= self.lora_dropout < 1:
            raise DataError(
                f"--lora-rank {self.lora_rank} and --lora-alpha {self.lora_alpha} must be 1 or "
                f"more, and --lora-dropout {self.lora_dropout} in [0, 1)"
            )


@dataclass(frozen=True)
class HeadSettings(Settings):
    """A linear head on hidden states of the frozen model."""

    recipe: Literal["optimum", "paper"] = "optimum"
    """With --head-only: a logistic regression at its optimum on a middle layer, or the paper's
    gradient steps on the model's last state of the last token: 15 epochs (5 for pairs) at 8e-5, 4 a
    step."""

    layer: int | None = None
    """With --head-only: 0-based decoder layer to read; by default the middle one."""

    pooling: Literal["mean", "last"] = "mean"
    """With --head-only: the mean state of the words, or the state of the last token."""

    inverse_l2: float = 1e-3
    """With --head-only: scikit-learn's C on standardised states; smaller is smoother."""

    def __post_init__(self) -> None:
        if self.inverse_l2 <= 0:
            raise DataError(f"--inverse-l2 is {self.inverse_l2}, but must be above 0")
        chosen = (self.layer, self.pooling, self.inverse_l2) != (None, "mean", 1e-3)
        if self.recipe == "paper" and chosen:
            raise DataError(
                "--recipe paper has its own layer, pooling and fit; leave out --layer, --pooling "
                "and --inverse-l2"
            )


@dataclass(frozen=True)
class TuneSettings(Settings):
    """What is trained: adapters (LoRA), all weights, or a head alone.

    The defaults are the paper's for toxicity; a task's own settings hold what differs.
    """

    head_only: bool = False
    """Fit only a linear head; the model stays frozen."""

    full: bool = False
    """Train all weights instead of adapters."""

    control: bool = False
    """Also train on shuffled labels, with the first random seed; heads always do."""

    random_seed: tuple[int, ...] = (42, 43, 44)
    """Train one model or head for each random seed; repeatable."""

    max_length: int = 512
    """Cut texts to N tokens, template included."""

    cut: Literal["end", "start"] = "end"
    """Side on which a longer text is cut."""

    optimizer: OptimizerSettings = field(default_factory=OptimizerSettings)
    lora: LoraSettings = field(default_factory=LoraSettings)
    head: HeadSettings = field(default_factory=HeadSettings)

    def __post_init__(self) -> None:
        check_random_seeds(self.random_seed)
        if self.head_only and self.full:
            raise DataError("--head-only and --full exclude each other")
        if self.max_length < 1:
            raise DataError("--max-length must be 1 or more")

    @property
    def method(self) -> str:
        """`head`, `lora` or `full`."""
        return "head" if self.head_only else "full" if self.full else "lora"

    @property
    def models(self) -> dict[str, int]:
        """Name of each model to be trained, with its random seed; controls are `shuffled-…`."""
        controlled = self.random_seed if self.head_only else self.random_seed[: int(self.control)]
        return {f"model-{seed}": seed for seed in self.random_seed} | {
            f"shuffled-{seed}": seed for seed in controlled
        }


def is_control(name: str) -> bool:
    """Whether a model is trained on shuffled labels."""
    return name.startswith("shuffled-")


def check_random_seeds(random_seeds: tuple[int, ...]) -> None:
    """Raise a DataError unless there are random seeds, each once."""
    if not random_seeds or len(set(random_seeds)) != len(random_seeds):
        raise DataError(f"--random-seed got {random_seeds}; name one or more, each once")
