"""Evaluation data that stand in the training data."""

from collections.abc import Sequence
from dataclasses import dataclass

from facsynth.data.copies import KnownTexts
from facsynth.errors import DataError

__all__ = ["Overlap", "check_overlap", "find_overlap"]


@dataclass(frozen=True)
class Overlap:
    """Near-copies of training texts among evaluation texts."""

    n_texts: int
    ids: tuple[str, ...]
    """Evaluation samples that are near-copies."""

    threshold: float
    """Share of a text's word 4-grams from which it counts as a near-copy."""


def find_overlap(
    known: KnownTexts, texts: Sequence[tuple[str, str]], *, threshold: float = 0.8
) -> Overlap:
    """Which texts have at least `threshold` of their word 4-grams in known texts.

    Args:
        known: The training texts.
        texts: Id and text of every evaluation sample; an id may come more than once.
        threshold: In (0, 1].
    """
    found = [name for name, text in texts if known.overlap(text) >= threshold]
    return Overlap(len(texts), tuple(dict.fromkeys(found)), threshold)


def check_overlap(overlap: Overlap, *, allow: bool) -> None:
    """Raise a DataError when there are near-copies that nobody allowed."""
    if overlap.ids and not allow:
        examples = ", ".join(overlap.ids[:3]) + (", …" if len(overlap.ids) > 3 else "")
        raise DataError(
            f"{len(overlap.ids)} evaluation samples are near-copies of training samples "
            f"({examples}): at least {overlap.threshold:.0%} of their word 4-grams were trained "
            "on; remove them, or pass --allow-overlap to go on and have them reported"
        )
