"""Steering control rate: how answers change between multiplier +1 and -1.

The rate is that of the paper (arXiv 2602.10388): the share of questions answered robustly, which
is with the matching answer in both orders of the options, at multiplier +1 minus that at -1.

A small model may always answer with the same letter. It then answers no question robustly and
cannot be steered; `consistent` shows that. `balanced` is what it would answer without that
preference: the log-odds of the matching answer, averaged over both orders, are above zero.
"""

from typing import Any

import numpy as np
from jaxtyping import Float64

from facsynth.tasks.metrics import bootstrap_share
from facsynth.tasks.results import estimate_row

__all__ = ["LogProbs", "accuracies", "control_rate", "rate_row"]

LogProbs = Float64[np.ndarray, "n_rows 2"]
"""Of the matching and the other letter; rows in the given order, then in the exchanged one."""


def control_rate(up: LogProbs, down: LogProbs) -> Float64[np.ndarray, " n_items"]:
    """What each item adds to the control rate: robustly right at +1 minus at -1, so -1, 0 or 1."""
    found: Float64[np.ndarray, " n_items"]
    found = np.subtract((_odds(up) > 0).all(axis=0), (_odds(down) > 0).all(axis=0), dtype=float)
    return found


def accuracies(log_probs: LogProbs) -> dict[str, float]:
    """How items are answered.

    Returns:
        Shares of items with the matching answer: `plain` in the given order, `robust` in both,
        `balanced` by the mean log-odds of both orders; `consistent`, with the same answer in both
        orders, matching or not; `mean_chance` of the matching letter against the other, and
        `letter_mass`, the probability of both letters together.
    """
    odds = _odds(log_probs)
    robust = (odds > 0).all(axis=0)
    return {
        "plain": float((odds[0] > 0).mean()),
        "robust": float(robust.mean()),
        "balanced": float((odds.sum(axis=0) > 0).mean()),
        "consistent": float((robust | (odds < 0).all(axis=0)).mean()),
        "mean_chance": float((1 / (1 + np.exp(-odds))).mean()),
        "letter_mass": float(np.exp(log_probs).sum(axis=1).mean()),
    }


def rate_row(up: LogProbs, down: LogProbs) -> dict[str, Any]:
    """Control rate with an interval over questions, and its plain and balanced variants."""
    rate = bootstrap_share(control_rate(up, down), rng=np.random.default_rng(0))
    ends = accuracies(up), accuracies(down)
    return {
        **estimate_row("scr", rate),
        "plain_scr": ends[0]["plain"] - ends[1]["plain"],
        "balanced_scr": ends[0]["balanced"] - ends[1]["balanced"],
    }


def _odds(log_probs: LogProbs) -> Float64[np.ndarray, "2 n_items"]:
    """Log-odds of the matching answer, by order of the options and item."""
    found: Float64[np.ndarray, "2 n_items"] = (log_probs[:, 0] - log_probs[:, 1]).reshape(2, -1)
    return found
