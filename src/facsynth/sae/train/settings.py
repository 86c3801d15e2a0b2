"""How a sparse autoencoder is trained."""

from dataclasses import dataclass, replace
from typing import Literal, get_args

from facsynth.errors import DataError
from facsynth.settings import Settings

__all__ = ["RECIPES", "DeadFeatures", "TrainSettings", "TrainVariant", "TrainedGate"]

TrainedGate = Literal["topk", "batchtopk"]
"""What decides in training which features of a token are kept."""


@dataclass(frozen=True)
class DeadFeatures(Settings):
    """When a feature counts as dead, and what is done about it."""

    dead_after: int = 500_000
    """Tokens without an activation after which a feature is dead."""

    dead_weight: float = 1 / 32
    """Weight of the auxiliary loss that revives dead features; 0 disables it."""


@dataclass(frozen=True)
class TrainVariant(Settings):
    """What published recipes do in another way."""

    optimizer: Literal["adam", "adamw"] = "adam"
    """Without weight decay, or with one of 0.01."""

    adam_eps: float = 1e-8
    """What Adam adds to the divisor of a step."""

    schedule: Literal["decay", "constant"] = "decay"
    """Warm up over 2 % of the steps and decay over the last 30 % linearly to a tenth, or keep the
    rate."""

    initial: Literal["unit", "kaiming"] = "unit"
    """First weights: rows of a fixed norm (the decoder's is 1), or Kaiming's uniform ones."""

    tied: bool = False
    """Decode with the encoder's matrix, whose rows then keep no norm."""

    frozen: bool = False
    """Keep the random directions that the decoder starts with: a control, whose features are not
    learned (arXiv 2602.14111)."""

    k_until: float = 0.1
    """Share of the steps after which k has its final value."""

    def __post_init__(self) -> None:
        if not 0 < self.k_until <= 1 or self.adam_eps <= 0:
            raise DataError(
                f"k_until ({self.k_until}) must lie in (0, 1], and adam_eps ({self.adam_eps}) "
                "above 0"
            )
        if self.tied and self.frozen:
            raise DataError(
                "a tied decoder is the encoder and cannot be frozen; choose one of both"
            )


@dataclass(frozen=True)
class TrainSettings(Settings):
    """How an SAE is trained. Defaults suit a small model on a CPU.

    BatchTopK (Bussmann et al., arXiv 2412.06410) pays where tokens need different numbers of
    features; where all need the same it learns a little more slowly. Encoder rows start shorter
    than the decoder's, which have norm 1, because a step of Adam turns a short row further. With
    `k_start` above 1 fewer features die, and the same number of steps explains a little less.
    """

    architecture: TrainedGate = "topk"
    """Keep k features of each token (topk), or k on average over a batch, which is saved with one
    threshold (batchtopk)."""

    n_features: int = 4096
    """Width of the SAE."""

    k: int = 32
    """Features active per token after annealing."""

    epochs: int = 3
    """Passes over the tokens."""

    batch_tokens: int = 4096
    """Tokens per optimiser step, over all processes."""

    learning_rate: float = 4e-3
    """Peak rate of Adam."""

    encoder_norm: float = 0.3
    """Initial norm of the encoder's rows, with `initial` unit."""

    k_start: float = 1.0
    """Initial k as a multiple of k, from which it falls linearly."""

    dead: DeadFeatures = DeadFeatures()
    """When a feature counts as dead, and the loss against that."""

    variant: TrainVariant = TrainVariant()
    """What published recipes do in another way."""

    max_norm_ratio: float = 10.0
    """Leave out tokens whose norm exceeds the median norm by more than this factor."""

    group_tokens: int = 250_000
    """Tokens whose activations are shuffled together."""

    memory_gb: float = 8.0
    """Keep activations for later epochs if they fit into this much memory per process."""

    random_seed: int = 0
    """Random seed of the initial weights and of every shuffle."""

    def __post_init__(self) -> None:
        if self.architecture not in get_args(TrainedGate):
            raise DataError(
                f"architecture must be one of {', '.join(get_args(TrainedGate))}, not "
                f"{self.architecture!r}"
            )
        if not 0 < self.k <= self.n_features:
            raise DataError(f"k must lie between 1 and {self.n_features} features, not {self.k}")
        if self.encoder_norm <= 0 or self.k_start < 1:
            raise DataError(
                f"encoder_norm ({self.encoder_norm}) must be positive and k_start "
                f"({self.k_start}) at least 1"
            )
        if self.epochs < 1 or self.batch_tokens < 1 or self.group_tokens < self.batch_tokens:
            raise DataError(
                f"epochs ({self.epochs}) must be positive and group_tokens ({self.group_tokens}) "
                f"at least batch_tokens ({self.batch_tokens})"
            )


_PAPER = TrainSettings(
    n_features=65_536,
    k=20,
    epochs=3,
    batch_tokens=512 * 178,
    learning_rate=1e-3,
    dead=DeadFeatures(dead_weight=0.0),
    variant=TrainVariant(optimizer="adamw", schedule="constant", initial="kaiming", tied=True),
)

RECIPES = {
    "paper": _PAPER,
    "authors": replace(
        _PAPER,
        epochs=5,
        k_start=10.0,
        variant=replace(_PAPER.variant, optimizer="adam", adam_eps=6.25e-10, k_until=0.5),
    ),
}
"""The SAE of arXiv 2602.10388 as its appendix tells it, and as its authors' code trains it, which
also takes k from 200 to 20. A batch is 512 texts there; here as many tokens, at 178 a text."""
