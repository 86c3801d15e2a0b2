"""Clocks that jump by hours: the same bytes come out."""

import subprocess
import sys

from worlds import contents, trials

JUMPING = """
import random, sys, time
real, rng = time.time, random.Random(0)
time.time = lambda: real() + rng.choice([-1e6, -3600.0, 0.0, 3600.0, 1e6])
time.time_ns = lambda: int(time.time() * 1e9)
from facsynth.cli import main
main(sys.argv[1:])
"""


def soak(seconds, rng, folder):
    """Each command of the world, undisturbed and under a clock that jumps at every look."""
    row = {"comparisons": 0, "wrong": 0}
    for trial in trials(folder):
        found = []
        for name, start in (("even", ("-m", "facsynth")), ("jumping", ("-c", JUMPING))):
            place = folder / f"{trial.name} {name}"
            words = [sys.executable, *start, *map(str, trial.words), "-o", place]
            done = subprocess.run(words, capture_output=True, text=True)
            found.append(contents(place, trial.files) if done.returncode == 0 else done.stderr)
        row["comparisons"] += 1
        row["wrong"] += found[0] != found[1]
        if found[0] != found[1]:
            print(trial.name, [str(one)[-300:] for one in found])
    return row
