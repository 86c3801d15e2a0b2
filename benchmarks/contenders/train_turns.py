"""The protocol of a measured trainer; needs only the standard library."""

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

__all__ = ["take_turns"]


def take_turns(
    train: Callable[[int, int], None], save: Callable[[Path], None], versions: dict[str, str]
) -> None:
    """Report that the warm-up is over, then train and save once per line of stdin.

    Each line is a JSON object: `first` and `last`, the steps to take, and `folder`, where to save
    the SAE afterwards. Each reply on stdout has the wall and CPU seconds of the steps alone.

    Args:
        train: Takes the steps from `first` up to, not including, `last`.
        save: Saves the current SAE.
        versions: Sent once, in the first reply.
    """
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    with contextlib.redirect_stdout(sys.stderr):
        print(json.dumps(versions), file=answers, flush=True)
        for line in sys.stdin:
            turn = json.loads(line)
            wall, cpu = time.perf_counter(), time.process_time()
            train(turn["first"], turn["last"])
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            save(Path(turn["folder"]))
            print(json.dumps({"seconds": wall, "cpu_seconds": cpu}), file=answers, flush=True)
