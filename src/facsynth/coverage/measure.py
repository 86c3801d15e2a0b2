"""FAC with everything that is needed to read it: variants, interval, sizes, closeness, controls."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass

import numpy as np
from jaxtyping import Bool

from facsynth.coverage.controls import Controls, measure_controls
from facsynth.coverage.fac import (
    activation_sums,
    active_only,
    check_widths,
    feature_activation_coverage,
    firing_counts,
)
from facsynth.coverage.hidden import HiddenCloseness, measure_hidden
from facsynth.coverage.interval import Interval, bootstrap_interval
from facsynth.coverage.off_task import ClassCoverage, class_coverage
from facsynth.coverage.representative import Representativeness, measure_representativeness
from facsynth.coverage.richness import RichnessComparison, compare_richness
from facsynth.coverage.variants import (
    FoldCoverage,
    SweepPoint,
    coverage_sweep,
    k_fold_coverage,
    weighted_coverage,
)
from facsynth.table.inputs import TableData, as_activations

__all__ = ["Coverage", "coverage_row", "measure_coverage"]


@dataclass(frozen=True)
class Coverage:
    """FAC of a seed against an anchor, with everything needed to read it."""

    fac: float
    """`n_covered / n_anchor`, in [0, 1]."""

    n_relevant: int
    """Features marked as relevant, active or not."""

    n_anchor: int
    """Relevant features active in the anchor."""

    n_covered: int
    n_missing: int
    """Relevant features active in the anchor and not in the seed."""

    n_seed_only: int
    """Relevant features active in the seed and not in the anchor; FAC leaves them out."""

    threshold: float
    """Activation above which a feature counts as active, in SAE units."""

    frequency_weighted: float
    magnitude_weighted: float
    k_fold: tuple[FoldCoverage, ...]
    sweep: tuple[SweepPoint, ...]
    interval: Interval
    richness: RichnessComparison
    """Holds the numbers of samples and tokens of both sets."""

    representativeness: Representativeness | None
    """None when the seed activates no relevant feature, so that its shares are undefined."""

    controls: Controls
    by_class: tuple[ClassCoverage, ...]
    """Coverage of the features of each class of the anchor; empty without labels."""

    hidden: HiddenCloseness | None
    """Distance between mean hidden states; None unless both tables keep them."""


def measure_coverage(
    anchor: TableData,
    seed: TableData,
    *,
    relevant: Bool[np.ndarray, " n_features"] | None = None,
    threshold: float = 1.0,
    n_resamples: int = 200,
    n_draws: int = 20,
    rng: np.random.Generator | None = None,
    anchor_labels: Sequence[str | None] | None = None,
) -> Coverage:
    """FAC of a seed against an anchor, with its variants, its uncertainty and its controls.

    Args:
        anchor: Table of the data that stands for the target domain.
        seed: Table of the data to measure.
        relevant: Features a judge marked as relevant; every feature when None.
        threshold: Activation above which (strictly) a feature is active, in SAE units.
        n_resamples: Resamples behind the interval.
        n_draws: Random draws behind each control.
        rng: Source of all draws; a fixed one when None, so that results repeat.
        anchor_labels: Class of each anchor sample, for the coverage of each class's features.

    Returns:
        The measures.

    Raises:
        DataError: A set has no samples, no feature is relevant, the anchor activates no
            relevant feature, or the threshold is negative.
        MismatchError: The tables or the flags differ in their number of features.
    """
    anchor, seed = as_activations(anchor), as_activations(seed)
    if relevant is None:
        relevant = np.ones(anchor.n_features, dtype=np.bool_)
    check_widths(anchor, seed, relevant)
    if rng is None:
        rng = np.random.default_rng(0)
    tables = (active_only(anchor, threshold=threshold), active_only(seed, threshold=threshold))
    counts, seed_counts = (firing_counts(table, threshold=0.0) for table in tables)
    in_anchor, in_seed = counts > 0, seed_counts > 0
    fac = feature_activation_coverage(in_anchor, in_seed, relevant)
    fires = bool((in_seed & relevant).any())
    return Coverage(
        fac=fac,
        n_relevant=int(np.count_nonzero(relevant)),
        n_anchor=int(np.count_nonzero(relevant & in_anchor)),
        n_covered=int(np.count_nonzero(relevant & in_anchor & in_seed)),
        n_missing=int(np.count_nonzero(relevant & in_anchor & ~in_seed)),
        n_seed_only=int(np.count_nonzero(relevant & ~in_anchor & in_seed)),
        threshold=float(threshold),
        frequency_weighted=weighted_coverage(counts.astype(np.float64), in_seed, relevant),
        magnitude_weighted=weighted_coverage(activation_sums(tables[0]), in_seed, relevant),
        k_fold=k_fold_coverage(*tables, relevant, threshold=0.0),
        sweep=coverage_sweep(anchor, seed, relevant),
        interval=bootstrap_interval(
            *tables, relevant, threshold=0.0, n_resamples=n_resamples, rng=rng
        ),
        richness=compare_richness(*tables, relevant, n_draws=n_draws, rng=rng),
        representativeness=(
            measure_representativeness(seed_counts, counts, relevant) if fires else None
        ),
        controls=measure_controls(*tables, relevant, n_draws=n_draws, rng=rng),
        by_class=(
            class_coverage(tables[0], anchor_labels, tables[1], relevant) if anchor_labels else ()
        ),
        hidden=measure_hidden(anchor, seed, n_draws=n_draws, rng=rng),
    )


def coverage_row(coverage: Coverage) -> dict[str, object]:
    """The measures as plain values that `json.dumps` takes, under stable keys.

    Args:
        coverage: Measures from `measure_coverage`.

    Returns:
        The fields of `Coverage` and of the records inside it, except that the two weighted
        values stand under `weighted`, as `frequency` and `magnitude`, and that the sizes of
        both sets are repeated under `n_samples` and `n_tokens`.
    """
    row = asdict(coverage)
    row["weighted"] = {
        "frequency": row.pop("frequency_weighted"),
        "magnitude": row.pop("magnitude_weighted"),
    }
    for key in ("n_samples", "n_tokens"):
        row[key] = {side: row["richness"][side][key] for side in ("anchor", "seed")}
    return row
