"""Run the commands of the tutorial in a fresh folder and print what each took.

    python scripts/time_tutorial.py mydata.jsonl broad.jsonl

Commands with an ellipsis, which need an endpoint, are left out.
"""

import re
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

TUTORIAL = Path(__file__).resolve().parents[1] / "docs" / "tutorial.md"


def main(own: Path, broad: Path) -> None:
    """Print a row for each command as it ends; stop at the first that fails."""
    blocks = re.findall(r"```sh\n(.*?)```", TUTORIAL.read_text(encoding="utf-8"), re.DOTALL)
    steps = [line for block in blocks for line in block.splitlines() if "…" not in line]
    with tempfile.TemporaryDirectory() as scratch:
        shutil.copy(own, Path(scratch) / "mydata.jsonl")
        shutil.copy(broad, Path(scratch) / "broad.jsonl")
        print("| command | processor time | clock |\n|---|---:|---:|", flush=True)
        for step in steps:
            began, before = time.monotonic(), used()
            done = subprocess.run(
                [sys.executable, "-m", "facsynth", *step.split()[1:]], cwd=scratch
            )
            spent, clock = used() - before, time.monotonic() - began
            print(f"| `{step}` | {spent:.0f} s | {clock:.0f} s |", flush=True)
            if done.returncode:
                sys.exit(f"it ended with {done.returncode}")


def used() -> float:
    """Processor time of the commands so far, in seconds."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
