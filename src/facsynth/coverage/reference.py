"""Coverage of the text behind a reference profile: an anchor without samples.

Coverage, closeness and what random samples reach follow from its counts; an interval of the
anchor and subsets of matched lengths do not.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int64

from facsynth.coverage.controls import SATURATED, Controls, Draws, frequency_control
from facsynth.coverage.curves import richness_curves
from facsynth.coverage.fac import MissingFeature, goal_features
from facsynth.coverage.interval import bootstrap_interval
from facsynth.coverage.profile import ReferenceProfile, read_profile
from facsynth.coverage.representative import hellinger_distance, measure_representativeness
from facsynth.coverage.result import Coverage
from facsynth.coverage.richness import (
    expected_richness,
    measure_richness,
    richness_at_equal_samples,
)
from facsynth.coverage.settings import CoverageSettings
from facsynth.coverage.threshold import ChosenThreshold, choose_level, count_samples
from facsynth.coverage.variants import (
    SweepPoint,
    count_coverage,
    sweep_point,
    weighted_coverage,
)
from facsynth.errors import MismatchError
from facsynth.models.default_model import default_sae_folder
from facsynth.table.active import ActiveRows, active_rows
from facsynth.table.inputs import TableData
from facsynth.table.manifest import TableSource

__all__ = ["measure_reference", "profile_for"]


def profile_for(source: TableSource, path: Path | None = None) -> ReferenceProfile:
    """The reference profile to measure a table with; without a path that of the embedded SAE.

    Raises:
        DataError: There is no profile.
        MismatchError: It belongs to another SAE or model, or scored other words.
    """
    profile = read_profile(path or default_sae_folder())
    if path is None and profile.sae_hash != source.sae_hash:
        raise MismatchError(
            f"`reference` is the profile of the embedded SAE, and the table was extracted with "
            f"{source.sae_name[:200]!r}; pass the reference.npz of that SAE as --anchor, or count "
            "one with `fac sae profile SAE DATA`"
        )
    for name in ("sae_hash", "model_hash", "score"):
        mine, theirs = getattr(profile, name), getattr(source, name)
        if mine != theirs:
            raise MismatchError(
                f"the reference profile {path or ''} and the table do not compare: {name} "
                f"is {mine[:12]} and {theirs[:12]}; count a profile with the same SAE, model and "
                "--score (`fac sae profile`)"
            )
    return profile


def measure_reference(
    profile: ReferenceProfile,
    seed: TableData | Sequence[TableData],
    *,
    relevant: Bool[np.ndarray, " n_features"] | None = None,
    settings: CoverageSettings | None = None,
) -> Coverage:
    """FAC and closeness of a seed to the text that a reference profile was counted on.

    Args:
        profile: The reference.
        seed: Table of the data to measure, or several, extracted with the profile's SAE.
        relevant: Features to count; all when None.
        settings: See `CoverageSettings`; the threshold is one of the profile's.

    Returns:
        The measurement, with the profile's names of features.

    Raises:
        DataError: The seed has no samples, the profile has no such threshold, or no relevant
            feature fires in the reference.
        MismatchError: Profile, table and flags differ in their number of features.
    """
    settings = settings or CoverageSettings()
    relevant = np.ones(profile.n_features, dtype=np.bool_) if relevant is None else relevant
    chosen = _choose(profile, count_samples(seed), relevant, given=settings.threshold)
    everywhere = profile.counts(chosen.threshold)
    every = active_rows(seed, threshold=chosen.threshold)
    if not everywhere.size == every.n_features == relevant.size:
        raise MismatchError(
            f"the reference has {everywhere.size} features, the seed {every.n_features} and the "
            f"relevance {relevant.size}; extract with the SAE that carries the reference"
        )
    goal, counts = goal_features(everywhere > 0, relevant), np.where(relevant, everywhere, 0)
    rows = every.only(relevant)
    rng = np.random.default_rng(settings.random_seed)
    interval = bootstrap_interval(goal, rows, n_resamples=settings.resamples, rng=rng)
    controls = _controls(profile, every, relevant, n_draws=settings.draws, rng=rng)
    missing = _missing(profile, goal & ~rows.features, counts)
    found = Coverage(
        **count_coverage(goal, np.array([m.feature_id for m in missing], np.int64), relevant, rows),
        threshold=float(chosen.threshold),
        threshold_rule=chosen.rule,
        frequency_weighted=weighted_coverage(counts.astype(np.float64), rows.features),
        magnitude_weighted=None,
        sweep=_sweep(profile, every, relevant),
        interval=interval,
        richness=richness_at_equal_samples(
            counts,
            rows.counts,
            measure_richness(counts, profile.n_samples, profile.n_tokens),
            measure_richness(rows.counts, rows.n_samples, int(rows.n_tokens.sum())),
        ),
        representativeness=measure_representativeness(rows.counts, counts),
        controls=controls,
        missing=missing,
        curves=richness_curves({"seed": rows}, random_seed=settings.random_seed)
        if settings.controls
        else None,
        reference=profile.source,
    )
    return found.named({i: (name, None) for i, name in enumerate(profile.names) if name})


def _missing(
    profile: ReferenceProfile,
    is_missing: Bool[np.ndarray, " n_features"],
    counts: Int64[np.ndarray, " n_features"],
) -> tuple[MissingFeature, ...]:
    """Missing features, the most frequent ones first."""
    ids = np.flatnonzero(is_missing)
    ids = ids[np.lexsort((ids, -counts[ids]))]
    return tuple(
        MissingFeature(int(i), int(counts[i]), float(profile.max_activations[i]), None) for i in ids
    )


def _controls(
    profile: ReferenceProfile,
    seed: ActiveRows,
    relevant: Bool[np.ndarray, " n_features"],
    *,
    n_draws: int,
    rng: np.random.Generator,
) -> Controls:
    counts, size = profile.counts(seed.threshold), seed.n_samples
    by_chance, distance = _random_samples(profile, counts[relevant & (counts > 0)], size, rng)
    by_frequency, ratio = frequency_control(
        counts, seed.features, relevant, n_draws=n_draws, rng=rng
    )
    mean, wanted = float(seed.n_tokens.mean()), profile.n_tokens / profile.n_samples
    is_mismatched = abs(mean - wanted) > 0.2 * wanted
    is_saturated = by_chance is not None and by_chance.mean > SATURATED
    return Controls(
        random_subset=by_chance,
        length_matched=None,
        length_matched_tokens=None,
        random_hellinger=distance,
        frequency_matched=by_frequency,
        frequency_ratio=ratio,
        length_auc=None,
        is_saturated=is_saturated,
        is_length_mismatched=is_mismatched,
        warnings=(
            "the reference is general text, not your domain: a missing feature may be one that "
            "your task does not need",
            *(_length_warnings(mean, wanted) if is_mismatched else ()),
            *_chance_warnings(profile, seed, by_chance),
        ),
    )


def _length_warnings(mean: float, wanted: float) -> list[str]:
    word = "longer" if mean > wanted else "shorter"
    return [
        f"seed samples are {word} than those of the reference ({mean:.0f} against {wanted:.0f} "
        "tokens on average), longer texts activate more features, and lengths cannot be matched "
        "with a profile"
    ]


def _chance_warnings(
    profile: ReferenceProfile, seed: ActiveRows, by_chance: Draws | None
) -> list[str]:
    size = seed.n_samples
    if by_chance is None:
        return [
            f"the seed has {size:,} samples and the reference {profile.n_samples:,}, so what "
            "random samples of that size reach is unknown"
        ]
    if by_chance.mean <= SATURATED:
        return []
    can_raise = seed.threshold < max(profile.thresholds)
    advice = "raise --threshold" if can_raise else "read the distance, or measure smaller parts"
    return [
        f"{size:,} random reference samples already cover {by_chance.mean:.1%}, so FAC cannot "
        f"tell sets of this size apart; {advice}"
    ]


def _choose(
    profile: ReferenceProfile,
    n_seed: int,
    relevant: Bool[np.ndarray, " n_features"],
    *,
    given: float | None,
) -> ChosenThreshold:
    """The lowest threshold of the profile, from 1 on, at which random samples leave room."""
    if given is not None:
        return ChosenThreshold(given)
    levels = [level for level in profile.thresholds if level >= 1] or list(profile.thresholds)
    counts = [np.where(relevant, profile.counts(level), 0) for level in levels]
    size = max(1, min(n_seed, profile.n_samples // 2))
    at, share = choose_level(counts, profile.n_samples, size)
    return ChosenThreshold(
        levels[at],
        f"of the profile's thresholds, the lowest with room: {size:,} random reference samples "
        f"cover {share:.0%}",
    )


def _random_samples(
    profile: ReferenceProfile,
    counts: Int64[np.ndarray, " n_goal"],
    size: int,
    rng: np.random.Generator,
) -> tuple[Draws | None, float | None]:
    """FAC and distance of random reference samples; the distance as if features were independent.

    None when the reference has fewer samples.
    """
    if size > profile.n_samples:
        return None, None
    expected = expected_richness(counts, profile.n_samples, np.array([size]))
    distances = []
    for _ in range(20):
        drawn = rng.hypergeometric(counts, profile.n_samples - counts, size)
        distances.append(hellinger_distance(drawn, counts))
    share = float(expected[0]) / counts.size
    return Draws(share, None, None, 0, size), float(np.mean(distances))


def _sweep(
    profile: ReferenceProfile, seed: ActiveRows, relevant: Bool[np.ndarray, " n_features"]
) -> tuple[SweepPoint, ...]:
    return tuple(
        sweep_point(threshold, None, relevant & (counts > 0), seed.highest > threshold)
        for threshold, counts in zip(profile.thresholds, profile.sample_counts, strict=True)
    )
