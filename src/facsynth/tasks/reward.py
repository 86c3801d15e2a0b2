"""Reward modelling: which of two answers is better? Heads, and how any trained model does.

Settings of the paper (arXiv 2602.10388) and where the heads differ: texts cut at 1,024 tokens from
the left are its own; instead of epochs of gradient steps, a Bradley-Terry head is fitted to its
optimum on the mean state of a middle layer. `tasks.tune` trains the model itself.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64

from facsynth.data.copies import KnownTexts
from facsynth.errors import DataError
from facsynth.models.lm import LanguageModel
from facsynth.progress import SILENT, Progress
from facsynth.records import Sample, sample_text
from facsynth.tasks.comparisons import Comparison
from facsynth.tasks.folder import TrainedTask, heads_to_tensors
from facsynth.tasks.heads import fit_preferences
from facsynth.tasks.metrics import bootstrap_share
from facsynth.tasks.overlap import check_overlap, find_overlap
from facsynth.tasks.scoring import score_samples
from facsynth.tasks.vectors import ReadSettings, read_vectors
from facsynth.words import count_words

__all__ = [
    "SECTIONS",
    "RewardSettings",
    "evaluate_reward",
    "section_averages",
    "sides",
    "style_matrix",
    "train_reward",
]

SECTIONS = {
    "Chat": [
        "alpacaeval-easy",
        "alpacaeval-length",
        "alpacaeval-hard",
        "mt-bench-easy",
        "mt-bench-med",
    ],
    "Chat Hard": [
        "mt-bench-hard",
        "llmbar-natural",
        "llmbar-adver-neighbor",
        "llmbar-adver-GPTInst",
        "llmbar-adver-GPTOut",
        "llmbar-adver-manual",
    ],
    "Safety": [
        "refusals-dangerous",
        "refusals-offensive",
        "xstest-should-refuse",
        "xstest-should-respond",
        "donotanswer",
    ],
    "Reasoning": (
        ["math-prm", "hep-cpp", "hep-go", "hep-java", "hep-js", "hep-python", "hep-rust"]
    ),
}
"""The sections of RewardBench and their subsets (arXiv 2403.13787)."""

_MATH = "math-prm"
"""Weighs as much as the code subsets of its section together."""


@dataclass(frozen=True)
class RewardSettings:
    """How a reward head is trained."""

    read: ReadSettings
    seeds: tuple[int, ...] = (42, 43, 44)
    """One head each, where a seed has pairs to draw."""

    max_pairs: int | None = None
    """Draw this many training pairs at most."""

    inverse_l2: float = 1e-3
    """scikit-learn's C on standardised states; smaller is smoother."""

    def __post_init__(self) -> None:
        """Check that there is something to draw."""
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise DataError(f"the seeds {self.seeds} are none or not different; name each once")
        if (self.max_pairs or 1) < 1 or self.inverse_l2 <= 0:
            raise DataError("--max-pairs and --inverse-l2 must be above zero")


def train_reward(
    pairs: Sequence[Comparison],
    lm: LanguageModel,
    settings: RewardSettings,
    *,
    progress: Progress = SILENT,
) -> TrainedTask:
    """Fit one head per seed, and one on pairs with sides swapped at random as a control.

    Raises:
        DataError: There are fewer than two pairs, or a side has no words.
        ModelError: No such layer, or no chat template.
    """
    if len(pairs) < 2:
        raise DataError(f"{len(pairs)} training pairs are too few for a head; give two or more")
    seeds = settings.seeds
    if len(seeds) > 1 and (settings.max_pairs is None or settings.max_pairs >= len(pairs)):
        progress.say("every seed trains on all pairs, so the heads are equal: one is kept")
        seeds = seeds[:1]
    samples = sides(pairs)
    vectors = read_vectors(samples, lm, settings.read, progress=progress)
    chosen, rejected = vectors.rows[0::2], vectors.rows[1::2]
    heads, shuffled = {}, {}
    for seed in seeds:
        rng = np.random.default_rng(seed)
        rows = np.sort(rng.permutation(len(pairs))[: settings.max_pairs])
        good, bad = chosen[rows], rejected[rows]
        heads[seed] = fit_preferences(good, bad, inverse_l2=settings.inverse_l2)
        swap = rng.integers(0, 2, (rows.size, 1)).astype(bool)
        mixed = (np.where(swap, bad, good), np.where(swap, good, bad))
        shuffled[seed] = fit_preferences(*mixed, inverse_l2=settings.inverse_l2)
    config = {
        "model": lm.name,
        "model_hash": lm.content_hash,
        "settings": asdict(settings),
        "seeds": list(seeds),
        "n_train": min(len(pairs), settings.max_pairs or len(pairs)),
        "n_cut": vectors.n_cut,
    }
    tensors = heads_to_tensors("head", heads) | heads_to_tensors("shuffled", shuffled)
    known = KnownTexts(sample_text(sample) for sample in samples)
    return TrainedTask("reward", config, tensors, known)


def evaluate_reward(
    trained: TrainedTask,
    pairs: Sequence[Comparison],
    lm: LanguageModel,
    *,
    allow_overlap: bool = False,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """Share of pairs whose chosen answer gets the higher reward; equal rewards are wrong.

    Returns:
        `accuracy` (mean over seeds), `seeds` (each with interval), `subsets`, `sections`
        (RewardBench's, or None), `styles` (RM-Bench's matrix and its three difficulties, or
        None), `longer_accuracy` (of preferring the answer with more words),
        `shuffled_accuracy`, `overlap`.

    Raises:
        DataError: Evaluation pairs are near-copies of training pairs.
        MismatchError: The model is another one.
    """
    samples = sides(pairs)
    ids = [pair.pair_id for pair in pairs for _ in range(2)]
    texts = [sample_text(sample) for sample in samples]
    overlap = find_overlap(trained.known, list(zip(ids, texts, strict=True)))
    check_overlap(overlap, allow=allow_overlap)
    scored = score_samples(trained, samples, lm, progress=progress)
    found = {s: (r[0::2] > r[1::2]).astype(np.float64) for s, r in scored.seeds.items()}
    shuffled = [float((r[0::2] > r[1::2]).mean()) for r in scored.shuffled.values()]
    mean = np.mean(list(found.values()), axis=0)
    values = [float(flags.mean()) for flags in found.values()]
    lengths = np.array([count_words(text) for text in texts])
    subsets = _by_subset(pairs, mean)
    return {
        "accuracy": float(mean.mean()),
        "accuracy_sd": float(np.std(values, ddof=1)) if len(values) > 1 else None,
        "seeds": [
            {"seed": s, **asdict(bootstrap_share(flags, rng=np.random.default_rng(s)))}
            for s, flags in found.items()
        ],
        "subsets": subsets,
        "sections": section_averages(
            {row["subset"]: row["accuracy"] for row in subsets},
            {row["subset"]: row["n"] for row in subsets},
        ),
        "styles": style_matrix(pairs, mean),
        "longer_accuracy": float((lengths[0::2] > lengths[1::2]).mean()),
        "shuffled_accuracy": float(np.mean(shuffled)) if shuffled else None,
        "n_pairs": len(pairs),
        "n_cut": scored.n_cut,
        "overlap": {"n": len(overlap.ids), "ids": list(overlap.ids)},
    }


def section_averages(accuracy: dict[str, float], counts: dict[str, int]) -> dict[str, float] | None:
    """RewardBench's section scores and their mean, or None where no subset is of RewardBench.

    Subsets weigh by their pairs; math weighs as much as the code subsets together. The mean is
    over the sections that are there.
    """
    found = {}
    for section, names in SECTIONS.items():
        present = {name: float(counts[name]) for name in names if name in accuracy}
        code = sum(n for name, n in present.items() if name.startswith("hep-"))
        if _MATH in present and code:
            present[_MATH] = code
        if present:
            total = sum(accuracy[name] * n for name, n in present.items())
            found[section] = total / sum(present.values())
    return {**found, "Average": sum(found.values()) / len(found)} if found else None


def style_matrix(
    pairs: Sequence[Comparison], right: Float64[np.ndarray, " n_pairs"]
) -> dict[str, Any] | None:
    """RM-Bench: accuracy by style of the chosen (rows) and the rejected answer (columns).

    Hard is above the diagonal (the worse answer has the fancier style), normal on it, easy below.
    None where pairs have no styles, or not all nine.
    """
    cells: list[list[list[float]]] = [[[] for _ in range(3)] for _ in range(3)]
    for pair, flag in zip(pairs, right.tolist(), strict=True):
        if pair.styles:
            cells[pair.styles[0]][pair.styles[1]].append(flag)
    if not all(cell for row in cells for cell in row):
        return None
    matrix = np.array([[np.mean(cell) for cell in row] for row in cells])
    upper, lower = np.triu_indices(3, 1), np.tril_indices(3, -1)
    return {
        "matrix": matrix.tolist(),
        "hard": float(matrix[upper].mean()),
        "normal": float(np.diag(matrix).mean()),
        "easy": float(matrix[lower].mean()),
    }


def sides(pairs: Sequence[Comparison]) -> list[Sample]:
    """Both sides of every pair, chosen first."""
    return [side for pair in pairs for side in pair.samples()]


def _by_subset(
    pairs: Sequence[Comparison], right: Float64[np.ndarray, " n_pairs"]
) -> list[dict[str, Any]]:
    names = np.array([pair.subset or "" for pair in pairs])
    return [
        {
            "subset": str(name),
            "n": int((names == name).sum()),
            "accuracy": float(right[names == name].mean()),
        }
        for name in sorted({*names.tolist()} - {""})
    ]
