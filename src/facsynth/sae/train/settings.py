"""How a sparse autoencoder is trained."""

from dataclasses import dataclass
from typing import Literal, get_args

from facsynth.errors import ModelError

__all__ = ["DeadFeatures", "TrainSettings", "TrainedGate"]

TrainedGate = Literal["topk", "batchtopk"]
"""What decides in training which features of a token are kept."""


@dataclass(frozen=True)
class DeadFeatures:
    """When a feature counts as dead, and what is done about it."""

    after: int = 500_000
    """Tokens without an activation after which a feature is dead."""

    weight: float = 1 / 32
    """Weight of the auxiliary loss that brings dead features back; 0 switches it off."""


@dataclass(frozen=True)
class TrainSettings:
    """How an SAE is trained. Defaults suit a small model on a CPU."""

    architecture: TrainedGate = "topk"
    """`topk` keeps k features of each token; `batchtopk` k times n of the n tokens of a batch
    together (Bussmann et al., arXiv 2412.06410), and reads new text with one threshold. The latter
    pays where tokens need different numbers of features; where all need the same it learns a
    little more slowly."""

    n_features: int = 4096
    """Width of the SAE."""

    k: int = 32
    """Features kept per token at the end of the annealing; for `batchtopk` on average."""

    epochs: int = 3
    """Passes over the tokens."""

    batch_tokens: int = 4096
    """Tokens per optimiser step, over all processes together."""

    learning_rate: float = 4e-3
    """Peak of Adam's rate: 2 % of the steps warm up, the last 30 % decay linearly to a tenth."""

    encoder_norm: float = 0.3
    """Norm of the encoder's rows at the start, where the decoder's have norm 1: steps of Adam turn
    short rows further, so the features find their directions sooner."""

    k_start: float = 1.0
    """Training starts with `k_start` times k, which falls linearly to k over the first 10 %; above
    1 fewer features die, and the same steps explain a little less."""

    dead: DeadFeatures = DeadFeatures()
    """When a feature counts as dead, and the loss against that."""

    max_norm_ratio: float = 10.0
    """Tokens whose norm exceeds the median norm by more than this are left out."""

    group_tokens: int = 250_000
    """Tokens whose activations are shuffled together."""

    memory_gb: float = 8.0
    """If a process' activations fit into so much memory, the model is run once and not each
    epoch."""

    seed: int = 0
    """Seed of the initial weights and of every shuffle."""

    def __post_init__(self) -> None:
        if self.architecture not in get_args(TrainedGate):
            raise ModelError(
                f"architecture must be one of {', '.join(get_args(TrainedGate))}, not "
                f"{self.architecture!r}"
            )
        if not 0 < self.k <= self.n_features:
            raise ModelError(f"k must lie between 1 and {self.n_features} features, not {self.k}")
        if self.encoder_norm <= 0 or self.k_start < 1:
            raise ModelError(
                f"encoder_norm ({self.encoder_norm}) must be positive and k_start "
                f"({self.k_start}) at least 1"
            )
        if self.epochs < 1 or self.batch_tokens < 1 or self.group_tokens < self.batch_tokens:
            raise ModelError(
                f"epochs ({self.epochs}) must be positive and group_tokens ({self.group_tokens}) "
                f"at least batch_tokens ({self.batch_tokens})"
            )
