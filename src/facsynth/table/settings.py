"""How samples are read into a feature table. Imports nothing heavy: commands read it for help."""

from dataclasses import dataclass
from typing import Literal

from facsynth.errors import DataError
from facsynth.settings import Settings

__all__ = ["ExtractSettings", "Gating", "Pooling"]

Gating = Literal["sae", "relu"]
"""Which activations count: those that pass the SAE's own gate, or all positive
pre-activations, as the scripts of arXiv 2602.10388 measure."""

Pooling = Literal["max", "mean", "last", "count"]
"""How a sample's scored tokens become one number: the largest activation, the mean (zeros
included), that of the last scored token, or the number of tokens above zero."""


@dataclass(frozen=True)
class ExtractSettings(Settings):
    """How samples are read."""

    score: Literal["all", "user", "assistant"] = "all"
    """Score the tokens of all messages, or only those of the user or the assistant. The chat
    template is never scored."""

    score_reasoning: bool = True
    """Also score the reasoning of answers: in a field of its own, or `<think>` in front."""

    max_length: int = 1024
    """Cut samples at this many tokens (2 to 65,535)."""

    batch_tokens: int | None = None
    """Tokens per forward pass, padding included. By default as many as the memory allows."""

    part_samples: int = 1024
    """Samples per file of the table."""

    gate: Gating = "sae"
    """Count activations that pass the SAE's own gate, or every positive pre-activation."""

    pooling: Pooling = "max"
    """Reduce the scored tokens of a sample to one number per feature: the largest activation, the
    mean, that of the last token, or the number of tokens that activate the feature."""

    hidden: bool = False
    """Also keep the mean hidden state of each sample at the SAE's layer (4 bytes times the width
    of the model), for closeness and label directions in hidden space."""

    def __post_init__(self) -> None:
        if not 2 <= self.max_length <= 65_535:
            raise DataError(f"max_length must be between 2 and 65,535, not {self.max_length}")
        if self.part_samples < 1:
            raise DataError(f"part_samples must be at least 1, not {self.part_samples}")
        if self.batch_tokens is not None and self.batch_tokens < 1:
            raise DataError(f"batch_tokens must be at least 1, not {self.batch_tokens}")


@dataclass(frozen=True)
class ShardSettings(Settings):
    """Which share of a table a run extracts, so that several machines make one table."""

    shard: int | None = None
    """Extract only this shard of the data, counted from 0; `fac merge` joins the shards to the
    table that one run would have written."""

    num_shards: int = 1
    """Number of shards that the data is cut into."""

    def __post_init__(self) -> None:
        if self.num_shards < 1:
            raise DataError(f"num_shards is {self.num_shards}, and must be at least 1")
        if self.shard is None and self.num_shards > 1:
            raise DataError("--num-shards needs --shard, the number of the shard from 0")
        if self.shard is not None and not 0 <= self.shard < self.num_shards:
            raise DataError(
                f"shard is {self.shard}, and with --num-shards {self.num_shards} must be between "
                f"0 and {self.num_shards - 1}"
            )

    def has_part(self, index: int, n_parts: int) -> bool:
        """Whether the shard has this part of the table: consecutive parts, equally many."""
        return self.shard is None or index * self.num_shards // n_parts == self.shard
