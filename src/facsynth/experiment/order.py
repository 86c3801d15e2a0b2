"""The order of an arm's samples: every beginning of it has the anchor's lengths and all classes."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from jaxtyping import Int64

__all__ = ["in_turn", "order_by_length"]

T = TypeVar("T")

_N_LENGTHS = 5
"""Length classes: fifths of the anchor."""


def order_by_length(lengths: Int64[np.ndarray, " n"], target: Int64[np.ndarray, " m"]) -> list[int]:
    """Samples in an order whose beginnings have about the lengths of a target.

    The next sample is the first left of the length class that the samples so far lack most. A class
    that runs out is passed over, so all samples are in the order.

    Args:
        lengths: Length of each sample, in the order in which its method gives them.
        target: Lengths of the anchor.

    Returns:
        Positions of the samples.
    """
    edges = np.quantile(target, np.arange(1, _N_LENGTHS) / _N_LENGTHS, method="lower")
    own, theirs = (np.searchsorted(edges, one, side="left") for one in (lengths, target))
    shares = np.bincount(theirs, minlength=_N_LENGTHS) / target.size
    queues = [list(np.flatnonzero(own == k)) for k in range(_N_LENGTHS)]
    order, taken = list[int](), np.zeros(_N_LENGTHS)
    while len(order) < lengths.size:
        lack = shares * (len(order) + 1) - taken
        lack[[not queue for queue in queues]] = -np.inf
        best = int(np.argmax(lack))
        taken[best] += 1
        order.append(int(queues[best].pop(0)))
    return order


def in_turn(classes: Sequence[Sequence[T]]) -> list[T]:
    """One of each class after another, until the shortest class runs out.

    >>> in_turn([[0, 1, 2], [7, 8]])
    [0, 7, 1, 8]
    """
    return [one for each in zip(*classes, strict=False) for one in each]
