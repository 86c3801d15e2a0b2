"""What a `synthesize` arm aims at: the missing features, or features that should not matter."""

import numpy as np
from jaxtyping import Bool

from facsynth.coverage.controls import frequency_matched_features
from facsynth.experiment.settings import Arm, Wanted
from facsynth.experiment.world import Side, World
from facsynth.table.active import active_rows
from facsynth.table.table import FeatureTable

__all__ = ["aim_at"]

Flags = Bool[np.ndarray, " n_features"]


def aim_at(
    world: World,
    side: Side,
    arm: Arm,
    threshold: float,
    random_seed: int,
    wanted: Wanted | None,
) -> tuple[FeatureTable, Flags | None]:
    """A seed table in which what is to be aimed at is missing, and the features that count.

    `random` draws as many features as are missing among all that the anchor activates. `frequency`
    draws them outside the missing ones, so that they fire as often. Both are then taken out of the
    seed's table, for else the seed would cover most of them. `missing` and `random-sae` take the
    tables as they are; the SAE differs.

    Args:
        world: Keeps tables.
        side: Anchor and seed.
        arm: Says what to aim at.
        threshold: δ of the run.
        random_seed: Of the draw.
        wanted: The class that is written.
    """
    features = arm.features
    if features == "random-sae":
        return side.seed, None
    if features == "missing":
        return side.seed, _flipped(world.relevant, side, arm.flipped, random_seed)
    counts = active_rows(side.anchor, threshold=threshold).counts
    missing = world.missing(side, threshold)
    rng = np.random.default_rng(random_seed)
    if features == "frequency":
        aimed = frequency_matched_features(counts, missing, rng=rng)
    else:
        aimed = np.zeros_like(missing)
        there = np.flatnonzero(counts)
        aimed[rng.choice(there, min(int(missing.sum()), there.size), replace=False)] = True
    rows = side.seed.activations()
    kept = rows.keep_entries(~aimed[rows.feature_ids])
    label = wanted.label if wanted else "all"
    name = f"seed-{label}-without-{features}-{random_seed}-{threshold:g}"
    return world.derive(side.seed, kept, side.seed.samples(), name), aimed


def _flipped(relevant: Flags | None, side: Side, share: float, random_seed: int) -> Flags | None:
    """The judgments with a share of them turned round."""
    if not share:
        return relevant
    n = side.anchor.manifest.source.n_features
    flags = np.ones(n, dtype=np.bool_) if relevant is None else relevant.copy()
    turned = np.random.default_rng(random_seed).choice(n, round(share * n), replace=False)
    flags[turned] = ~flags[turned]
    return flags
