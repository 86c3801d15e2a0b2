"""Steering control rate: how answers change between multiplier +1 and -1.

The rate is that of the paper (arXiv 2602.10388): the share of questions answered robustly, which
is with the matching answer in both orders of the options, at multiplier +1 minus that at -1.

A small model may answer one letter whatever stands behind it. It then answers no question robustly
and cannot be steered to; `consistent` says so. `balanced` is what it would answer without that
preference: the log-odds of the matching answer, averaged over both orders, are above zero.
"""

from typing import Any

import numpy as np
from jaxtyping import Bool, Float64

from facsynth.tasks.metrics import bootstrap_share

__all__ = ["LogProbs", "accuracies", "control_rate", "rate_row"]

LogProbs = Float64[np.ndarray, "n_rows 2"]
"""Of the matching and the other letter; rows in the given order, then in the exchanged one."""


def control_rate(up: LogProbs, down: LogProbs) -> Float64[np.ndarray, " n_items"]:
    """What each item adds to the steering control rate: robustly right at +1 minus at -1.

    Args:
        up: Answers at +1.
        down: Answers at -1.

    Returns:
        -1, 0 or 1 per item; their mean is the rate.
    """
    robust = [_robust(log_probs).astype(np.float64) for log_probs in (up, down)]
    found: Float64[np.ndarray, " n_items"] = robust[0] - robust[1]
    return found


def accuracies(log_probs: LogProbs) -> dict[str, float]:
    """How items are answered.

    Args:
        log_probs: Answers in the given order, and behind them in the exchanged one.

    Returns:
        Shares of items with the matching answer: `plain` in the given order, `robust` in both,
        `balanced` by the mean log-odds of both orders; `consistent`, with the same answer in both
        orders, matching or not; `mean_chance` of the matching letter against the other, and
        `letter_mass`, the probability of both letters together.
    """
    chance = 1 / (1 + np.exp(log_probs[:, 1] - log_probs[:, 0]))
    neither = _robust(log_probs[:, ::-1])
    return {
        "plain": float(_plain(log_probs).mean()),
        "robust": float(_robust(log_probs).mean()),
        "balanced": float(_balanced(log_probs).mean()),
        "consistent": float((_robust(log_probs) | neither).mean()),
        "mean_chance": float(chance.mean()),
        "letter_mass": float(np.exp(log_probs).sum(axis=1).mean()),
    }


def rate_row(up: LogProbs, down: LogProbs) -> dict[str, Any]:
    """Control rate with an interval over questions, and its plain and balanced variants."""
    rate = bootstrap_share(control_rate(up, down), rng=np.random.default_rng(0))
    return {
        "scr": rate.value,
        "low": rate.low,
        "high": rate.high,
        "plain_scr": float(_plain(up).mean() - _plain(down).mean()),
        "balanced_scr": float(_balanced(up).mean() - _balanced(down).mean()),
    }


def _plain(log_probs: LogProbs) -> Bool[np.ndarray, " n_items"]:
    """Right in the given order of the options."""
    found: Bool[np.ndarray, " n_items"] = (log_probs[:, 0] > log_probs[:, 1])[: len(log_probs) // 2]
    return found


def _robust(log_probs: LogProbs) -> Bool[np.ndarray, " n_items"]:
    """Right in both orders of the options."""
    right = log_probs[:, 0] > log_probs[:, 1]
    both: Bool[np.ndarray, " n_items"] = _plain(log_probs) & right[len(right) // 2 :]
    return both


def _balanced(log_probs: LogProbs) -> Bool[np.ndarray, " n_items"]:
    """Right by the mean log-odds of both orders, in which a preference for a letter cancels."""
    odds = log_probs[:, 0] - log_probs[:, 1]
    found: Bool[np.ndarray, " n_items"] = odds[: len(odds) // 2] + odds[len(odds) // 2 :] > 0
    return found
