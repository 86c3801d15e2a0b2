"""Checks a whole feature table and says what can be saved."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facsynth.errors import DataError
from facsynth.records import Sample
from facsynth.show import TextTable, as_html
from facsynth.table.manifest import Manifest, read_manifest
from facsynth.table.parts import read_part, read_part_hidden, read_part_samples
from facsynth.table.write import samples_hash

__all__ = ["TableCheck", "check_table"]


@dataclass(frozen=True)
class TableCheck:
    """What is whole and what is broken in a feature table."""

    folder: Path
    complaints: tuple[str, ...]
    """What is wrong, one sentence each."""

    n_parts: int
    n_whole: int
    """Parts without a complaint."""

    n_samples_whole: int
    """Their samples."""

    advice: str
    """What to do next."""

    @property
    def is_whole(self) -> bool:
        """Whether nothing is wrong."""
        return not self.complaints

    def row(self) -> dict[str, Any]:
        """The counts, the complaints and the advice."""
        return {
            "table": str(self.folder),
            "whole": self.is_whole,
            "n_parts": self.n_parts,
            "n_whole": self.n_whole,
            "n_samples_whole": self.n_samples_whole,
            "complaints": list(self.complaints),
            "advice": self.advice,
        }

    def tables(self) -> list[TextTable]:
        """The counts, and the complaints if there are any."""
        counts = [
            ("parts", self.n_parts),
            ("whole parts", self.n_whole),
            ("samples in whole parts", self.n_samples_whole),
        ]
        title = f"Feature table {self.folder}"
        if self.is_whole:
            return [TextTable(title, ("what", "count"), counts, self.advice)]
        rows = [(number, text) for number, text in enumerate(self.complaints, 1)]
        broken = TextTable("What is broken", ("", "complaint"), rows, self.advice)
        return [TextTable(title, ("what", "count"), counts), broken]

    _repr_html_ = as_html


def check_table(folder: str | Path) -> TableCheck:
    """Read every file of a table through the door that all stages use, and go on behind faults.

    Args:
        folder: A finished feature table.

    Raises:
        DataError: The manifest cannot be read, so that nothing is known of the parts.
    """
    folder = Path(folder)
    try:
        manifest = read_manifest(folder)
    except DataError as error:
        raise DataError(f"{error}. {_advice(folder, n_whole=None)}") from error
    whole, complaints = list[int](), list[str]()
    found = samples_hash(_samples_of(folder, manifest, whole, complaints))
    if not complaints and found != manifest.samples_hash:
        complaints.append("the samples are not those, or not in the order, that were extracted")
    return TableCheck(
        folder=folder,
        complaints=tuple(complaints),
        n_parts=manifest.n_parts,
        n_whole=len(whole),
        n_samples_whole=sum(manifest.parts[index].n_samples for index in whole),
        advice=_advice(folder, len(whole)) if complaints else "Nothing is broken.",
    )


def _samples_of(
    folder: Path, manifest: Manifest, whole: list[int], complaints: list[str]
) -> Iterator[Sample]:
    """The samples of the whole parts; notes which parts are whole and what the others lack."""
    seen = set[str]()
    for index, part in enumerate(manifest.parts):
        try:
            read_part(folder, index, part, manifest.source)
            samples = read_part_samples(folder, index, part)
            if manifest.source.hidden:
                read_part_hidden(folder, index, part)
        except DataError as error:
            complaints.append(str(error).partition("; `fac doctor")[0])
            continue
        n_again = sum(sample.sample_id in seen for sample in samples)
        seen.update(sample.sample_id for sample in samples)
        if n_again:
            complaints.append(f"part {index} repeats {n_again} sample ids of other parts")
        else:
            whole.append(index)
        yield from samples


def _advice(folder: Path, n_whole: int | None) -> str:
    if not (folder / "plan.json").is_file():
        return "Extract it again, into another folder: without its plan.json nothing is resumed."
    kept = "the whole parts" if n_whole is None else f"the {n_whole:,} whole parts"
    return (
        f"To save it, delete {folder / 'manifest.json'} and run the `fac extract` that made it: "
        f"{kept} are kept and the others are read again."
    )
