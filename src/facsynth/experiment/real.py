"""Real samples of the anchor as an arm: what written ones could be at best."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Float, Float64

from facsynth.experiment.settings import Choice
from facsynth.select.pool import Pool
from facsynth.select.select import pick_rows
from facsynth.select.settings import SelectSettings
from facsynth.table.active import active_rows
from facsynth.table.rows import take_rows
from facsynth.table.table import FeatureTable

__all__ = ["choose_rows", "farthest_first", "nearest_to_means"]


def choose_rows(
    anchor: FeatureTable,
    rows: Sequence[int],
    n: int,
    choice: Choice,
    *,
    threshold: float,
    missing: Bool[np.ndarray, " n_features"],
    random_seed: int,
) -> list[int]:
    """Choose anchor samples, the best first.

    `coverage` and `herding` are those of `fac select`, within length classes; `farthest` and
    `k-means` work on the mean hidden states that the table keeps, standardised.

    Args:
        anchor: Table of the anchor.
        rows: Samples to choose from.
        n: How many.
        choice: How.
        threshold: δ, in SAE units.
        missing: Features that coverage counts.
        random_seed: Draws random samples, the first of farthest-first, and starts of k-means.
    """
    rng = np.random.default_rng(random_seed)
    n = min(n, len(rows))
    if choice == "random":
        return [rows[i] for i in rng.permutation(len(rows))[:n]]
    if choice in ("farthest", "k-means"):
        hidden = anchor.activations(hidden=True).hidden
        assert hidden is not None  # `World.extract` keeps them
        vectors = hidden[list(rows)].astype(np.float64)
        vectors = (vectors - vectors.mean(axis=0)) / (vectors.std(axis=0) + 1e-6)
        chosen = (
            farthest_first(vectors, n, first=int(rng.integers(len(rows))))
            if choice == "farthest"
            else nearest_to_means(vectors, n, random_seed=random_seed)
        )
        return [rows[i] for i in chosen]
    # A random order breaks ties, which are many, in another way for every random seed.
    mixed = [rows[i] for i in rng.permutation(len(rows))]
    taken = take_rows(anchor.activations(), mixed)
    relevant = missing if choice == "coverage" and missing.any() else None
    pool = Pool(active_rows(taken, threshold=threshold, relevant=relevant))
    settings = SelectSettings(n, "coverage" if choice == "coverage" else "representative")
    picked = pick_rows(pool, replace(settings, weights="frequency"))
    return [mixed[i] for i in picked]


def farthest_first(vectors: Float64[np.ndarray, "n d"], n: int, *, first: int) -> list[int]:
    """Each pick is the row farthest from its nearest pick before (Gonzalez, 1985)."""
    chosen, nearest = [first], np.full(len(vectors), np.inf)
    while len(chosen) < n:
        nearest = np.minimum(nearest, ((vectors - vectors[chosen[-1]]) ** 2).sum(axis=1))
        chosen.append(int(nearest.argmax()))
    return chosen


def nearest_to_means(vectors: Float[np.ndarray, "n d"], n: int, *, random_seed: int) -> list[int]:
    """The row nearest to each of `n` k-means centres, the largest cluster first."""
    from sklearn.cluster import KMeans

    found = KMeans(n, n_init=1, random_state=random_seed).fit(vectors)
    distances = found.transform(vectors)
    order = np.argsort(-np.bincount(found.labels_, minlength=n), kind="stable")
    # A row can be the nearest to two centres; each is taken once.
    return list(dict.fromkeys(int(distances[:, k].argmin()) for k in order))
