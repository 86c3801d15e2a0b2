"""Preference pairs as two samples each, so that both answers can be measured.

A pair `p` becomes `p#chosen` and `p#rejected`, labelled `chosen` and `rejected`; whatever reads
labels then reads preferences as well.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from jaxtyping import Int64

from facsynth.errors import DataError
from facsynth.records import Sample

__all__ = ["CHOSEN", "REJECTED", "pair_numbers", "split_pairs"]

CHOSEN, REJECTED = "chosen", "rejected"


def split_pairs(samples: Iterable[Sample]) -> Iterator[Sample]:
    """Two samples for every preference pair: the chosen answer, then the rejected one.

    A label that the pair had is dropped, because each side takes its own as label.

    Raises:
        DataError: A sample is not a preference pair.
    """
    for sample in samples:
        if not sample.rejected:
            raise DataError(
                f"sample {sample.sample_id!r} is not a preference pair and has no second answer; "
                "leave --both-answers out or give rows with `chosen` and `rejected`"
            )
        for side, messages in ((CHOSEN, sample.messages), (REJECTED, sample.rejected)):
            yield Sample(f"{sample.sample_id}#{side}", messages=messages, label=side)


def pair_numbers(
    sample_ids: Sequence[str], labels: Sequence[str | None]
) -> Int64[np.ndarray, " n_samples"] | None:
    """Number of the pair that each sample belongs to, or None when these are not pairs.

    They are pairs when every id is `<pair>#<label>`, every label is `chosen` or `rejected`, and
    every pair has both.
    """
    numbers: dict[str, int] = {}
    found, sides = [], set()
    for sample_id, label in zip(sample_ids, labels, strict=True):
        pair, mark, side = sample_id.rpartition("#")
        if not mark or side != label or side not in (CHOSEN, REJECTED):
            return None
        found.append(numbers.setdefault(pair, len(numbers)))
        sides.add((pair, side))
    if len(sides) != 2 * len(numbers) or len(found) != len(sides):
        return None
    return np.array(found, dtype=np.int64)
