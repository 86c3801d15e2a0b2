"""What a `synthesize` arm aims at: the missing features, or features that should not matter."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from jaxtyping import Bool

from facsynth.coverage.controls import frequency_matched_features
from facsynth.experiment.settings import Arm, Names, Wanted
from facsynth.experiment.world import Side, World
from facsynth.table.active import active_rows
from facsynth.table.table import FeatureTable
from facsynth.understand.descriptions import Described

__all__ = ["aim_at", "change_names"]

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
    seed's table, for else the seed would cover most of them. The others take the tables as they
    are; the SAE differs. Of what is aimed at, a share `aimed` is drawn.

    Args:
        world: Keeps tables.
        side: Anchor and seed.
        arm: Says what to aim at.
        threshold: δ of the run.
        random_seed: Of the draw.
        wanted: The class that is written.
    """
    features, rng = arm.features, np.random.default_rng(random_seed)
    missing = world.missing(side, threshold)
    if features not in ("random", "frequency"):
        flags = _flipped(side, arm.flipped, random_seed)
        if arm.aimed < 1:
            left_out = missing & ~_part(missing, arm.aimed, rng)
            flags = ~left_out if flags is None else flags & ~left_out
        return side.seed, flags
    counts = active_rows(side.anchor, threshold=threshold).counts
    if features == "frequency":
        aimed = frequency_matched_features(counts, missing, rng=rng)
    else:
        aimed = np.zeros_like(missing)
        there = np.flatnonzero(counts)
        aimed[rng.choice(there, min(int(missing.sum()), there.size), replace=False)] = True
    aimed = _part(aimed, arm.aimed, rng)
    rows = side.seed.activations()
    kept = rows.keep_entries(~aimed[rows.feature_ids])
    label = wanted.label if wanted else "all"
    name = f"{side.seed.folder.name}-{label}-without-{features}"
    name += f"-{random_seed}-{threshold:g}-{arm.aimed:g}"
    return world.derive(side.seed, kept, side.seed.samples(), name), aimed


def change_names(
    found: Mapping[int, Described], names: Names, random_seed: int
) -> dict[int, Described]:
    """Explanations as they are, cut to half of their words, or exchanged between features."""
    if names == "truncated":
        return {
            f: replace(d, name=_half(d.name), description=d.description and _half(d.description))
            for f, d in found.items()
        }
    order = list(found)
    if names == "swapped":
        order = [order[i] for i in np.random.default_rng(random_seed).permutation(len(order))]
    # Each gets what belongs to the next in a random order, so none keeps its own.
    owners = order[1:] + order[:1] if names == "swapped" else order
    return {
        f: replace(found[f], name=found[o].name, description=found[o].description)
        for f, o in zip(order, owners, strict=True)
    }


def _half(text: str) -> str:
    words = text.split()
    return " ".join(words[: max(1, len(words) // 2)])


def _part(flags: Flags, share: float, rng: np.random.Generator) -> Flags:
    """A random share of what is flagged, one at least."""
    found = np.flatnonzero(flags)
    if share == 1:
        return flags
    part: Flags = np.zeros_like(flags)
    part[rng.permutation(found)[: max(1, round(share * found.size))]] = True
    return part


def _flipped(side: Side, share: float, random_seed: int) -> Flags | None:
    """The judgments with a share of them turned round."""
    if not share:
        return side.relevant
    n = side.anchor.manifest.source.n_features
    flags = np.ones(n, dtype=np.bool_) if side.relevant is None else side.relevant.copy()
    turned = np.random.default_rng(random_seed).choice(n, round(share * n), replace=False)
    flags[turned] = ~flags[turned]
    return flags
