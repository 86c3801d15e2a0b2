"""How features are explained, and how their names are tested."""

from dataclasses import dataclass

from facsynth.errors import DataError
from facsynth.settings import Settings

__all__ = ["EvidenceSettings", "ExplainSettings"]


@dataclass(frozen=True)
class EvidenceSettings(Settings):
    """How much is collected for each feature."""

    threshold: float = 1.0
    """Activation above which a sample shows the feature, in SAE units."""

    spans: int = 10
    """Spans shown per feature: half the strongest, half over the range of activations."""

    held_out: int = 10
    """Spans held out to test a name, over the range of activations; at most half of all."""

    near_misses: int = 15
    """Near misses per feature; a third is shown, the rest is held out."""

    random_misses: int = 10
    """Pieces of random silent samples per feature, held out."""

    context_tokens: int = 16
    """Tokens on each side of the peak, at most."""

    random_seed: int = 0
    """Random seed of what is drawn."""

    def __post_init__(self) -> None:
        if self.spans < 1 or self.context_tokens < 1:
            raise DataError("a feature needs at least one span with at least one token of context")
        if self.threshold < 0:
            raise DataError(f"threshold is {self.threshold}; it must be 0 or more")


@dataclass(frozen=True)
class ExplainSettings(Settings):
    """How an LLM explains features and judges explanations."""

    candidates: int = 1
    """Explanations asked for per feature; of several, the one that best fits the shown spans is
    kept."""

    texts_per_call: int = 5
    """Texts judged in one call."""

    fidelity: bool = True
    """Test explanations with the LLM on held-out spans."""

    temperature: float = 0.7
    """Sampling temperature if several explanations are asked for."""

    random_seed: int = 0
    """Random seed of the requests and of the order of texts."""

    def __post_init__(self) -> None:
        if self.candidates < 1 or self.texts_per_call < 1:
            raise DataError("candidates and texts_per_call must be at least 1")
