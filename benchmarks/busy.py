"""Extraction on a busy machine: one run alone, then two at once, each with all threads."""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from statistics import median

from contenders.worker import Job, read_texts
from contest import Contender, started

__all__ = ["measure_busy"]

_MIX = "short"


def measure_busy(contender: Contender, job: Job, n_runs: int) -> str:
    """Median tokens per second of a run alone and of each of two runs at once, as JSON.

    The two share the cores, so half of the rate alone is the best that each can reach. Far less
    means that waiting threads keep the cores busy.
    """
    names = ["first", "second"]
    n_texts = contender.n_texts[_MIX]
    n_tokens = sum(text.n_tokens for text in read_texts(job.texts[_MIX], n_texts))
    with started([replace(contender, name=name) for name in names], job) as found:
        if found.reasons:
            raise SystemExit(f"Error: {'; '.join(found.reasons.values())}")

        def rate(name: str) -> float:
            return n_tokens / float(found.processes[name].run(_MIX, n_texts)["wall_s"])

        def rates_together(chosen: Sequence[str]) -> list[float]:
            with ThreadPoolExecutor(len(chosen)) as threads:
                return list(threads.map(rate, chosen))

        rates_together(names)  # warm-up
        turns = [(rate(names[0]), rates_together(names)) for _ in range(n_runs)]
    alone = median(one for one, _ in turns)
    together = median(one for _, both in turns for one in both)
    row = {"alone": round(alone), "each_of_two": round(together), "share": together / alone}
    return json.dumps(row, indent=2)
