"""A detector without training by gradients: a few features of a table, and how they vote.

The features are the most significant ones of the positive class (Fisher's exact test), each votes
with its log-odds ratio when it is active, and the threshold is the one with the best F1 on the
training table. Every part can be read.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float64

from facsynth.coverage.fac import active_only
from facsynth.errors import DataError
from facsynth.records import FeatureActivations
from facsynth.show import TextTable, as_html
from facsynth.tasks.metrics import auprc, auroc, bootstrap_ranking, check_classes
from facsynth.tasks.results import rows_table, values_table
from facsynth.tasks.toxicity.settings import DetectorSettings
from facsynth.understand.relevance import label_statistics

__all__ = [
    "Detector",
    "DetectorResult",
    "Vote",
    "detector_scores",
    "evaluate_detector",
    "fit_detector",
]


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
    settings: DetectorSettings | None = None,
) -> Detector:
    """Pick the features that go with the positive class, and the score to call a text positive.

    Raises:
        DataError: A class is missing, or no feature goes with the positive class.
    """
    check_classes(positive, "the training table")
    settings = settings or DetectorSettings()
    threshold = settings.threshold
    found = label_statistics(activations, positive, threshold=threshold)
    order = np.lexsort((-found.log_odds, found.p_value))
    chosen = [int(f) for f in order if found.n_active[f] and found.log_odds[f] > 0][
        : settings.features
    ]
    if not chosen:
        raise DataError(
            f"no feature above {threshold} is linked to the positive class; lower --threshold"
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
    kept = active_only(activations, threshold=detector.activation_threshold)
    rows = np.repeat(np.arange(kept.n_tokens.size), np.diff(kept.row_starts))
    return np.bincount(rows, weights=weights[kept.feature_ids], minlength=kept.n_tokens.size)


@dataclass(frozen=True)
class DetectorResult:
    """How well a detector tells the positive class, in [0, 1]."""

    auprc: float
    interval: dict[str, float]
    """Percentile interval of the AUPRC over resampled samples."""

    auroc: float
    f1: float
    precision: float
    recall: float
    prevalence: float
    """Share of positive samples, the AUPRC of a constant score."""

    n_samples: int
    score_threshold: float
    votes: tuple[Vote, ...]

    def row(self) -> dict[str, Any]:
        """The fields by name."""
        return asdict(self)

    def tables(self) -> Sequence[TextTable]:
        """Measures, and the features that vote."""
        row = self.row()
        keys = ("auprc", "auroc", "f1", "precision", "recall", "prevalence", "n_samples")
        return [
            values_table("Detector", row, {key: key for key in keys}),
            *rows_table("Votes", row["votes"]),
        ]

    _repr_html_ = as_html


def evaluate_detector(
    detector: Detector,
    activations: FeatureActivations,
    positive: Bool[np.ndarray, " n_samples"],
) -> DetectorResult:
    """Measure a detector on another table; the interval is of 1,000 fixed resamples."""
    check_classes(positive, "the evaluation table")
    scores = detector_scores(detector, activations)
    interval = bootstrap_ranking(auprc, positive, scores, rng=np.random.default_rng(0))
    return DetectorResult(
        auprc=auprc(positive, scores),
        interval=asdict(interval),
        auroc=auroc(positive, scores),
        **_f1(positive, scores >= detector.score_threshold),
        prevalence=float(positive.mean()),
        n_samples=int(positive.size),
        score_threshold=detector.score_threshold,
        votes=detector.votes,
    )


def _f1(positive: Any, called: Any) -> dict[str, float]:
    hits = int((positive & called).sum())
    precision = hits / max(1, int(called.sum()))
    recall = hits / max(1, int(positive.sum()))
    f1 = 2 * precision * recall / (precision + recall) if hits else 0.0
    return {"f1": f1, "precision": precision, "recall": recall}
