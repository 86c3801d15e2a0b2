"""apricot-select or submodlib on sparse rows; prints seconds and picks. Does not need facsynth.

python contenders/select_peer.py apricot rows.npz 2000
"""

import json
import sys
import time

import numpy as np
from scipy.sparse import csr_matrix, load_npz


def run_apricot(rows: csr_matrix, n_picks: int) -> list[float]:
    from apricot import MaxCoverageSelection

    small = MaxCoverageSelection(2, threshold=1.0, optimizer="lazy")
    small.fit(rows[:50])  # compiles its kernels, which is not counted
    start = time.perf_counter()
    chosen = MaxCoverageSelection(n_picks, threshold=1.0, optimizer="lazy").fit(rows)
    return [time.perf_counter() - start, *map(int, chosen.ranking)]


def run_submodlib(rows: csr_matrix, n_picks: int) -> list[float]:
    from submodlib import SetCoverFunction

    start = time.perf_counter()
    sets = [set(part.tolist()) for part in np.split(rows.indices, rows.indptr[1:-1])]
    n_samples, n_features = rows.shape
    cover = SetCoverFunction(
        n=n_samples, cover_set=sets, num_concepts=n_features, concept_weights=[1.0] * n_features
    )
    found = cover.maximize(
        budget=n_picks,
        optimizer="LazyGreedy",
        stopIfZeroGain=False,
        stopIfNegativeGain=False,
        show_progress=False,
    )
    return [time.perf_counter() - start, *(int(row) for row, _ in found)]


name, file, n_picks = sys.argv[1:]
peer = {"apricot": run_apricot, "submodlib": run_submodlib}[name]
print(json.dumps(peer(csr_matrix(load_npz(file)), int(n_picks))))
