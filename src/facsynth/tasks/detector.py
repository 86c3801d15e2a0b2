"""A detector without training by gradients: a few features of a table, and how they vote.

The features are the most significant ones of the positive class (Fisher's exact test), each votes
with its log-odds ratio when it is active, and the threshold is the one with the best F1 on the
training table. Every part can be read.
"""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64

from facsynth.errors import DataError
from facsynth.records import FeatureActivations
from facsynth.table.active import active_rows
from facsynth.tasks.metrics import auprc, auroc, bootstrap_ranking, check_classes
from facsynth.understand.relevance import label_statistics

__all__ = ["Detector", "Vote", "detector_scores", "evaluate_detector", "fit_detector"]


@dataclass(frozen=True, slots=True)
class Vote:
    """One feature of a detector."""

    feature_id: int
    weight: float
    """Log-odds ratio of being active in positive against negative training samples."""

    n_active: int
    """Training samples in which it is active."""


@dataclass(frozen=True)
class Detector:
    """A text is called positive when the weights of its active features sum to the threshold."""

    votes: tuple[Vote, ...]
    activation_threshold: float
    """Activation above which a feature is active, in SAE units."""

    score_threshold: float


def fit_detector(
    activations: FeatureActivations,
    positive: Bool[np.ndarray, " n_samples"],
    *,
    threshold: float = 1.0,
    n_features: int = 10,
) -> Detector:
    """Pick the features that go with the positive class, and the score to call a text positive.

    Raises:
        DataError: A class is missing, or no feature goes with the positive class.
    """
    check_classes(positive, "the training table")
    found = label_statistics(active_rows(activations, threshold=threshold), positive)
    order = np.lexsort((-found.log_odds, found.p_value))
    chosen = [int(f) for f in order if found.n_active[f] and found.log_odds[f] > 0][:n_features]
    if not chosen:
        raise DataError(
            f"no feature above {threshold} goes with the positive class; lower --threshold"
        )
    votes = tuple(Vote(f, float(found.log_odds[f]), int(found.n_active[f])) for f in chosen)
    scores = detector_scores(Detector(votes, threshold, 0.0), activations)
    cuts = np.unique(scores[scores > 0])
    best = max(cuts, key=lambda cut: _f1(positive, scores >= cut)["f1"])
    return Detector(votes, threshold, float(best))


def detector_scores(
    detector: Detector, activations: FeatureActivations
) -> Float64[np.ndarray, " n_samples"]:
    """Sum of the weights of the active features of each sample."""
    weights = np.zeros(activations.n_features)
    for vote in detector.votes:
        weights[vote.feature_id] = vote.weight
    kept = active_rows(activations, threshold=detector.activation_threshold).activations
    rows = np.repeat(np.arange(kept.n_tokens.size), np.diff(kept.row_starts))
    return np.bincount(rows, weights=weights[kept.feature_ids], minlength=kept.n_tokens.size)


def evaluate_detector(
    detector: Detector,
    activations: FeatureActivations,
    positive: Bool[np.ndarray, " n_samples"],
    *,
    rng: np.random.Generator,
) -> dict[str, Any]:
    """AUPRC with interval, AUROC, F1, precision and recall, and the votes."""
    check_classes(positive, "the evaluation table")
    scores = detector_scores(detector, activations)
    return {
        "auprc": auprc(positive, scores),
        "interval": asdict(bootstrap_ranking(auprc, positive, scores, rng=rng)),
        "auroc": auroc(positive, scores),
        **_f1(positive, scores >= detector.score_threshold),
        "prevalence": float(positive.mean()),
        "score_threshold": detector.score_threshold,
        "votes": [asdict(vote) for vote in detector.votes],
        "n_samples": int(positive.size),
    }


def _f1(positive: Any, called: Any) -> dict[str, float]:
    hits = int((positive & called).sum())
    precision = hits / max(1, int(called.sum()))
    recall = hits / max(1, int(positive.sum()))
    f1 = 2 * precision * recall / (precision + recall) if hits else 0.0
    return {"f1": f1, "precision": precision, "recall": recall}
