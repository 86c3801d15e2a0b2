"""A table that several machines extract: each a shard of its parts, joined afterwards.

A shard has whole parts of the table that one run would write, under the same numbers, so joining
copies files and the result is the same byte by byte. Every machine reads all of the data, which
takes little against the model, and so knows that all shards are of the same samples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from facsynth.data.read import Source
from facsynth.data.stored import read_json
from facsynth.errors import DataError
from facsynth.models.lm import LanguageModel
from facsynth.progress import SILENT, Progress
from facsynth.remote import local_copy
from facsynth.sae.module import SparseAutoencoder
from facsynth.settings import read_settings
from facsynth.show import TextTable, as_html
from facsynth.table.extract import SHARD_FILE, extract_parts, kept_samples
from facsynth.table.manifest import TableSource
from facsynth.table.settings import ExtractSettings, ShardSettings
from facsynth.table.table import FeatureTable, open_table
from facsynth.table.write import copy_part, finish_table, has_part, read_counts, start_table

__all__ = ["ExtractedShard", "extract_shard", "merge_shards"]


@dataclass(frozen=True)
class ExtractedShard:
    """A shard that was extracted."""

    folders: tuple[Path, ...]
    """One for each SAE."""

    sharding: ShardSettings
    n_parts: int
    """Parts of the table that the shard has."""

    n_samples: int

    def row(self) -> dict[str, Any]:
        """The fields."""
        return {
            "folders": list(map(str, self.folders)),
            "shard": self.sharding.shard,
            "num_shards": self.sharding.num_shards,
            "n_parts": self.n_parts,
            "n_samples": self.n_samples,
        }

    def tables(self) -> list[TextTable]:
        """The sizes of the shard."""
        rows = [("parts of the table", self.n_parts), ("samples", self.n_samples)]
        title = f"Shard {self.sharding.shard} of {self.sharding.num_shards} (from 0)"
        note = (
            f"In {', '.join(map(str, self.folders))}. Next: `fac merge SHARD... -o TABLE`, when "
            "all shards are there."
        )
        return [TextTable(title, ("what", "count"), rows, note)]

    _repr_html_ = as_html


def extract_shard(
    samples: Source,
    lm: LanguageModel,
    saes: Mapping[str, SparseAutoencoder],
    folder: str | Path,
    sharding: ShardSettings,
    *,
    settings: ExtractSettings | None = None,
    progress: Progress = SILENT,
) -> ExtractedShard:
    """Extract one shard of the tables of samples, resuming an earlier run.

    Args:
        samples: All the data, the same for every shard.
        lm: The language model.
        saes: The SAEs by the names that the tables give them.
        folder: The shard of a single SAE is written to `folder/shard-I-of-N`, those of several to
            folders in it that have their names.
        sharding: Which shard.
        settings: See `ExtractSettings`; the same for every shard.
        progress: Shows a bar.

    Raises:
        DataError: As in `extract_table`.
        MismatchError: An SAE does not fit the model.
    """
    inside = Path(folder) / f"shard-{sharding.shard:05d}-of-{sharding.num_shards:05d}"
    several = len(saes) > 1
    named = {inside / name if several else inside: (sae, name) for name, sae in saes.items()}
    kept = kept_samples(samples)
    extract_parts(kept, lm, named, settings or ExtractSettings(), progress, sharding=sharding)
    first = next(iter(named))
    parts = _parts_of(first, _read_shard(first))
    n_samples = sum(read_counts(first, index).n_samples for index in parts)
    return ExtractedShard(tuple(named), sharding, len(parts), n_samples)


def merge_shards(shards: Sequence[str | Path], folder: str | Path) -> FeatureTable:
    """Join the shards of a table, given in any order, to the table that one run would write.

    Args:
        shards: Folders of all shards, made by `extract_shard` with the same data and settings.
        folder: Folder of the table; a merge that was stopped is resumed.

    Raises:
        DataError: A shard is missing, given twice, unfinished, broken or of another table, or the
            folder holds something else.
    """
    if not shards:
        raise DataError("no shard to merge; name the folders of all shards")
    found = [_read_shard(local_copy(one)) for one in shards]
    first = found[0]
    for one in found[1:]:
        _check_same(first, one)
    by_number: dict[int, _Shard] = {}
    for one in found:
        if other := by_number.get(one.number):
            raise DataError(f"{other.folder} and {one.folder} are both shard {one.number}")
        by_number[one.number] = one
    n_shards = first.sharding.num_shards
    if missing := [str(i) for i in range(n_shards) if i not in by_number]:
        raise DataError(
            f"shards {', '.join(missing)} of {n_shards} (from 0) are missing; run `fac extract "
            f"--shard I --num-shards {n_shards}` for each of them"
        )
    output, wanted = Path(folder), str(first.plan["samples_hash"])
    start_table(output, first.source, wanted, part_samples=int(first.plan["part_samples"]))
    for one in by_number.values():
        for index in _parts_of(one.folder, one):
            if not has_part(output, index):
                copy_part(index, read_counts(one.folder, index), one.folder, output)
    if not (output / "manifest.json").is_file():
        finish_table(output, first.source, wanted, n_parts=first.n_parts, read=first.read)
    return open_table(output)


@dataclass(frozen=True)
class _Shard:
    """What a finished shard says about itself."""

    folder: Path
    plan: Mapping[str, Any]
    source: TableSource
    sharding: ShardSettings
    n_parts: int
    """Parts of the whole table."""

    read: Mapping[str, Any] | None

    @property
    def number(self) -> int:
        assert self.sharding.shard is not None  # _read_shard has seen to it
        return self.sharding.shard


def _read_shard(folder: Path) -> _Shard:
    if not (folder / SHARD_FILE).is_file():
        is_begun = (folder / "plan.json").is_file()
        what = "an unfinished shard; run its `fac extract` again" if is_begun else "no shard"
        raise DataError(f"{folder} is {what} ({SHARD_FILE} is missing)")
    plan = read_json(folder / "plan.json", what="the plan of a shard")
    facts = read_json(folder / SHARD_FILE, what="a shard's facts")
    try:
        named = {name: facts[name] for name in ("shard", "num_shards")}
        about = {name: value for name, value in plan.items() if name not in _NOT_SOURCE}
        source = read_settings(TableSource, about, f"{folder / 'plan.json'} is not a plan")
        sharding = read_settings(ShardSettings, named, f"{folder / SHARD_FILE} is not of a shard")
        return _Shard(folder, plan, source, sharding, int(facts["n_parts"]), facts["read"])
    except (KeyError, TypeError, AttributeError) as error:
        raise DataError(f"{folder} is no shard: {error} is missing in its files") from error


_NOT_SOURCE = ("schema_version", "samples_hash", "part_samples")


def _parts_of(folder: Path, shard: _Shard) -> list[int]:
    parts = [i for i in range(shard.n_parts) if shard.sharding.has_part(i, shard.n_parts)]
    if lost := [i for i in parts if not has_part(folder, i)]:
        raise DataError(f"{folder} lacks part {lost[0]}; run its `fac extract` again")
    return parts


def _check_same(one: _Shard, other: _Shard) -> None:
    """Raise a DataError that names a shard of another table, and what differs."""
    names = [name for name in one.plan if one.plan[name] != other.plan.get(name)]
    if one.sharding.num_shards != other.sharding.num_shards:
        names.append("num_shards")
    if names or one.n_parts != other.n_parts:
        raise DataError(
            f"{other.folder} is a shard of another table than {one.folder}: they differ in "
            f"{', '.join(names or ['n_parts'])}"
        )
