"""A full disk, a disk that cannot be written, a folder deleted under a run: one line, no harm."""

import shutil
import subprocess
import time

from worlds import contents, trials


def soak(seconds, rng, folder):
    """Needs the right to mount a small tmpfs; says so where it lacks."""
    row = {"full": 0, "read_only": 0, "deleted": 0, "wrong": 0}
    trial, *_ = trials(folder)
    whole, disk = folder / "whole", folder / "disk"
    disk.mkdir()
    trial.start(whole).join()
    expected = contents(whole)
    n_bytes = sum(map(len, expected.values()))
    until = time.monotonic() + seconds
    if can_mount := mount(disk, "size=64k"):
        while time.monotonic() < until - seconds / 2 or not row["full"]:
            size = rng.randrange(16, max(20, n_bytes // 2000))  # of kB, half of what it takes
            mount(disk, f"remount,size={size}k")
            row["full"] += 1
            row["wrong"] += not said(trial, disk / "t", folder / "log", "cannot be written")
            mount(disk, "remount,size=64m")
            row["wrong"] += not ends(trial, disk / "t", folder / "log", expected)
            shutil.rmtree(disk / "t")
        mount(disk, "remount,ro")
        row["read_only"] += 1
        row["wrong"] += not said(trial, disk / "t", folder / "log", "Read-only")
        subprocess.run(["umount", disk], check=True)
    while time.monotonic() < until or not row["deleted"]:
        child = trial.start(folder / "gone", folder / "log")
        child.join(rng.uniform(0, 3))
        shutil.rmtree(folder / "gone", ignore_errors=True)
        child.join()
        row["deleted"] += 1
        row["wrong"] += "Traceback" in (folder / "log").read_text()
        row["wrong"] += not ends(trial, folder / "gone", folder / "log", expected)
        shutil.rmtree(folder / "gone")
    return {**row, "tmpfs": can_mount}


def mount(disk, options):
    """Whether a tmpfs could be mounted, or changed."""
    words = ["mount", "-t", "tmpfs", "-o", options, "none", disk]
    return subprocess.run(words, capture_output=True).returncode == 0


def said(trial, folder, log, words):
    """Whether a command fails with one line that says so."""
    child = trial.start(folder, log)
    child.join()
    last = log.read_text().strip().split("\n")[-1]
    good = child.exitcode == 1 and last.startswith("Error: ") and words in last
    if not good:
        print(child.exitcode, log.read_text()[-500:])
    return good


def ends(trial, folder, log, expected):
    """Whether the command, started again, ends in the undisturbed bytes."""
    child = trial.start(folder, log)
    child.join()
    good = child.exitcode == 0 and contents(folder) == expected
    if not good:
        print(child.exitcode, log.read_text()[-500:])
    return good
