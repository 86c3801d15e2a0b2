"""How a sparse autoencoder is trained."""

from dataclasses import dataclass
from typing import Literal, get_args

from facsynth.errors import DataError
from facsynth.settings import Settings

__all__ = ["DeadFeatures", "TrainSettings", "TrainedGate"]

TrainedGate = Literal["topk", "batchtopk"]
"""What decides in training which features of a token are kept."""


@dataclass(frozen=True)
class DeadFeatures(Settings):
    """When a feature counts as dead, and what is done about it."""

    after: int = 500_000
    """Tokens without an activation after which a feature is dead."""

    weight: float = 1 / 32
    """Weight of the auxiliary loss that revives dead features; 0 disables it."""


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
    """Peak rate of Adam: 2 % of the steps warm up, the last 30 % decay linearly to a tenth."""

    encoder_norm: float = 0.3
    """Initial norm of the encoder's rows."""

    k_start: float = 1.0
    """Initial k as a multiple of k; falls linearly to k over the first 10 % of the steps."""

    dead: DeadFeatures = DeadFeatures()
    """When a feature counts as dead, and the loss against that."""

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
