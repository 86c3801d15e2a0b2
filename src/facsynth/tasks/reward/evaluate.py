"""Reward modelling: how often the better answer gets the higher reward, with its controls."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float64

from facsynth.progress import SILENT, Progress
from facsynth.records import Sample, sample_text
from facsynth.show import TextTable
from facsynth.tasks.folder import TrainedTask, near_copies
from facsynth.tasks.metrics import bootstrap_share
from facsynth.tasks.results import Items, TaskResult, by_part, estimate_row, rows_table
from facsynth.tasks.reward.data import Comparison, both_sides
from facsynth.tasks.settings import Loader
from facsynth.words import count_words

if TYPE_CHECKING:
    from facsynth.tasks.scorer import Scored

__all__ = ["evaluate_reward", "section_averages"]

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
    "  of preferring the longer answer": "longer_accuracy",
    "  of the untrained model, by likelihood a word": "base_accuracy_per_word",
    "pairs": "n_pairs",
}


def evaluate_reward(
    trained: TrainedTask,
    pairs: Sequence[Comparison],
    load: Loader,
    *,
    base: bool = False,
    allow_overlap: bool = False,
    progress: Progress = SILENT,
) -> TaskResult:
    """Score both sides of pairs by every trained model.

    Args:
        trained: What `train_reward` wrote.
        pairs: Evaluation pairs.
        load: Loads the untrained model, after the input is checked.
        base: Also compare both answers by their log-likelihood under the untrained model.
        allow_overlap: Evaluate also on near-copies of training pairs.
        progress: Where bars go.

    Returns:
        `accuracy`, the share of pairs whose chosen answer gets the higher reward (equal rewards
        are wrong); `subsets` with the accuracy of each subset that the data name; `sections`,
        RewardBench's scores, where subsets are its own; `longer_accuracy`, of preferring the answer
        with more words; `base_accuracy_per_word`, of log-likelihoods divided by words; `n_pairs`,
        `n_cut`.

    Raises:
        DataError: Evaluation pairs are near-copies of training pairs.
        MismatchError: The model is another one.
    """
    samples, ids = both_sides(pairs), [pair.pair_id for pair in pairs]
    sides = zip(np.repeat(ids, 2).tolist(), map(sample_text, samples), strict=True)
    copies = near_copies(trained, sides, allow=allow_overlap)
    trained.check()
    # They load torch: after what the user got wrong.
    from facsynth.tasks.prompted import answer_likelihoods
    from facsynth.tasks.scorer import score_samples

    asked = answer_likelihoods if base else None
    scored = score_samples(trained, samples, load, base=asked, progress=progress)
    return _result(pairs, samples, scored, copies)


def _result(
    pairs: Sequence[Comparison],
    samples: Sequence[Sample],
    scored: "Scored",
    copies: tuple[str, ...],
) -> TaskResult:
    right = {name: _right(rewards) for name, rewards in scored.by_model.items()}
    models = {name: _measure(name, flags) for name, flags in right.items()}
    mean = np.mean([_right(rewards) for rewards in scored.trained()], axis=0)
    lengths = np.array([count_words(sample_text(one)) for one in samples], dtype=np.float64)
    subsets = by_part("subset", [pair.subset for pair in pairs], {"accuracy": mean})
    sections = section_averages(
        {row["subset"]: row["accuracy"] for row in subsets},
        {row["subset"]: row["n"] for row in subsets},
    )
    return TaskResult(
        "reward",
        "accuracy",
        base=models.pop("base", None),
        models=list(models.values()),
        items=Items(tuple(pair.pair_id for pair in pairs), right),
        values={
            "subsets": subsets,
            "sections": sections,
            "longer_accuracy": float(_right(lengths).mean()),
            "base_accuracy_per_word": _accuracy_per_word(scored.by_model.get("base"), samples),
            "n_pairs": len(pairs),
            "n_cut": scored.n_cut,
        },
        titles=_TITLES,
        simple="longer_accuracy",
        near_copies=copies,
        parts=_parts(subsets, sections),
    )


def _accuracy_per_word(
    likelihoods: Float64[np.ndarray, " n_sides"] | None, samples: Sequence[Sample]
) -> float | None:
    """Accuracy of log-likelihoods divided by the words of the answers."""
    if likelihoods is None:
        return None
    said = [count_words(sample.messages[-1].content) for sample in samples]
    return float(_right(likelihoods / np.maximum(said, 1)).mean())


def _parts(subsets: list[dict[str, Any]], sections: dict[str, float] | None) -> list[TextTable]:
    parts = rows_table("By subset", subsets)
    if sections:
        parts.append(TextTable("RewardBench", ("section", "score"), [*sections.items()]))
    return parts


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


def _right(rewards: Float64[np.ndarray, " n_sides"]) -> Float64[np.ndarray, " n_pairs"]:
    """1 where the first of two sides has the higher reward."""
    found: Float64[np.ndarray, " n_pairs"] = (rewards[0::2] > rewards[1::2]).astype(np.float64)
    return found


def _measure(name: str, right: Float64[np.ndarray, " n_pairs"]) -> dict[str, Any]:
    return {
        "model": name,
        **estimate_row("accuracy", bootstrap_share(right, rng=np.random.default_rng(0))),
    }
