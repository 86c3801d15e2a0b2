"""What a Python user has in hand becomes samples, at the door of public functions."""

from facsynth.data.files import Source
from facsynth.data.read import read_samples
from facsynth.records import Sample

__all__ = ["Source", "as_samples"]


def as_samples(data: Source) -> list[Sample]:
    """Samples as they are, and anything else as `read_samples` reads it.

    Raises:
        DataError: It holds no samples, or something else.
    """
    if isinstance(data, list | tuple) and all(isinstance(row, Sample) for row in data):
        return list(data)
    return read_samples(data)
