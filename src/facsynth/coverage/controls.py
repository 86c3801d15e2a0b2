"""What a coverage value is worth: the same number for sets that know nothing of the task.

At a fixed number of samples, FAC follows text length and general coverage more than relevance.
So it is shown beside three controls: random parts of the anchor, parts with the seed's text
lengths, and random features that fire as often as the relevant ones. Every entry of a table
handed to this module counts as active; `facsynth.coverage.fac.active_only` drops the others.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Int64

from facsynth.coverage.representative import hellinger_distance
from facsynth.errors import DataError
from facsynth.records import FeatureActivations

__all__ = [
    "Controls",
    "Draws",
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

    low: float
    """Smallest of the draws."""

    high: float
    """Largest of the draws."""

    n_draws: int
    size: int
    """Samples, or features, in each draw."""


@dataclass(frozen=True, slots=True)
class Controls:
    """Coverage values to read FAC against."""

    random_subset: Draws
    """FAC of random anchor samples, as many as the seed has."""

    length_matched: Draws
    """FAC of anchor samples, as many as the seed has and of the same lengths."""

    length_matched_tokens: float
    """Mean tokens of those anchor samples, to check the match against the seed's mean."""

    random_hellinger: float
    """Mean Hellinger distance of the random subsets to the anchor: what a seed of this size
    reaches when nothing is wrong with it; a subset that activates nothing counts as 1."""

    frequency_matched: Draws | None
    """Coverage of features outside the relevant ones that fire as often in the anchor. None
    when every feature is relevant or no other feature fires."""

    frequency_ratio: float | None
    """Mean anchor firing count of those features over that of the relevant ones; 1 is a
    perfect match."""

    length_auc: float
    """Chance that a seed sample is longer than an anchor sample, in [0, 1]; 0.5 is equal."""

    is_saturated: bool
    """Random subsets of the seed's size cover more than 95 %."""

    is_length_mismatched: bool
    """`length_auc` lies outside 0.4..0.6 and mean lengths differ by more than 20 %."""

    warnings: tuple[str, ...]
    """What to keep in mind when reading FAC, in plain words; empty when all is well."""


def length_matched_subset(
    lengths_anchor: Int64[np.ndarray, " n_anchor_samples"],
    lengths_target: Int64[np.ndarray, " n_target_samples"],
    *,
    rng: np.random.Generator,
) -> Int64[np.ndarray, " n_drawn"]:
    """Random anchor samples with the text lengths of another data set.

    Anchor lengths are blurred by 5 %, then each target length takes a near anchor sample, and
    no sample is taken twice. Where the anchor has too few samples of a length, the neighbours
    on both sides are used.

    Args:
        lengths_anchor: Tokens of each anchor sample.
        lengths_target: Tokens of each sample to match.
        rng: Source of the blur.

    Returns:
        Positions of anchor samples, ascending, as many as there are targets; all anchor
        samples when there are fewer of them than targets.
    """
    return _matched(lengths_anchor, lengths_target, rng)


def frequency_matched_features(
    counts: Int64[np.ndarray, " n_features"],
    relevant: Bool[np.ndarray, " n_features"],
    *,
    rng: np.random.Generator,
) -> Bool[np.ndarray, " n_features"]:
    """Random features outside the relevant ones that fire as often in the anchor.

    Only features that the anchor activates are matched and drawn, so the drawn set is the
    denominator of its own coverage.

    Args:
        counts: Anchor samples that activate each feature.
        relevant: Features to imitate.
        rng: Source of the draw.

    Returns:
        The drawn features, as many as there are relevant ones in the anchor, or all other
        features that the anchor activates when these are fewer.
    """
    pool = np.flatnonzero(~relevant & (counts > 0))
    drawn = np.zeros(counts.size, dtype=np.bool_)
    drawn[pool[_matched(counts[pool], counts[relevant & (counts > 0)], rng)]] = True
    return drawn


def length_auc(
    lengths_seed: Int64[np.ndarray, " n_seed_samples"],
    lengths_anchor: Int64[np.ndarray, " n_anchor_samples"],
) -> float:
    """Chance that a random seed sample is longer than a random anchor sample.

    Ties count half (the Mann-Whitney U statistic divided by the number of pairs).

    Args:
        lengths_seed: Tokens of each seed sample; at least one.
        lengths_anchor: Tokens of each anchor sample; at least one.

    Returns:
        A fraction in [0, 1]; 0.5 when neither set is longer.
    """
    ordered = np.sort(lengths_anchor)
    below = np.searchsorted(ordered, lengths_seed, side="left")
    not_above = np.searchsorted(ordered, lengths_seed, side="right")
    wins = int(below.sum()) + int(not_above.sum())
    return wins / (2 * lengths_seed.size * lengths_anchor.size)


def measure_controls(
    anchor: FeatureActivations,
    seed: FeatureActivations,
    relevant: Bool[np.ndarray, " n_features"],
    *,
    n_draws: int = 20,
    rng: np.random.Generator,
) -> Controls:
    """Coverage of random samples and random features to read the seed's FAC against.

    Args:
        anchor: Table in which every entry counts as active.
        seed: The same for the seed.
        relevant: Relevant features, at least one of them active in the anchor.
        n_draws: Random draws behind each control, at least one.
        rng: Source of the draws.

    Returns:
        The controls and the warnings that follow from them.

    Raises:
        DataError: A set has no samples, or the anchor activates no relevant feature.
    """
    if not anchor.n_tokens.size or not seed.n_tokens.size:
        raise DataError(
            f"the anchor has {anchor.n_tokens.size} samples and the seed {seed.n_tokens.size}; "
            "controls need at least one of each"
        )
    counts = np.bincount(anchor.feature_ids, minlength=anchor.n_features)
    if not (relevant & (counts > 0)).any():
        raise DataError(
            f"the anchor activates none of the {int(relevant.sum())} relevant features, so there "
            "is nothing to compare with; lower --threshold"
        )
    by_chance, distances = _random_subsets(anchor, seed, relevant, n_draws, rng)
    by_length, tokens = _length_matched_draws(anchor, seed, relevant, n_draws, rng)
    by_frequency, ratio = _frequency_matched_draws(counts, seed, relevant, n_draws, rng)
    auc = length_auc(seed.n_tokens, anchor.n_tokens)
    mean_anchor, mean_seed = float(anchor.n_tokens.mean()), float(seed.n_tokens.mean())
    mismatched = not 0.4 <= auc <= 0.6 and abs(mean_seed - mean_anchor) > 0.2 * mean_anchor
    saturated = by_chance.mean > SATURATED
    return Controls(
        random_subset=by_chance,
        length_matched=by_length,
        length_matched_tokens=tokens,
        random_hellinger=distances,
        frequency_matched=by_frequency,
        frequency_ratio=ratio,
        length_auc=auc,
        is_saturated=saturated,
        is_length_mismatched=mismatched,
        warnings=(
            *_size_warnings(anchor.n_tokens.size, seed.n_tokens.size),
            *_saturation_warnings(saturated, by_chance),
            *_length_warnings(mismatched, mean_seed, mean_anchor, tokens),
            *_feature_warnings(by_frequency, ratio, counts, seed, relevant),
        ),
    )


def _matched(
    pool: Int64[np.ndarray, " n_pool"],
    targets: Int64[np.ndarray, " n_targets"],
    rng: np.random.Generator,
) -> Int64[np.ndarray, " n_drawn"]:
    """Positions in `pool` of near values to `targets`, without replacement.

    Each sorted target starts at its nearest value. The positions are then spread until they
    differ: once by pushing up, once by pushing down, and the middle of the two is taken, which
    is strictly increasing as well.
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


def _subset_counts(
    activations: FeatureActivations, chosen: Int64[np.ndarray, " n_drawn"]
) -> Int64[np.ndarray, " n_features"]:
    is_chosen = np.zeros(activations.n_tokens.size, dtype=np.bool_)
    is_chosen[chosen] = True
    entries = np.repeat(is_chosen, np.diff(activations.row_starts))
    return np.bincount(activations.feature_ids[entries], minlength=activations.n_features)


def summarize_draws(values: Sequence[float], size: int) -> Draws:
    """Mean and range of a measure over draws of so many samples or features."""
    return Draws(
        mean=float(np.mean(values)),
        low=min(values),
        high=max(values),
        n_draws=len(values),
        size=size,
    )


def _share(covered: Bool[np.ndarray, " n_features"], of: Bool[np.ndarray, " n_features"]) -> float:
    return int(np.count_nonzero(covered & of)) / int(np.count_nonzero(of))


def _random_subsets(
    anchor: FeatureActivations,
    seed: FeatureActivations,
    relevant: Bool[np.ndarray, " n_features"],
    n_draws: int,
    rng: np.random.Generator,
) -> tuple[Draws, float]:
    counts = np.bincount(anchor.feature_ids, minlength=anchor.n_features)
    goal = relevant & (counts > 0)
    size = min(seed.n_tokens.size, anchor.n_tokens.size)
    shares, distances = [], []
    for _ in range(n_draws):
        drawn = _subset_counts(anchor, rng.choice(anchor.n_tokens.size, size, replace=False))
        shares.append(_share(drawn > 0, goal))
        fires = bool(drawn[goal].any())
        distances.append(hellinger_distance(drawn[goal], counts[goal]) if fires else 1.0)
    return summarize_draws(shares, size), float(np.mean(distances))


def _length_matched_draws(
    anchor: FeatureActivations,
    seed: FeatureActivations,
    relevant: Bool[np.ndarray, " n_features"],
    n_draws: int,
    rng: np.random.Generator,
) -> tuple[Draws, float]:
    goal = relevant & (np.bincount(anchor.feature_ids, minlength=anchor.n_features) > 0)
    shares, tokens = [], []
    for _ in range(n_draws):
        chosen = length_matched_subset(anchor.n_tokens, seed.n_tokens, rng=rng)
        shares.append(_share(_subset_counts(anchor, chosen) > 0, goal))
        tokens.append(float(anchor.n_tokens[chosen].mean()))
    return summarize_draws(shares, chosen.size), float(np.mean(tokens))


def _frequency_matched_draws(
    counts: Int64[np.ndarray, " n_features"],
    seed: FeatureActivations,
    relevant: Bool[np.ndarray, " n_features"],
    n_draws: int,
    rng: np.random.Generator,
) -> tuple[Draws, float] | tuple[None, None]:
    goal = relevant & (counts > 0)
    if not (~relevant & (counts > 0)).any():
        return None, None
    active = np.bincount(seed.feature_ids, minlength=seed.n_features) > 0
    shares, means, size = [], [], 0
    for _ in range(n_draws):
        drawn = frequency_matched_features(counts, relevant, rng=rng)
        shares.append(_share(active, drawn))
        means.append(float(counts[drawn].mean()))
        size = int(np.count_nonzero(drawn))
    return summarize_draws(shares, size), float(np.mean(means)) / float(counts[goal].mean())


def _size_warnings(n_anchor: int, n_seed: int) -> list[str]:
    if n_anchor >= n_seed:
        return []
    return [
        f"the anchor has {n_anchor} samples and the seed {n_seed}, so the random and the "
        "length-matched subset are the whole anchor and say nothing; use a larger anchor"
    ]


def _saturation_warnings(is_saturated: bool, by_chance: Draws) -> list[str]:
    if not is_saturated:
        return []
    return [
        f"{by_chance.size} random anchor samples already cover {by_chance.mean:.1%}, so FAC "
        "cannot tell sets of this size apart; raise the threshold or use k-fold coverage"
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
    by_frequency: Draws | None,
    ratio: float | None,
    counts: Int64[np.ndarray, " n_features"],
    seed: FeatureActivations,
    relevant: Bool[np.ndarray, " n_features"],
) -> list[str]:
    if by_frequency is None or ratio is None:
        return []
    goal = relevant & (counts > 0)
    warnings = []
    if by_frequency.size < np.count_nonzero(goal):
        warnings.append(
            f"only {by_frequency.size} features outside the {int(np.count_nonzero(goal))} relevant "
            "ones fire in the anchor, so they cannot be matched in number"
        )
    if not 0.8 <= ratio <= 1.25:
        warnings.append(
            f"no other features fire as often as the relevant ones (those drawn fire {ratio:.2f} "
            "times as often), so their coverage is no fair comparison"
        )
    fac = _share(np.bincount(seed.feature_ids, minlength=seed.n_features) > 0, goal)
    if by_frequency.low <= fac <= by_frequency.high:
        warnings.append(
            f"other features that fire as often are covered just as well ({by_frequency.mean:.1%} "
            f"against {fac:.1%}), so FAC says little about the task here"
        )
    return warnings
