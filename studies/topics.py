"""Which similarity groups missing features into topics best? docs/log.md has the results.

    python studies/topics.py RUN

RUN is the folder of a finished `fac run`, such as runs/demo. Missing features are grouped on one
random half of the anchor; the other half shows whether the features of a group really occur
together. The similarities are compared at equal numbers of groups.
"""

import sys
from pathlib import Path

import numpy as np
from scipy.cluster.hierarchy import fcluster, linkage

from facsynth.coverage.fac import missing_features
from facsynth.recipe import read_recipe
from facsynth.records import FeatureActivations
from facsynth.sae.files import load_sae
from facsynth.table.active import active_rows
from facsynth.table.rows import take_rows
from facsynth.table.table import open_table

ROOT = Path(__file__).resolve().parent.parent
MIN_SAMPLES, N_SPLITS, N_GROUPS = 6, 3, (300, 200, 120)


def main() -> None:
    run = Path(sys.argv[1])
    threshold = read_recipe(ROOT / "recipes" / "demo.toml").written_above
    anchor, seed = (open_table(run / name).activations() for name in ("anchor", "seed"))
    rows, seed_rows = (active_rows(table, threshold=threshold) for table in (anchor, seed))
    features = missing_features(rows, seed_rows)
    features = features[rows.counts[features] >= MIN_SAMPLES]
    pairs = np.triu_indices(len(features), 1)
    direction = load_sae(None).directions[features]
    direction = direction / np.linalg.norm(direction, axis=1, keepdims=True)
    cosine = np.clip(direction @ direction.T, 0, 1)[pairs]
    print(f"{len(features)} missing features in {MIN_SAMPLES} or more anchor samples")
    print("split  similarity  groups  common samples of pairs in a group (all pairs), other half")
    for split in range(N_SPLITS):
        order = np.random.default_rng(split).permutation(anchor.n_tokens.size)
        here, there = (
            common_samples(take_rows(anchor, half.tolist()), features, threshold)[pairs]
            for half in np.array_split(order, 2)
        )
        for name, similar in (("samples", here), ("cosine", cosine), ("mean", (here + cosine) / 2)):
            tree = linkage(1 - similar, "average")
            for n_groups in N_GROUPS:
                label = fcluster(tree, n_groups, "maxclust")
                inside = (label[:, None] == label[None, :])[pairs]
                found = f"{there[inside].mean():.3f} ({there.mean():.3f})"
                print(f"{split}      {name:10}  {label.max():6}  {found}")


def common_samples(rows: FeatureActivations, features: np.ndarray, threshold: float) -> np.ndarray:
    """Jaccard similarity of the samples of every two features."""
    active = active_rows(rows, threshold=threshold).fires[:, features]
    both = (active.T @ active).toarray()
    counts = both.diagonal()
    shares: np.ndarray = both / np.maximum(counts[:, None] + counts[None, :] - both, 1)
    return shares


if __name__ == "__main__":
    main()
