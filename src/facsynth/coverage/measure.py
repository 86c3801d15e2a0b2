"""FAC with all that is needed to read it: variants, interval, sizes, closeness, controls."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool

from facsynth.coverage.controls import measure_controls
from facsynth.coverage.curves import richness_curves
from facsynth.coverage.fac import describe_missing, goal_features, missing_features
from facsynth.coverage.hidden import measure_hidden
from facsynth.coverage.interval import bootstrap_interval
from facsynth.coverage.off_task import class_coverage
from facsynth.coverage.representative import measure_representativeness
from facsynth.coverage.result import Coverage
from facsynth.coverage.richness import compare_richness
from facsynth.coverage.settings import CoverageSettings
from facsynth.coverage.threshold import choose_threshold, count_samples
from facsynth.coverage.variants import count_coverage, coverage_sweep, weighted_coverage
from facsynth.errors import MismatchError
from facsynth.table.active import active_rows
from facsynth.table.inputs import TableData

__all__ = ["measure_coverage"]


def measure_coverage(
    anchor: TableData | Sequence[TableData],
    seed: TableData | Sequence[TableData],
    *,
    relevant: Bool[np.ndarray, " n_features"] | None = None,
    settings: CoverageSettings | None = None,
    anchor_labels: Sequence[str | None] | None = None,
) -> Coverage:
    """FAC of a seed against an anchor, with its variants, its uncertainty and its controls.

    Args:
        anchor: Table of the data that stands for the target domain; several count together.
        seed: Table of the data to measure, or several.
        relevant: Features a judge marked as relevant; every feature when None.
        settings: See `CoverageSettings`.
        anchor_labels: Class of each anchor sample, for the coverage of each class's features.

    Raises:
        DataError: A set has no samples, no feature is relevant, the anchor activates no
            relevant feature, or the threshold is negative.
        MismatchError: The tables or the flags differ in their number of features.
    """
    settings = settings or CoverageSettings()
    chosen = choose_threshold(anchor, count_samples(seed), relevant, given=settings.threshold)
    # Some controls also look at the features that do not count.
    every, seed_every = (active_rows(one, threshold=chosen.threshold) for one in (anchor, seed))
    if every.n_features != seed_every.n_features:
        raise MismatchError(
            f"the anchor has {every.n_features} features and the seed {seed_every.n_features}; "
            "extract both with the same SAE"
        )
    if relevant is None:
        relevant = np.ones(every.n_features, dtype=np.bool_)
    rows, seed_rows = every.only(relevant), seed_every.only(relevant)
    goal, missing = goal_features(rows.features, relevant), missing_features(rows, seed_rows)
    rng = np.random.default_rng(settings.random_seed)
    return Coverage(
        **count_coverage(goal, missing, relevant, seed_rows),
        threshold=float(chosen.threshold),
        threshold_rule=chosen.rule,
        frequency_weighted=weighted_coverage(rows.counts.astype(np.float64), seed_rows.features),
        magnitude_weighted=weighted_coverage(rows.sums, seed_rows.features),
        sweep=coverage_sweep(every, seed_every, relevant),
        interval=bootstrap_interval(goal, seed_rows, n_resamples=settings.resamples, rng=rng),
        richness=compare_richness(rows, seed_rows, n_draws=settings.draws, rng=rng),
        representativeness=measure_representativeness(seed_rows.counts, rows.counts),
        controls=measure_controls(every, seed_every, relevant, n_draws=settings.draws, rng=rng),
        missing=describe_missing(rows, missing),
        by_class=class_coverage(every, anchor_labels, seed_every, relevant)
        if anchor_labels
        else (),
        hidden=measure_hidden(every, seed_every, n_draws=settings.draws, rng=rng),
        curves=richness_curves(
            {"anchor": rows, "seed": seed_rows}, random_seed=settings.random_seed
        )
        if settings.controls
        else None,
    )
