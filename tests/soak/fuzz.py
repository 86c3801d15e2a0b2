"""A coverage-guided fuzzer on what reads the bytes of strangers: nothing but our own errors.

Needs atheris, which `make soak` installs; SOAK_FUZZ_PYTHON names the Python of another environment
that has it. Without it the part says that it did not run.
"""

import os
import re
import subprocess
import sys
from pathlib import Path

TARGETS = ("rows", "json", "arrays", "tables", "settings", "replies", "recipes")


def soak(seconds, rng, folder):
    """Fuzz each target for its share of the time, in a process of its own."""
    python = os.environ.get("SOAK_FUZZ_PYTHON", sys.executable)
    known = subprocess.run([python, "-c", "import atheris"], capture_output=True)
    if known.returncode:
        return {"ran": False, "why": "atheris is not installed", "wrong": 0}
    row = {"ran": True, "executions": 0, "wrong": 0}
    for target in TARGETS:
        corpus = folder / target
        corpus.mkdir()
        limit = max(5, int(seconds / len(TARGETS)))
        words = [python, Path(__file__).parent / "fuzz_target.py", target, corpus]
        words += [f"-max_total_time={limit}", "-print_final_stats=1", "-rss_limit_mb=4096"]
        words += [f"-artifact_prefix={folder}/", f"-seed={rng.randrange(1, 2**31)}", "-timeout=30"]
        done = subprocess.run(words, capture_output=True, text=True, errors="replace")
        counted = re.search(r"number_of_executed_units:\s*(\d+)", done.stderr)
        row[f"executions of {target}"] = int(counted[1]) if counted else 0
        row["executions"] += row[f"executions of {target}"]
        row["wrong"] += done.returncode != 0
        if done.returncode:
            print(target, done.stderr[-1500:])
    return row
