"""Which fields of a row hold text, where a sample does not hold it."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

__all__ = ["bears_text", "is_prose", "renders", "strings_in", "unread_fields"]

_METADATA = frozenset(
    (
        *("provenance", "source", "dataset", "model", "model_name", "generator", "url", "uuid"),
        *("prompt_id", "timestamp", "created", "language", "lang", "license", "version"),
        *("category", "subcategory", "tags", "task", "type"),
    )
)
"""Fields that hold no text of a sample, unless it is as long as a passage."""

_PASSAGE = 200
"""Characters of text that no name of a source or a category has."""

_MEDIA = frozenset(("image", "images", "video", "videos", "audio", "audios"))
"""Fields whose contents a sample lacks, though they are no text."""

_LEAST_WORDS = 3
"""A string of fewer words, such as a name or a date, does not count as text."""

_LONGEST_TEMPLATE = 220
"""Characters of a template around a sample; Alpaca's has 211."""


def bears_text(name: object, held: object) -> bool | None:
    """Whether a field holds text of a sample; None where it is empty."""
    texts = [text for text in strings_in(held) if text.strip()]
    if not texts and (held is None or isinstance(held, str | list | Mapping)):
        return None
    name = str(name).lower()
    if name in _METADATA:
        return name != "provenance" and max(map(len, texts), default=0) > _PASSAGE
    return name in _MEDIA or any(map(is_prose, texts))


def unread_fields(fields: Mapping[str, Any], read: Collection[str]) -> dict[str, bool]:
    """The fields of a row beside those that were read, and whether they hold text."""
    others = ((name, bears_text(name, held)) for name, held in fields.items() if name not in read)
    return {str(name): is_text for name, is_text in others if is_text is not None}


def renders(text: str, parts: Sequence[str]) -> bool:
    """Whether a text is the sample put into a template, and little else."""
    n_own = sum(map(len, parts))
    is_little = len(text) - n_own <= max(n_own, _LONGEST_TEMPLATE * (len(parts) > 1))
    return is_little and all(part.strip() in text for part in parts)


def strings_in(value: object, depth: int = 0) -> Iterator[str]:
    """Every string within a value."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping | list | tuple) and depth < 6:
        for inner in value.values() if isinstance(value, Mapping) else value:
            yield from strings_in(inner, depth + 1)


def is_prose(text: str) -> bool:
    """Whether a string could be text; scripts without spaces are counted by characters."""
    head = text[:400]
    words = sum(any(map(str.isalpha, word)) for word in head.split())
    return words >= _LEAST_WORDS or sum(ord(c) > 0x2E80 for c in head) >= 6
