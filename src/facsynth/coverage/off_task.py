"""Coverage of the features of each class of the anchor: those of the task, and the others.

When the anchor has labels, a seed for one class should cover the features of that class and need
not cover those of the others. If it covers both alike, its FAC is general coverage.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool

from facsynth.coverage.representative import log_odds
from facsynth.errors import MismatchError
from facsynth.table.active import ActiveRows

__all__ = ["ClassCoverage", "class_coverage"]

MAX_CLASSES = 20
"""A column with more distinct labels than this holds ids or texts, not classes."""

MIN_SAMPLES = 5
"""Samples of a class that have to activate a feature before it can count as the class's own."""


@dataclass(frozen=True, slots=True)
class ClassCoverage:
    """Coverage of the features that go with one class of the anchor."""

    label: str
    n_samples: int
    """Anchor samples of this class."""

    n_features: int
    """Features that fire more in this class than in the others, the clearest ones."""

    mean_rate: float
    """Mean share of the anchor's samples that fire them; classes compare when it is similar."""

    fac: float | None
    """Share of them that the seed activates, in [0, 1]; None when there are none."""


def class_coverage(
    anchor: ActiveRows,
    labels: Sequence[str | None],
    seed: ActiveRows,
    relevant: Bool[np.ndarray, " n_features"],
    *,
    n_features: int = 300,
) -> tuple[ClassCoverage, ...]:
    """Coverage of the features of each class of the anchor.

    The features of a class are those with the largest z of the log-odds of firing in its samples
    against the others (`facsynth.coverage.representative.log_odds`), above 0, and active in at
    least five of its samples.

    Returns:
        One record per class in alphabetical order; nothing with one class only, or more than 20.

    Raises:
        MismatchError: Labels and anchor samples differ in number.
    """
    if len(labels) != anchor.n_samples:
        raise MismatchError(f"{len(labels)} labels and {anchor.n_samples} anchor samples")
    names = sorted({label for label in labels if label is not None})
    if not 2 <= len(names) <= MAX_CLASSES:
        return ()
    found = []
    members = [np.array([label == name for label in labels]) for name in names]
    counts = anchor.firing.sum_samples(members).astype(np.int64)
    for name, member, inside in zip(names, members, counts, strict=True):
        _, z = log_odds(inside, anchor.counts - inside)
        usable = np.flatnonzero(relevant & (inside >= MIN_SAMPLES) & (z > 0))
        own = usable[np.lexsort((usable, -z[usable]))][:n_features]
        found.append(
            ClassCoverage(
                label=name,
                n_samples=int(member.sum()),
                n_features=int(own.size),
                mean_rate=float(anchor.counts[own].mean()) / anchor.n_samples if own.size else 0.0,
                fac=float(seed.features[own].mean()) if own.size else None,
            )
        )
    return tuple(found)
