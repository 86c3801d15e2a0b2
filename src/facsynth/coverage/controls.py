"""Controls for coverage: the same number for sets chosen without regard to the task.

At a fixed number of samples, FAC follows text length and general coverage more than relevance.
It is therefore shown beside three controls: random parts of the anchor, parts with the seed's text
lengths, and random features that fire as often as the relevant ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int64

from facsynth.coverage.fac import goal_features
from facsynth.coverage.representative import hellinger_distance
from facsynth.errors import DataError
from facsynth.table.active import ActiveRows
from facsynth.table.firing import flag_rows

__all__ = [
    "Controls",
    "Draws",
    "frequency_control",
    "frequency_matched_features",
    "length_auc",
    "length_matched_subset",
    "measure_controls",
    "summarize_draws",
]

BLUR = 0.05
"""Relative noise on a value before it is matched, so that draws differ from each other."""

SATURATED = 0.95
"""Random subsets that cover more than this leave no room for a difference."""


@dataclass(frozen=True, slots=True)
class Draws:
    """Coverage, a fraction in [0, 1], or another measure over several random draws."""

    mean: float
    """Mean of the draws."""

    low: float | None
    """Smallest of the draws; None where the mean is an exact expectation."""

    high: float | None
    """Largest of the draws."""

    n_draws: int
    """0 where the mean is an exact expectation."""

    size: int
    """Samples, or features, in each draw."""


@dataclass(frozen=True, slots=True)
class Controls:
    """Coverage values to read FAC against; None where a reference profile cannot tell them."""

    random_subset: Draws | None
    """FAC of random anchor samples, as many as the seed has."""

    length_matched: Draws | None
    """FAC of anchor samples, as many as the seed has and of the same lengths."""

    length_matched_tokens: float | None
    """Mean tokens of those anchor samples, to check the match against the seed's mean."""

    random_hellinger: float | None
    """Mean Hellinger distance of the random subsets to the anchor: what a seed of this size
    reaches if it is a random part of the anchor; a subset that activates nothing counts as 1."""

    frequency_matched: Draws | None
    """Coverage of features outside the relevant ones that fire as often in the anchor. None
    when every feature is relevant or no other feature fires."""

    frequency_ratio: float | None
    """Mean anchor firing count of those features over that of the relevant ones; 1 is a
    perfect match."""

    length_auc: float | None
    """Chance that a seed sample is longer than an anchor sample, in [0, 1]; 0.5 is equal."""

    is_saturated: bool
    """Random subsets of the seed's size cover more than 95 %."""

    is_length_mismatched: bool
    """Mean lengths differ by more than 20 %, and `length_auc`, if known, is outside 0.4..0.6."""

    warnings: tuple[str, ...]
    """What to keep in mind when reading FAC; empty if nothing is unusual."""


def length_matched_subset(
    pool: Int64[np.ndarray, " n_pool"],
    targets: Int64[np.ndarray, " n_targets"],
    *,
    rng: np.random.Generator,
) -> Int64[np.ndarray, " n_drawn"]:
    """Random samples of a pool with the text lengths of another data set.

    Lengths of the pool are blurred by 5 %. Each target, sorted, starts at its nearest length; the
    positions are then spread until they differ, once by pushing up and once by pushing down, and
    the middle of the two is taken, which is strictly increasing as well. So no sample is taken
    twice, and where the pool has too few of a length, the neighbours on both sides are used.

    Returns:
        Positions in the pool, ascending, as many as there are targets; all of them when there are
        fewer than targets.
    """
    if pool.size <= targets.size:
        return np.arange(pool.size)
    blurred = pool * np.exp(BLUR * rng.standard_normal(pool.size))
    order = np.argsort(blurred)
    wanted = np.sort(targets).astype(np.float64)
    middles = (blurred[order][1:] + blurred[order][:-1]) / 2
    nearest = np.searchsorted(middles, wanted)
    steps = np.arange(targets.size)
    up = steps + np.maximum.accumulate(nearest - steps)
    down = steps + np.minimum.accumulate((nearest - steps)[::-1])[::-1]
    spread = (np.minimum(up, pool.size - targets.size + steps) + np.maximum(down, steps)) // 2
    return np.sort(order[spread])


def frequency_matched_features(
    counts: Int64[np.ndarray, " n_features"],
    relevant: Bool[np.ndarray, " n_features"],
    *,
    rng: np.random.Generator,
) -> Bool[np.ndarray, " n_features"]:
    """Random features outside the relevant ones that fire as often in the anchor.

    Only features that the anchor activates are matched and drawn, so the drawn set is the
    denominator of its own coverage.

    Returns:
        The drawn features, as many as there are relevant ones in the anchor, or all other
        features that the anchor activates when these are fewer.
    """
    pool = np.flatnonzero(~relevant & (counts > 0))
    drawn = np.zeros(counts.size, dtype=np.bool_)
    wanted = counts[relevant & (counts > 0)]
    drawn[pool[length_matched_subset(counts[pool], wanted, rng=rng)]] = True
    return drawn


def length_auc(
    lengths_seed: Int64[np.ndarray, " n_seed_samples"],
    lengths_anchor: Int64[np.ndarray, " n_anchor_samples"],
) -> float:
    """Chance that a random seed sample is longer than a random anchor sample.

    Ties count half (the Mann-Whitney U statistic divided by the number of pairs), so 0.5 is equal.
    """
    ordered = np.sort(lengths_anchor)
    below = np.searchsorted(ordered, lengths_seed, side="left")
    not_above = np.searchsorted(ordered, lengths_seed, side="right")
    wins = int(below.sum()) + int(not_above.sum())
    return wins / (2 * lengths_seed.size * lengths_anchor.size)


def measure_controls(
    anchor: ActiveRows,
    seed: ActiveRows,
    relevant: Bool[np.ndarray, " n_features"],
    *,
    n_draws: int = 20,
    rng: np.random.Generator,
) -> Controls:
    """Coverage of random samples and random features to read the seed's FAC against.

    Raises:
        DataError: A set has no samples, or the anchor activates no relevant feature.
    """
    if not anchor.n_samples or not seed.n_samples:
        raise DataError(
            f"the anchor has {anchor.n_samples} samples and the seed {seed.n_samples}; "
            "controls need at least one of each"
        )
    goal = goal_features(anchor.features, relevant)
    lengths, seed_lengths = anchor.n_tokens, seed.n_tokens
    size = min(seed.n_samples, anchor.n_samples)
    by_chance, distance = _random_subsets(anchor, goal, size, n_draws=n_draws, rng=rng)
    matches = [length_matched_subset(lengths, seed_lengths, rng=rng) for _ in range(n_draws)]
    members = [flag_rows(anchor.n_samples, chosen) for chosen in matches]
    matched = [_share(seen) for seen in anchor.firing.seen_in(members)[:, goal]]
    by_frequency, ratio = frequency_control(
        anchor.counts, seed.features, relevant, n_draws=n_draws, rng=rng
    )
    auc, mean, wanted = length_auc(seed_lengths, lengths), lengths.mean(), seed_lengths.mean()
    is_mismatched = bool(not 0.4 <= auc <= 0.6 and abs(wanted - mean) > 0.2 * mean)
    mean_matched = float(np.mean([lengths[chosen].mean() for chosen in matches]))
    return Controls(
        random_subset=by_chance,
        length_matched=summarize_draws(matched, size),
        length_matched_tokens=mean_matched,
        random_hellinger=distance,
        frequency_matched=by_frequency,
        frequency_ratio=ratio,
        length_auc=auc,
        is_saturated=by_chance.mean > SATURATED,
        is_length_mismatched=is_mismatched,
        warnings=(
            *_size_warnings(anchor.n_samples, seed.n_samples),
            *_saturation_warnings(by_chance, anchor.n_samples),
            *_length_warnings(is_mismatched, wanted, mean, mean_matched),
            *_feature_warnings(by_frequency, ratio, _share(seed.features[goal]), int(goal.sum())),
        ),
    )


def _random_subsets(
    anchor: ActiveRows,
    goal: Bool[np.ndarray, " n_features"],
    size: int,
    *,
    n_draws: int,
    rng: np.random.Generator,
) -> tuple[Draws, float]:
    """Coverage of random anchor samples, and their mean distance to the anchor."""
    picks = [rng.choice(anchor.n_samples, size, replace=False) for _ in range(n_draws)]
    members = [flag_rows(anchor.n_samples, chosen) for chosen in picks]
    drawn = anchor.firing.sum_samples(members)[:, goal].astype(np.int64)
    distances = [hellinger_distance(counts, anchor.counts[goal]) for counts in drawn]
    shares = [_share(counts > 0) for counts in drawn]
    return summarize_draws(shares, size), float(np.mean(distances))


def frequency_control(
    counts: Int64[np.ndarray, " n_features"],
    seed: Bool[np.ndarray, " n_features"],
    relevant: Bool[np.ndarray, " n_features"],
    *,
    n_draws: int,
    rng: np.random.Generator,
) -> tuple[Draws, float] | tuple[None, None]:
    """Coverage of features outside the relevant ones that fire as often in the anchor.

    Returns:
        The coverage, and how often these features fire against the relevant ones; None where no
        other feature fires.
    """
    if not (~relevant & (counts > 0)).any():
        return None, None
    shares, means, size = [], [], 0
    for _ in range(n_draws):
        drawn = frequency_matched_features(counts, relevant, rng=rng)
        shares.append(_share(seed[drawn]))
        means.append(float(counts[drawn].mean()))
        size = int(np.count_nonzero(drawn))
    wanted = float(counts[relevant & (counts > 0)].mean())
    return summarize_draws(shares, size), float(np.mean(means)) / wanted


def summarize_draws(values: Sequence[float], size: int) -> Draws:
    """Mean and range of a measure over draws of `size` samples or features."""
    return Draws(float(np.mean(values)), min(values), max(values), len(values), size)


def _share(covered: Bool[np.ndarray, " n_goal"]) -> float:
    return int(np.count_nonzero(covered)) / covered.size


def _size_warnings(n_anchor: int, n_seed: int) -> list[str]:
    if n_anchor >= n_seed:
        return []
    return [
        f"the anchor has {n_anchor} samples and the seed {n_seed}, so the random and the "
        "length-matched subset are the whole anchor and say nothing; use a larger anchor"
    ]


def _saturation_warnings(by_chance: Draws, n_anchor: int) -> list[str]:
    if by_chance.mean <= SATURATED or by_chance.size == n_anchor:  # all of it, at any threshold
        return []
    return [
        f"{by_chance.size} random anchor samples already cover {by_chance.mean:.1%}, so FAC "
        "cannot tell sets of this size apart; raise --threshold or read the k-fold coverage"
    ]


def _length_warnings(
    is_mismatched: bool, mean_seed: float, mean_anchor: float, mean_matched: float
) -> list[str]:
    warnings = []
    if is_mismatched:
        word = "longer" if mean_seed > mean_anchor else "shorter"
        warnings.append(
            f"seed samples are {word} than anchor samples ({mean_seed:.0f} against "
            f"{mean_anchor:.0f} tokens on average), and longer texts activate more features; "
            "read FAC against the length-matched subset"
        )
    if abs(mean_matched - mean_seed) > 0.2 * mean_seed:
        warnings.append(
            f"the anchor has too few samples of the seed's lengths: the length-matched subset has "
            f"{mean_matched:.0f} tokens on average and the seed {mean_seed:.0f}"
        )
    return warnings


def _feature_warnings(
    by_frequency: Draws | None, ratio: float | None, fac: float, n_goal: int
) -> list[str]:
    if by_frequency is None or ratio is None:
        return []
    warnings = []
    if by_frequency.size < n_goal:
        warnings.append(
            f"only {by_frequency.size} features outside the {n_goal} relevant ones fire in the "
            "anchor, too few to match them in number"
        )
    if not 0.8 <= ratio <= 1.25:
        warnings.append(
            f"no other features fire as often as the relevant ones (those drawn fire {ratio:.2f} "
            "times as often), so their coverage is not a fair comparison"
        )
    low, high = by_frequency.low, by_frequency.high
    if low is not None and high is not None and low <= fac <= high:
        warnings.append(
            f"other features that fire as often are covered just as well ({by_frequency.mean:.1%} "
            f"against {fac:.1%}), so FAC says little about the task here"
        )
    return warnings
