"""How often the interval of FAC contains its target: `python studies/interval/simulate.py`.

Seeds are drawn from sources with known firing rates, so the mean FAC of seeds of that size is known
too. In the source `independent`, features fire independently. In `topics`, each sample has one of
30 topics, which multiplies the rates of its own features by ten.
"""

import argparse

import numpy as np

from facsynth.coverage.interval import bootstrap_interval
from facsynth.records import FeatureActivations
from facsynth.table.active import active_rows


def make_source(kind: str, n_features: int, rng: np.random.Generator) -> np.ndarray:
    """Firing probabilities, one row per topic."""
    rates = np.exp(rng.uniform(np.log(0.0005), np.log(0.3), n_features))
    if kind == "independent":
        return rates[None]
    own = rng.integers(0, 30, n_features)
    return np.asarray(np.minimum(0.9, rates * np.where(own == np.arange(30)[:, None], 10.0, 0.5)))


def draw(source: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    topics = rng.integers(0, len(source), n)
    return np.asarray(rng.random((n, source.shape[1])) < source[topics])


def table(active: np.ndarray) -> FeatureActivations:
    rows, features = np.nonzero(active)
    return FeatureActivations(
        n_features=active.shape[1],
        sample_ids=tuple(map(str, range(len(active)))),
        n_tokens=np.full(len(active), 10, dtype=np.int64),
        row_starts=np.searchsorted(rows, np.arange(len(active) + 1)).astype(np.int64),
        feature_ids=features.astype(np.uint32),
        values=np.ones(rows.size, dtype=np.float32),
        positions=np.zeros(rows.size, dtype=np.uint16),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=300)
    parser.add_argument("--features", type=int, default=400)
    arguments = parser.parse_args()
    relevant = np.ones(arguments.features, dtype=bool)
    print("source       samples   FAC  held  held, unscaled  mean width  scale")
    for kind in ("independent", "topics"):
        for n in (20, 40, 150, 600):
            rng = np.random.default_rng([n, kind == "topics"])
            source = make_source(kind, arguments.features, rng)
            anchor = table(draw(source, 3000, rng))
            goal = np.bincount(anchor.feature_ids, minlength=relevant.size) > 0
            drawn = [draw(source, n, rng)[:, goal].any(axis=0) for _ in range(400)]
            target = float(np.mean([one.mean() for one in drawn]))
            held, plain = 0, 0
            widths, scales = [], []
            for _ in range(arguments.runs):
                seed = table(draw(source, n, rng))
                found = bootstrap_interval(goal, active_rows(seed, threshold=0.0), rng=rng)
                held += bool(found.low <= target <= found.high)
                half = (found.resampled_high - found.resampled_low) / 2
                middle = (found.low + found.high) / 2
                plain += bool(abs(target - middle) <= half)
                widths.append(found.high - found.low)
                scales.append(getattr(found, "scale", 1.0))
            print(
                f"{kind:12} {n:7} {target:5.3f} {held / arguments.runs:5.3f} "
                f"{plain / arguments.runs:15.3f} {np.mean(widths):11.3f} {np.mean(scales):6.2f}"
            )


if __name__ == "__main__":
    main()
