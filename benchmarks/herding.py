"""How near herding comes when most picks look only at the nearest of a large group.

    python benchmarks/herding.py [N_SAMPLES]

Prints, for several numbers of picks, the distance between the mean of the picks and that of the
pool, relative to looking at every sample for every pick, and the time relative to that.
"""

import sys
import time

import numpy as np
from scale_table import N_FEATURES, make_rows, make_tickets

from facsynth.select import herding
from facsynth.select.picks import Spending, plan_groups
from facsynth.table.firing import FiringRows


def herd(rows: FiringRows, n_tokens: np.ndarray, budget: int) -> tuple[float, float]:
    """Distance of the means, and processor seconds."""
    counts, n = rows.counts().astype(np.float64), n_tokens.size
    groups = plan_groups(n_tokens, budget=budget, quota="length")
    start = time.process_time()
    picks = herding.mean_picks(rows, groups, counts, n, Spending(n_tokens))
    seconds = time.process_time() - start
    return float(np.linalg.norm(rows.take(picks).counts() / picks.size - counts / n)), seconds


def main() -> None:
    n_samples = int((sys.argv[1:] or ["100000"])[0])
    made = make_rows([f"s{i}" for i in range(n_samples)], make_tickets(0), [0, 0])
    rows = FiringRows(made.row_starts, made.feature_ids.astype(np.uint16), N_FEATURES)
    for budget in (50, 100, 200, 400, 1000, 2000):
        herding.ALL_SEEN = n_samples
        nearest, whole = herd(rows, made.n_tokens, budget)
        herding.ALL_SEEN = 0
        near, quick = herd(rows, made.n_tokens, budget)
        print(f"{budget:5} picks: distance {near / nearest:.3f}, time {quick / whole:.2f}")


if __name__ == "__main__":
    main()
