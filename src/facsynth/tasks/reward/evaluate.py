"""Reward modelling: how often the better answer gets the higher reward, with its controls."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from facsynth.progress import SILENT, Progress
from facsynth.records import sample_text
from facsynth.show import TextTable, as_html
from facsynth.tasks.folder import TrainedTask, near_copies
from facsynth.tasks.metrics import bootstrap_share
from facsynth.tasks.results import Headline, by_part, mean_and_sd, rows_table, values_table
from facsynth.tasks.reward.data import Comparison, both_sides
from facsynth.tasks.settings import Loader
from facsynth.words import count_words

__all__ = ["RewardResult", "evaluate_reward", "section_averages"]

_SECTIONS = {
    "Chat": "alpacaeval-easy alpacaeval-length alpacaeval-hard mt-bench-easy mt-bench-med",
    "Chat Hard": "mt-bench-hard llmbar-natural llmbar-adver-neighbor llmbar-adver-GPTInst "
    "llmbar-adver-GPTOut llmbar-adver-manual",
    "Safety": "refusals-dangerous refusals-offensive xstest-should-refuse xstest-should-respond "
    "donotanswer",
    "Reasoning": "math-prm hep-cpp hep-go hep-java hep-js hep-python hep-rust",
}
"""The sections of RewardBench and their subsets (arXiv 2403.13787)."""

_MATH = "math-prm"
"""Weighs as much as the code subsets of its section together."""

_TITLES = {
    "accuracy": "accuracy",
    "  standard deviation over random seeds": "accuracy_sd",
    "  of preferring the longer answer": "longer_accuracy",
    "  trained on shuffled pairs": "shuffled_accuracy",
    "pairs": "n_pairs",
}


@dataclass(frozen=True)
class RewardResult:
    """Share of pairs whose chosen answer gets the higher reward; equal rewards are wrong."""

    accuracy: float
    """Mean over random seeds."""

    accuracy_sd: float | None
    models: tuple[dict[str, Any], ...]
    """Each with `model` and its accuracy (`value`) with an interval over pairs."""

    subsets: tuple[dict[str, Any], ...]
    """Accuracy for each subset that the data name."""

    sections: dict[str, float] | None
    """RewardBench's scores, where subsets are its own."""

    longer_accuracy: float
    """Of preferring the answer with more words."""

    shuffled_accuracy: float | None
    """After training on randomly swapped pairs."""

    n_pairs: int
    n_cut: int
    near_copies: tuple[str, ...]

    def headline(self) -> Headline:
        """Accuracy against the longer answer."""
        simple, shuffled = self.longer_accuracy, self.shuffled_accuracy
        return Headline("accuracy", self.accuracy, self.accuracy_sd, simple, shuffled)

    def row(self) -> dict[str, Any]:
        """The fields by name."""
        return asdict(self)

    def tables(self) -> Sequence[TextTable]:
        """Measures, and what the benchmark at hand is broken down by."""
        found = [values_table("Reward", self.row(), _TITLES)]
        found += rows_table("By subset", self.subsets)
        if self.sections:
            found.append(TextTable("RewardBench", ("section", "score"), [*self.sections.items()]))
        return found

    _repr_html_ = as_html


def evaluate_reward(
    trained: TrainedTask,
    pairs: Sequence[Comparison],
    load: Loader,
    *,
    allow_overlap: bool = False,
    progress: Progress = SILENT,
) -> RewardResult:
    """Score both sides of pairs by every trained model.

    Args:
        trained: What `train_reward` wrote.
        pairs: Evaluation pairs.
        load: Loads the untrained model, after the input is checked.
        allow_overlap: Evaluate also on near-copies of training pairs.
        progress: Where bars go.

    Raises:
        DataError: Evaluation pairs are near-copies of training pairs.
        MismatchError: The model is another one.
    """
    samples = both_sides(pairs)
    texts = [sample_text(sample) for sample in samples]
    ids = [pair.pair_id for pair in pairs for _ in range(2)]
    copies = near_copies(trained, zip(ids, texts, strict=True), allow=allow_overlap)
    trained.check()
    from facsynth.tasks.scorer import score_samples  # loads torch: after what the user got wrong

    scored = score_samples(trained, samples, load, progress=progress)
    right = {name: (r[0::2] > r[1::2]).astype(np.float64) for name, r in scored.models.items()}
    shuffled = [float((r[0::2] > r[1::2]).mean()) for r in scored.shuffled.values()]
    accuracy, sd = mean_and_sd([float(flags.mean()) for flags in right.values()])
    mean = np.mean(list(right.values()), axis=0)
    lengths = np.array([count_words(text) for text in texts])
    subsets = by_part("subset", [pair.subset for pair in pairs], {"accuracy": mean})
    return RewardResult(
        accuracy=accuracy,
        accuracy_sd=sd,
        models=tuple(_measure(name, flags) for name, flags in right.items()),
        subsets=subsets,
        sections=section_averages(
            {row["subset"]: row["accuracy"] for row in subsets},
            {row["subset"]: row["n"] for row in subsets},
        ),
        longer_accuracy=float((lengths[0::2] > lengths[1::2]).mean()),
        shuffled_accuracy=float(np.mean(shuffled)) if shuffled else None,
        n_pairs=len(pairs),
        n_cut=scored.n_cut,
        near_copies=copies,
    )


def section_averages(accuracy: dict[str, float], counts: dict[str, int]) -> dict[str, float] | None:
    """RewardBench's section scores and their mean, or None where no subset is of RewardBench.

    Subsets weigh by their pairs; math weighs as much as the code subsets together. The mean is
    over the sections that are there.
    """
    found = {}
    for section, names in _SECTIONS.items():
        present = {name: float(counts[name]) for name in names.split() if name in accuracy}
        code = sum(n for name, n in present.items() if name.startswith("hep-"))
        if _MATH in present and code:
            present[_MATH] = code
        if present:
            total = sum(accuracy[name] * n for name, n in present.items())
            found[section] = total / sum(present.values())
    return {**found, "Average": sum(found.values()) / len(found)} if found else None


def _measure(name: str, right: Float64[np.ndarray, " n_pairs"]) -> dict[str, Any]:
    random_seed = int(name.rpartition("-")[2])
    rate = bootstrap_share(right, rng=np.random.default_rng(random_seed))
    return {"model": name, **asdict(rate)}
