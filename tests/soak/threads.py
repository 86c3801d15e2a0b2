"""The same inputs give the same bytes on one thread and on two, in one part and in many."""

import os
import subprocess
import sys

from worlds import contents, trials


def soak(seconds, rng, folder):
    """Extract, train and run on one and on two threads."""
    row = {"comparisons": 0, "wrong": 0}
    for trial in trials(folder):
        found = []
        for n_threads in (1, 2):
            place = folder / f"{trial.name} {n_threads}"
            words = [sys.executable, "-m", "facsynth", *map(str, trial.words), "-o", place]
            environment = os.environ | {
                name: str(n_threads) for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
            }
            subprocess.run(words, env=environment, check=True, capture_output=True)
            found.append(contents(place, trial.files))
        row["comparisons"] += 1
        row["wrong"] += found[0] != found[1]
        if found[0] != found[1]:
            print(trial.name, "differs in", [n for n in found[0] if found[0][n] != found[1].get(n)])
    return row
