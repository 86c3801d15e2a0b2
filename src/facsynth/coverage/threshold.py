"""The threshold δ where nobody sets one: as low as tells sets of this size apart.

Activations have another scale in every SAE, and long texts activate most features, so that at a
low threshold any two sets cover nearly everything. The threshold is therefore taken from the
anchor: the lowest of some quantiles of its activations at which a random part of it, as large as
the seed, leaves room above it. Where there is no anchor, the tables at hand stand for it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Int64

from facsynth.coverage.richness import expected_richness
from facsynth.records import FeatureActivations
from facsynth.table.active import check_flags, table_width
from facsynth.table.blocks import exact_quantiles, read_blocks
from facsynth.table.inputs import TableData, open_tables
from facsynth.table.table import FeatureTable

__all__ = [
    "ChosenThreshold",
    "choose_level",
    "choose_threshold",
    "count_samples",
    "own_threshold",
]

QUANTILES = (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)
"""Of the anchor's activations above 0, one per sample and feature. From the median on: in the
paper thresholds of 1 to 2 served best, which is about there, and lower ones count noise."""

ROOM = 0.8
"""Random parts of the anchor cover no larger share of its features at the chosen threshold."""


@dataclass(frozen=True, slots=True)
class ChosenThreshold:
    """A threshold and where it comes from."""

    threshold: float
    """δ, in SAE units."""

    rule: str | None = None
    """Which threshold it is and what random samples reach at it, in words; None if it was set."""

    def row(self) -> dict[str, Any]:
        """The value and the rule under stable keys."""
        return {"threshold": self.threshold, "threshold_rule": self.rule}

    def __str__(self) -> str:
        return f"{self.threshold:g}" + (f" ({self.rule})" if self.rule else "")

    @property
    def sentence(self) -> str:
        """The value and the rule in one line; empty where it was set."""
        return f"threshold {self.threshold:g}: {self.rule}" if self.rule else ""

    @property
    def notes(self) -> tuple[str, ...]:
        """The sentence, for a result's notes; none where the threshold was set."""
        return (self.sentence,) if self.rule else ()


def choose_threshold(
    anchor: TableData | Sequence[TableData],
    n_seed: int,
    relevant: Bool[np.ndarray, " n_features"] | None = None,
    *,
    given: float | None = None,
    of: str = "the anchor's",
) -> ChosenThreshold:
    """The lowest of `QUANTILES` at which random anchor samples cover at most `ROOM`.

    Where none leaves as much room, it is the highest one.

    Args:
        anchor: Table of the anchor, or several that count together.
        n_seed: Samples of the seed. Half of the anchor at most is drawn, for all of it covers
            everything at any threshold.
        relevant: Features that count; all when None.
        given: A threshold that was set; nothing is chosen then.
        of: Whose activations they are, for the rule in words.
    """
    if given is not None:
        return ChosenThreshold(given)
    tables = open_tables(anchor)

    def blocks() -> Iterator[FeatureActivations]:
        return (block for table in tables for block in read_blocks(table))

    found = exact_quantiles(lambda: (block.values for block in blocks()), QUANTILES)
    if np.isnan(found).any():
        return ChosenThreshold(0.0, f"none of {of} features is active at all")
    # Three digits, so that the printed value is the one that was used.
    levels = [float(f"{level:.3g}") for level in found]
    n_features = table_width(tables[0])
    counts, n_samples = _count(blocks(), levels, n_features)
    if relevant is not None:
        check_flags(relevant, n_features)
        counts[:, ~relevant] = 0
    size = max(1, min(n_seed, n_samples // 2))
    at, share = choose_level(list(counts), n_samples, size)
    if not counts[at].any():
        return ChosenThreshold(0.0, f"none of {of} activations stands out")
    return ChosenThreshold(
        levels[at],
        f"the {QUANTILES[at]:.0%} quantile of {of} activations, at which {size:,} random samples "
        f"of {n_samples:,} cover {share:.0%}",
    )


def own_threshold(
    tables: TableData | Sequence[TableData],
    relevant: Bool[np.ndarray, " n_features"] | None = None,
    *,
    given: float | None = None,
) -> ChosenThreshold:
    """The threshold where no anchor is named: the tables together stand for it.

    Random parts are as large as the smallest table, or half of a single one.

    Args:
        tables: What is measured.
        relevant: Features that count; all when None.
        given: A threshold that was set; nothing is chosen then.
    """
    opened = open_tables(tables)
    of = "the table's" if len(opened) == 1 else "the tables'"
    n_least = min(map(count_samples, opened))
    return choose_threshold(opened, n_least, relevant, given=given, of=of)


def count_samples(tables: TableData | Sequence[TableData]) -> int:
    """Samples of a table, or of several together."""
    return sum(
        table.manifest.n_samples if isinstance(table, FeatureTable) else table.n_tokens.size
        for table in open_tables(tables)
    )


def _count(
    blocks: Iterator[FeatureActivations], levels: Sequence[float], n_features: int
) -> tuple[Int64[np.ndarray, "n_levels n_features"], int]:
    """Samples that activate each feature above each level, and samples in all."""
    counts, n_samples = np.zeros((len(levels), n_features), dtype=np.int64), 0
    for block in blocks:
        for count, level in zip(counts, levels, strict=True):
            ids = block.feature_ids[block.values > np.float32(level)]
            count += np.bincount(ids, minlength=n_features)
        n_samples += block.n_tokens.size
    return counts, n_samples


def choose_level(
    counts: Sequence[Int64[np.ndarray, " n_features"]], n_samples: int, size: int
) -> tuple[int, float]:
    """The first level at which random samples cover at most `ROOM`, or else the last that counts.

    Returns:
        Its place, and the share of its features that random parts cover.
    """
    best = (0, 1.0)
    for at, level in enumerate(counts):
        n_active = int(np.count_nonzero(level))
        if not n_active:
            break
        best = at, float(expected_richness(level, n_samples, np.array([size]))[0]) / n_active
        if best[1] <= ROOM:
            break
    return best
