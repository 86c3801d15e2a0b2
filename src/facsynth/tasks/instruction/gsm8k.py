r"""GSM8K (arXiv 2110.14168): is the number right?

Numbers are found as in lm-evaluation-harness: strictly after `####`, and flexibly as the last
number of the response. The question is asked alone, without examples.
"""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from facsynth.errors import DataError
from facsynth.tasks.instruction.benchmarks import Benchmark, BenchmarkItem
from facsynth.tasks.metrics import bootstrap_share
from facsynth.tasks.results import estimate_row

__all__ = ["check_gsm8k", "find_number", "score_gsm8k"]

_STRICT = re.compile(r"#### (\-?[0-9\.\,]+)")
_FLEXIBLE = re.compile(r"(-?[$0-9.,]{2,})|(-?[0-9]+)")
_IGNORED = re.compile(r",|\$|\.$")


def check_gsm8k(benchmark: Benchmark) -> None:
    """Raise a DataError unless every question has a number after `####` in its answer."""
    for item in benchmark.items:
        _goal(item)


def score_gsm8k(benchmark: Benchmark, responses: Sequence[str]) -> dict[str, Any]:
    """Share of right answers.

    Returns:
        `exact_match` (the last number, with an interval over questions), `strict_match` (after
        `####`), `n_questions`, `n_without_number`, `items` (1 for each right one).
    """
    goals = [_goal(item) for item in benchmark.items]
    last = [find_number(response) for response in responses]
    after = [find_number(response, strict=True) for response in responses]
    right = np.array([float(a == b) for a, b in zip(last, goals, strict=True)])
    strict = [a == b for a, b in zip(after, goals, strict=True)]
    return {
        **estimate_row("exact_match", bootstrap_share(right, rng=np.random.default_rng(0))),
        "strict_match": float(np.mean(strict)),
        "n_questions": len(goals),
        "n_without_number": last.count(None),
        "items": right.tolist(),
    }


def find_number(response: str, *, strict: bool = False) -> str | None:
    r"""The number that a response gives, or None.

    >>> find_number("She has 3 + 4 = 7 apples, for $1,200.")
    '1200'
    >>> find_number("It is 7.\n#### 8", strict=True)
    '8'
    """
    if strict:
        found = _STRICT.search(response)
        return None if found is None else _IGNORED.sub("", found[1])
    matches = _FLEXIBLE.findall(response)
    return _IGNORED.sub("", next(filter(None, matches[-1]))) if matches else None


def _goal(item: BenchmarkItem) -> str:
    number = find_number(str(item.fields["answer"]), strict=True)
    if number is None:
        raise DataError(
            f"the answer of question {item.item_id!r} has no number after `####`, as GSM8K's have"
        )
    return number
