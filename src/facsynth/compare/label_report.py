"""What to know about the classes of a data set: sizes, lengths, richness, coverage, warnings."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from facsynth.compare.labels import Agreement, LabelledRows, length_cosines
from facsynth.coverage.controls import length_auc
from facsynth.coverage.representative import hellinger_distance
from facsynth.coverage.richness import expected_richness
from facsynth.records import FeatureActivations

__all__ = ["ClassMeasures", "LabelReport", "label_warnings", "measure_labels"]

FEW = 20
"""Samples of a class below which its mean is hardly worth a direction."""


@dataclass(frozen=True, slots=True)
class ClassMeasures:
    """One class of a data set."""

    name: str
    n_samples: int
    mean_tokens: float
    length_auc: float
    """Chance that a sample of this class is longer than one of the others, in [0, 1]; 0.5 is
    equal."""

    length_cosine: float
    """Cosine of the class's direction with that of longer texts; see `length_cosines`."""

    n_seen: int
    """Features that some sample of the class activates."""

    seen_at_equal_samples: float
    """Features expected in as many random samples as the smallest class has."""

    hellinger: float | None
    """Distance to the firing rates of the anchor's samples of this class (0 best); None without
    an anchor, and when one side activates nothing."""

    fac: float | None
    """Share of the features of the anchor's samples of this class that are covered by this class;
    None without an anchor, and when the anchor's class activates nothing."""


@dataclass(frozen=True, slots=True)
class LabelReport:
    """The label side of one data set."""

    classes: tuple[ClassMeasures, ...]
    reliability: float
    """Share of the direction that is no sampling noise; see `LabelledRows.reliability`."""

    n_pairs: int | None
    chosen_longer: float | None
    """Share of pairs whose chosen answer has more tokens, ties count half; None without pairs."""

    n_left_out: int
    """Samples without a label or without scored tokens."""

    agreement: Agreement | None
    """Of the direction with the anchor's; None without an anchor."""

    warnings: tuple[str, ...]


def measure_labels(
    rows: LabelledRows,
    activations: FeatureActivations,
    *,
    threshold: float,
    anchor: tuple[LabelledRows, FeatureActivations] | None = None,
    found: Agreement | None = None,
) -> LabelReport:
    """Lengths, richness and coverage of each class, and warnings.

    All relevant features of `rows` count in its direction; richness and coverage count all
    features that are active above the threshold.

    Args:
        rows: The data set, from `labelled_rows`.
        activations: Its table.
        threshold: Activation above which a feature is active, in SAE units.
        anchor: The same two of the anchor, with the same classes.
        found: Agreement with the anchor, from `facsynth.compare.labels.agreement`.
    """
    counts = [
        _class_counts(rows, activations, c, threshold=threshold) for c in range(len(rows.names))
    ]
    smallest = int(rows.sizes().min())
    leaning = length_cosines(rows)
    classes = []
    for c, name in enumerate(rows.names):
        inside = rows.class_ids == c
        expected = expected_richness(counts[c], int(inside.sum()), np.array([smallest]))
        distance = share = None
        if anchor is not None:
            target = _class_counts(*anchor, c, threshold=threshold)
            distance, share = _against(counts[c], target)
        classes.append(
            ClassMeasures(
                name=name,
                n_samples=int(inside.sum()),
                mean_tokens=float(rows.n_tokens[inside].mean()),
                length_auc=length_auc(rows.n_tokens[inside], rows.n_tokens[~inside]),
                length_cosine=float(leaning[c]),
                n_seen=int(np.count_nonzero(counts[c])),
                seen_at_equal_samples=float(expected[0]),
                hellinger=distance,
                fac=share,
            )
        )
    reliability, longer = rows.reliability(), _chosen_longer(rows)
    return LabelReport(
        classes=tuple(classes),
        reliability=reliability,
        n_pairs=None if rows.pair_ids is None else rows.class_ids.size // 2,
        chosen_longer=longer,
        n_left_out=rows.n_left_out,
        agreement=found,
        warnings=label_warnings(classes, reliability, longer, rows.n_left_out, found),
    )


def label_warnings(
    classes: Sequence[ClassMeasures],
    reliability: float,
    chosen_longer: float | None,
    n_left_out: int,
    found: Agreement | None,
) -> tuple[str, ...]:
    """What to keep in mind about labels, in plain words; empty when all is well."""
    warnings = []
    furthest = max(classes, key=lambda one: abs(one.length_auc - 0.5))
    if abs(furthest.length_auc - 0.5) > 0.1:
        word = "longer" if furthest.length_auc > 0.5 else "shorter"
        chance = max(furthest.length_auc, 1 - furthest.length_auc)
        warnings.append(
            f"samples of {furthest.name!r} are {word} than the others in {chance:.0%} of all "
            "comparisons, so part of the direction is length"
        )
    if chosen_longer is not None and not 0.4 <= chosen_longer <= 0.6:
        warnings.append(
            f"the chosen answer is the longer one in {chosen_longer:.0%} of the pairs; a reward "
            "model can learn that alone"
        )
    if reliability < 0.5:
        warnings.append(
            f"only {reliability:.0%} of the direction is more than sampling noise; its cosines "
            "are low whatever the labels mean, so add samples"
        )
    few = [one.name for one in classes if one.n_samples < FEW]
    if few:
        warnings.append(f"fewer than {FEW} samples in: {', '.join(few[:5])}")
    if n_left_out:
        warnings.append(f"{n_left_out:,} samples without a label or without text were left out")
    if found and found.shuffled_low <= found.cosine <= found.shuffled_high:
        warnings.append(
            f"the agreement ({found.cosine:.2f}) is what shuffled labels give "
            f"({found.shuffled_low:.2f} to {found.shuffled_high:.2f})"
        )
    if found and found.high < 0:
        warnings.append(
            f"the labels contradict the anchor's (cosine {found.cosine:.2f}); check that the same "
            "word means the same class in both"
        )
    return tuple(warnings)


def _class_counts(
    rows: LabelledRows, activations: FeatureActivations, class_id: int, *, threshold: float
) -> Int64[np.ndarray, " n_features"]:
    """Samples of one class that activate each feature."""
    member = np.zeros(activations.n_tokens.size, dtype=np.bool_)
    member[rows.rows[rows.class_ids == class_id]] = True
    entries = np.repeat(member, np.diff(activations.row_starts))
    entries &= activations.values > np.float32(threshold)
    return np.bincount(activations.feature_ids[entries], minlength=activations.n_features)


def _against(
    counts: Int64[np.ndarray, " n_features"], target: Int64[np.ndarray, " n_features"]
) -> tuple[float | None, float | None]:
    if not target.any():
        return None, None
    share = int(np.count_nonzero((target > 0) & (counts > 0))) / int(np.count_nonzero(target))
    return (hellinger_distance(counts, target) if counts.any() else None), share


def _chosen_longer(rows: LabelledRows) -> float | None:
    if rows.pair_ids is None:
        return None
    order = np.lexsort((rows.class_ids, rows.pair_ids))
    chosen, rejected = rows.n_tokens[order[::2]], rows.n_tokens[order[1::2]]
    return float((chosen > rejected).mean() + 0.5 * (chosen == rejected).mean())
