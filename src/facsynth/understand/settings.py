"""How features are explained, and how their names are tested."""

from dataclasses import dataclass
from typing import Literal

from facsynth.errors import DataError
from facsynth.settings import Settings, check_threshold

__all__ = ["EvidenceSettings", "ExplainSettings", "Length", "RelevanceSettings"]

Length = Literal["matched", "none"]


@dataclass(frozen=True)
class EvidenceSettings(Settings):
    """How much is collected for each feature."""

    threshold: float | None = None
    """Activation above which a sample shows the feature, in SAE units; by default the lowest
    quantile of the table's activations at which random samples of it leave room."""

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
        check_threshold(self.threshold)


@dataclass(frozen=True)
class ExplainSettings(Settings):
    """How an LLM explains features and judges explanations."""

    texts_per_call: int = 5
    """Texts judged in one call."""

    fidelity: bool = True
    """Test explanations with the LLM on held-out spans."""

    random_seed: int = 0
    """Random seed of the requests and of the order of texts."""

    def __post_init__(self) -> None:
        if self.texts_per_call < 1:
            raise DataError(f"texts_per_call is {self.texts_per_call}; it must be 1 or more")


@dataclass(frozen=True)
class RelevanceSettings(Settings):
    """What makes a feature relevant: a rubric, a label, or the scores of a model."""

    task: str | None = None
    """Criteria for an LLM: toxicity, reward, sycophancy, survival, instruction, or a text file."""

    label: str | None = None
    """Label of the task: features that go with it are relevant."""

    scores: str | None = None
    """File with one score for each sample of the table (correct or not, a reward, a loss), or a log
    of lm-evaluation-harness or Inspect: features that go with bad scores are relevant."""

    score: str | None = None
    """Field, metric or scorer of that file, where it has several."""

    lower_is_better: bool = False
    """Low scores are good, as those of losses are."""

    low_share: float = 0.25
    """Share of the samples that counts as failures where scores take more than two values, the
    worst first."""

    length: Length = "matched"
    """Compare samples with and without the label, or failures and successes, within deciles of
    their lengths, or all at once."""

    leave_out: Literal["none", "cannot-tell", "doubtful"] = "cannot-tell"
    """Features that an LLM does not judge: none; those that no explainer could describe; or these
    and those whose description failed its test."""

    min_grade: Literal["yes", "probably", "maybe"] = "maybe"
    """Lowest grade that is relevant. Of labels and scores the grades are false discovery rates of
    0.001, 0.01 and 0.05."""

    threshold: float | None = None
    """Activation above which a feature is active, in SAE units; by default the lowest quantile of
    the table's activations at which random samples of it leave room."""

    def __post_init__(self) -> None:
        if self.label is not None and self.scores is not None:
            raise DataError("label and scores are two judges; give one of them")
        if self.scores is None and self.score is not None:
            raise DataError("score names a field of a file; give that file as scores")
        if not 0 < self.low_share < 1:
            raise DataError(f"low_share is {self.low_share}; it must be above 0 and below 1")
        check_threshold(self.threshold)
