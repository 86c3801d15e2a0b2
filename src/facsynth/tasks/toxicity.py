"""Toxicity: is a text toxic? Linear heads on hidden states, and how any trained model does.

Settings of the paper (arXiv 2602.10388) and where the heads differ: the chat template, texts cut
at 512 tokens from the right, 1,000 safe samples beside the toxic ones and the seeds 42, 43, 44 are
its own; instead of 15 epochs of gradient steps on the last token's state, logistic regression is
fitted to its optimum on the mean state of a middle layer. `tasks.tune` trains the model itself.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64, Int64

from facsynth.data.copies import KnownTexts
from facsynth.errors import DataError
from facsynth.models.lm import LanguageModel
from facsynth.progress import SILENT, Progress
from facsynth.records import sample_text
from facsynth.tasks.folder import TrainedTask, heads_to_tensors
from facsynth.tasks.heads import fit_classifier
from facsynth.tasks.labelled import LabelledTexts
from facsynth.tasks.metrics import Estimate, auprc, auroc, bootstrap_ranking, check_classes
from facsynth.tasks.overlap import check_overlap, find_overlap
from facsynth.tasks.scoring import score_samples
from facsynth.tasks.vectors import ReadSettings, read_vectors
from facsynth.words import count_words

__all__ = ["ToxicitySettings", "draw_rows", "evaluate_toxicity", "train_toxicity"]


@dataclass(frozen=True)
class ToxicitySettings:
    """How a toxicity head is trained."""

    read: ReadSettings
    seeds: tuple[int, ...] = (42, 43, 44)
    """One head each; a seed draws safe samples, and samples of each class."""

    n_safe: int = 1000
    """Safe samples to mix in, where a set of them is given."""

    max_per_class: int | None = None
    """Draw this many samples of each class at most, before safe samples are mixed in."""

    inverse_l2: float = field(default=1e-3)
    """scikit-learn's C on standardised states; smaller is smoother."""

    def __post_init__(self) -> None:
        """Check that there is something to draw."""
        if not self.seeds or len(set(self.seeds)) != len(self.seeds):
            raise DataError(f"the seeds {self.seeds} are none or not different; name each once")
        if min(self.n_safe, self.max_per_class or 1) < 1 or self.inverse_l2 <= 0:
            raise DataError("--n-safe, --max-per-class and --inverse-l2 must be above zero")


def train_toxicity(
    data: LabelledTexts,
    lm: LanguageModel,
    settings: ToxicitySettings,
    *,
    safe: LabelledTexts | None = None,
    progress: Progress = SILENT,
) -> TrainedTask:
    """Fit one head per seed, and one on shuffled labels as a control.

    Args:
        data: Training samples.
        lm: The frozen model.
        settings: How.
        safe: Harmless samples, of which every seed draws `n_safe`; their labels are not read.
        progress: Where the bar is drawn.

    Raises:
        DataError: A class is missing, or a sample has no words.
        ModelError: No such layer, or no chat template.
    """
    extra = safe.samples if safe else ()
    positive = np.concatenate([data.positive, np.zeros(len(extra), np.bool_)])
    check_classes(positive, "the training data")
    samples = (*data.samples, *extra)
    vectors = read_vectors(samples, lm, settings.read, progress=progress)
    draw = partial(draw_rows, n_safe=settings.n_safe, max_per_class=settings.max_per_class)
    picks = {s: draw(data.positive, len(extra), seed=s) for s in settings.seeds}
    first = picks[settings.seeds[0]]
    if all(np.array_equal(first, rows) for rows in picks.values()) and len(picks) > 1:
        progress.say("every seed trains on all samples, so the heads are equal: one is kept")
        picks = {settings.seeds[0]: first}
    heads, shuffled = {}, {}
    for seed, rows in picks.items():
        labels = positive[rows]
        heads[seed] = fit_classifier(vectors.rows[rows], labels, inverse_l2=settings.inverse_l2)
        mixed = np.random.default_rng(seed).permutation(labels)
        shuffled[seed] = fit_classifier(vectors.rows[rows], mixed, inverse_l2=settings.inverse_l2)
    config = {
        "model": lm.name,
        "model_hash": lm.content_hash,
        "settings": asdict(settings),
        "seeds": list(picks),
        "n_train": {str(seed): int(rows.size) for seed, rows in picks.items()},
        "n_positive": {str(seed): int(positive[rows].sum()) for seed, rows in picks.items()},
        "n_cut": vectors.n_cut,
    }
    tensors = heads_to_tensors("head", heads) | heads_to_tensors("shuffled", shuffled)
    known = KnownTexts(sample_text(sample) for sample in samples)
    return TrainedTask("toxicity", config, tensors, known)


def evaluate_toxicity(
    trained: TrainedTask,
    data: LabelledTexts,
    lm: LanguageModel,
    *,
    allow_overlap: bool = False,
    n_resamples: int = 1000,
    progress: Progress = SILENT,
) -> dict[str, Any]:
    """AUPRC, AUROC and accuracy of every head, with what chance, length and shuffling reach.

    Returns:
        `auprc` and `auroc` (means over seeds), `seeds` (each with intervals), `groups` (accuracy
        for each functionality), `prevalence` (AUPRC of a constant), `length_auroc` (of the number
        of words alone), `shuffled_auprc` (trained on shuffled labels, or None), `overlap`.

    Raises:
        DataError: A class is missing, or evaluation samples are near-copies of training samples.
        MismatchError: The model is another one.
    """
    check_classes(data.positive, "the evaluation data")
    texts = [(sample.sample_id, sample_text(sample)) for sample in data.samples]
    overlap = find_overlap(trained.known, texts)
    check_overlap(overlap, allow=allow_overlap)
    scored = score_samples(trained, data.samples, lm, progress=progress)
    seeds = [_measure(seed, data.positive, s, n_resamples) for seed, s in scored.seeds.items()]
    lengths = np.array([count_words(text) for _, text in texts], dtype=np.float64)
    values = [row["auprc"]["value"] for row in seeds]
    shuffled = [auprc(data.positive, scores) for scores in scored.shuffled.values()]
    return {
        "auprc": float(np.mean(values)),
        "auprc_sd": float(np.std(values, ddof=1)) if len(values) > 1 else None,
        "auroc": float(np.mean([row["auroc"]["value"] for row in seeds])),
        "seeds": seeds,
        "groups": _by_group(data, scored.seeds),
        "prevalence": float(data.positive.mean()),
        "length_auroc": auroc(data.positive, lengths),
        "shuffled_auprc": float(np.mean(shuffled)) if shuffled else None,
        "n_samples": len(data.samples),
        "n_cut": scored.n_cut,
        "overlap": {"n": len(overlap.ids), "ids": list(overlap.ids)},
    }


def draw_rows(
    positive: Bool[np.ndarray, " n_samples"],
    n_extra: int,
    *,
    n_safe: int,
    max_per_class: int | None,
    seed: int,
) -> Int64[np.ndarray, " n_drawn"]:
    """Rows that a seed trains on, in order: of the data, then of the safe samples behind them."""
    rng = np.random.default_rng(seed)
    drawn = []
    for one_class in (positive, ~positive):
        rows = np.flatnonzero(one_class)
        n_wanted = rows.size if max_per_class is None else max_per_class
        drawn.append(rng.permutation(rows)[:n_wanted])
    extra = positive.size + rng.permutation(n_extra)[:n_safe]
    return np.sort(np.concatenate([*drawn, extra])).astype(np.int64)


def _measure(
    seed: int,
    positive: Bool[np.ndarray, " n_samples"],
    scores: Float64[np.ndarray, " n_samples"],
    n_resamples: int,
) -> dict[str, Any]:
    def estimate(measure: Any) -> dict[str, float]:
        rng = np.random.default_rng(seed)
        found: Estimate = bootstrap_ranking(
            measure, positive, scores, rng=rng, n_resamples=n_resamples
        )
        return asdict(found)

    accuracy = float(((scores > 0) == positive).mean())
    return {"seed": seed, "auprc": estimate(auprc), "auroc": estimate(auroc), "accuracy": accuracy}


def _by_group(data: LabelledTexts, scores: Mapping[int, Any]) -> list[dict[str, Any]]:
    """Accuracy for each functionality at even odds, mean over seeds; none without groups."""
    right: Sequence[Any] = [(s > 0) == data.positive for s in scores.values()]
    names = np.array([group or "" for group in data.groups])
    return [
        {
            "group": str(name),
            "n": int((names == name).sum()),
            "positive_share": float(data.positive[names == name].mean()),
            "accuracy": float(np.mean([flags[names == name].mean() for flags in right])),
        }
        for name in sorted({*names.tolist()} - {""})
    ]
