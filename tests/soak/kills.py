"""SIGKILL at random moments: what comes out in the end has the bytes of an undisturbed run."""

import shutil
import time

from worlds import all_trials, contents


def soak(seconds, rng, folder):
    """Kill every command again and again until it ends by itself; compare; begin anew."""
    row = {"kills": 0, "finished": 0, "wrong": 0, "left_behind": 0}
    commands = all_trials(folder)
    for trial in commands:
        whole, killed = folder / f"whole {trial.name}", folder / f"killed {trial.name}"
        started = time.monotonic()
        child = trial.start(whole)
        child.join()
        took = time.monotonic() - started
        expected = contents(whole, trial.files)
        n_kills, until = 0, time.monotonic() + seconds / len(commands)
        while time.monotonic() < until or n_kills == 0:
            child = trial.start(killed, folder / "log")
            child.join(rng.uniform(0, took))
            child.kill()
            child.join()
            n_kills += child.exitcode == -9
            if child.exitcode == -9 and rng.random() < 0.7:
                continue
            child = trial.start(killed, folder / "log")
            child.join()
            row["finished"] += 1
            same = child.exitcode == 0 and contents(killed, trial.files) == expected
            row["wrong"] += not same
            if not same:
                print(trial.name, child.exitcode, (folder / "log").read_text()[-500:])
            row["left_behind"] += len(list(killed.rglob(".tmp-*")))
            shutil.rmtree(killed)
        row[f"kills of {trial.name}"] = n_kills
        row["kills"] += n_kills
    return row
