"""What is known about the meaning of features: files of `fac explain`, or of other tools."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from facsynth.data.read import read_rows
from facsynth.errors import DataError
from facsynth.records import Span

__all__ = ["CANNOT_TELL", "Described", "LeaveOut", "read_explanations"]

LeaveOut = Literal["none", "cannot-tell", "doubtful"]
"""Features that a stage leaves out: none; those that the explainer could not describe; or these
and those whose description failed its test."""

CANNOT_TELL = "the model cannot tell"
"""The failure of an explainer that saw nothing in common."""

_IDS = ("feature_id", "index", "feature")
_DESCRIPTIONS = ("explanation", "description")
_NAMES = ("name", "label")
_TEXTS = (*_DESCRIPTIONS, *_NAMES)


@dataclass(frozen=True)
class Described:
    """A feature as judges and generators see it."""

    feature_id: int
    name: str
    """The shortest name there is: terms where an explainer found no words, else its words."""

    spans: tuple[Span, ...] = ()
    """Where the feature is active, the strongest token marked."""

    description: str | None = None
    """What the feature stands for, in words; None where the file has only terms."""

    doubtful: bool = False
    """Whether the name or description was tested and scored too low."""

    cannot_tell: bool = False
    """Whether the explainer saw nothing that the spans have in common."""

    @property
    def text(self) -> str:
        """The best words for the feature: the description, or else the name."""
        return self.description or self.name

    def why_left_out(self, leave_out: LeaveOut) -> str | None:
        """Why a stage leaves the feature out; None where it does not.

        Names made of terms do not count: a prompt with them shows texts of the feature anyway.
        """
        if leave_out != "none" and self.cannot_tell:
            return "the explainer could not tell what the feature stands for"
        if leave_out == "doubtful" and self.doubtful and self.description:
            return "the description is doubtful: it failed its test"
        return None


def read_explanations(path: str | Path) -> dict[int, Described]:
    """Features with their names and descriptions, in the order of the file.

    Args:
        path: A `.jsonl` file or a `.tsv`/`.csv` file with a header, each also with `.gz`, or a
            folder of such files (a Neuronpedia export has `batch-0.jsonl.gz`, …). A row names its
            feature by `feature_id`, `index` or `feature`, and says what it stands for in
            `explanation` or `description`, or names it in `name` or `label`. Rows of `fac explain`
            also hold `spans`, `doubtful` and `cannot_tell`. The text "cannot tell" (in any
            case) says that the explainer could not.

    Returns:
        The first row with a text of each feature.

    Raises:
        DataError: A file cannot be read, a row lacks a field, or no row has a text.
    """
    path = Path(path)
    files = sorted(file for file in path.iterdir() if file.is_file()) if path.is_dir() else [path]
    found: dict[int, Described] = {}
    for file in files:
        for place, row in read_rows(file):
            if one := _described(row, place):
                found.setdefault(one.feature_id, one)
    if not found:
        raise DataError(f"no explanations in {path}; each row needs a feature and a text")
    return found


def _described(row: Mapping[str, Any], place: str) -> Described | None:
    """The feature of a row; None where no field holds a text."""
    feature = next((row[key] for key in _IDS if row.get(key) not in (None, "")), None)
    if feature is None or not any(key in row for key in _TEXTS):
        raise DataError(
            f"{place}: expected one of {', '.join(_IDS)} and one of {', '.join(_TEXTS)}, found "
            f"{', '.join(map(str, row)) or 'nothing'}"
        )
    try:
        number = int(str(feature))
    except ValueError as error:
        raise DataError(f"{place}: {feature!r} is not a feature number") from error
    description, name = _first(row, _DESCRIPTIONS), _first(row, _NAMES)
    cannot_tell = row.get("cannot_tell") is True
    if _says_cannot_tell(description):
        description, cannot_tell = "", True
    if not (description or name or cannot_tell):
        return None
    return Described(
        number,
        name or description or "(no name)",
        _spans(row.get("spans"), place),
        description or None,
        row.get("doubtful") is True,
        cannot_tell,
    )


def _first(row: Mapping[str, Any], keys: Iterable[str]) -> str:
    """The first text of these fields that is not empty, on one line."""
    return next((" ".join(str(row[key]).split()) for key in keys if row.get(key)), "")


def _says_cannot_tell(text: str) -> bool:
    return "".join(char for char in text.lower() if char.isalpha()) in ("cannottell", "canttell")


def _spans(values: Any, place: str) -> tuple[Span, ...]:
    try:
        return tuple(Span(**value) for value in values or ())
    except TypeError as error:
        raise DataError(f"{place}: `spans` are not those of `fac explain`: {error}") from error
