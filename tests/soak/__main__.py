"""Long trials of what must hold whatever happens; `make soak` writes docs/reliability.md from them.

    python tests/soak --seconds 60 kills disk        # some parts, a minute each
    python tests/soak --seconds 600 --out soak.json  # all of them

Every part is a module beside this one with `soak(seconds, rng, folder) -> dict`. A part whose
`wrong` is not 0 fails the command.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from importlib import import_module
from pathlib import Path

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

PARTS = ("kills", "disk", "hostile", "endpoint", "threads", "clock", "offline", "fuzz", "long")


def main() -> int:
    parser = argparse.ArgumentParser(prog="python tests/soak", description=__doc__)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help="parts; all by default")
    parser.add_argument("--seconds", type=float, default=60.0, help="time of each part")
    parser.add_argument("--random-seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="write the results as JSON, beside earlier ones")
    asked = parser.parse_args()
    found = json.loads(asked.out.read_text()) if asked.out and asked.out.exists() else {}
    n_wrong = 0
    for part in asked.parts or PARTS:
        rng, started = random.Random(asked.random_seed), time.monotonic()
        with tempfile.TemporaryDirectory() as folder:
            row = import_module(part).soak(asked.seconds, rng, Path(folder))
        row["seconds"] = round(time.monotonic() - started)
        found[part] = row
        n_wrong += row.get("wrong", 0)
        print(part, json.dumps(row), flush=True)
        if asked.out:
            asked.out.write_text(json.dumps(found, indent=2) + "\n")
    return min(n_wrong, 1)


if __name__ == "__main__":
    sys.exit(main())
