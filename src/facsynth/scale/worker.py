"""What processes beside the driver need to read parts of tables: the samples, and the job.

The driver writes the samples of every part that is to be read to disk and passes the place on;
whoever reads them writes the part into the table. Parts are written under temporary names and then
renamed, so a part that was lost with its worker is read again and each sample is in the table once.
All machines see the folder of the table under the same path.
"""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import cast

from facsynth.folders import atomic_path
from facsynth.models.lm import LanguageModel, load_language_model
from facsynth.models.settings import ModelSettings, Precision
from facsynth.records import Sample, sample_from_row
from facsynth.table.extract import ReadParts
from facsynth.table.reading import Meter
from facsynth.table.settings import ExtractSettings
from facsynth.table.work import Goal, Part

__all__ = ["Job", "PartPlace", "load_worker_model", "read_elsewhere", "take_up"]

_WAITING = ".parts"
"""Folder with the samples of parts that are to be read; deleted when all are."""


@dataclass(frozen=True)
class PartPlace:
    """A part that waits to be read."""

    index: int
    path: str
    """Its samples."""

    folders: tuple[str, ...]
    """The tables that lack it."""


@dataclass(frozen=True)
class Job:
    """What a worker needs to know beside the parts."""

    model: ModelSettings
    settings: ExtractSettings
    goals: Sequence[Goal]
    """The tables that a part may lack, with their SAEs."""


def read_elsewhere(
    lm: LanguageModel,
    model: ModelSettings,
    settings: ExtractSettings,
    run: Callable[[Sequence[PartPlace], Job, Meter], None],
) -> ReadParts:
    """A reader that leaves the parts of tables to other processes.

    Args:
        lm: The model, which says what the tables depend on; it may be without weights.
        model: How workers load the model; each machine must be able to.
        settings: See `ExtractSettings`.
        run: Has the parts read by workers, and returns when all are on disk.
    """
    how = replace(model, dtype=cast(Precision, lm.dtype))

    def read(parts: Sequence[Part], meter: Meter) -> None:
        todo = [part for part in parts if part.goals]
        for part in parts:
            if not part.goals:
                meter.skip(len(part.rows))
        if todo:
            run([_put_down(part) for part in todo], Job(how, settings, todo[0].goals), meter)
            for goal in todo[0].goals:
                shutil.rmtree(goal.folder / _WAITING, ignore_errors=True)

    return read


def load_worker_model(job: Job, *, device: str | None = None) -> LanguageModel:
    """The model of a worker."""
    how = job.model
    return load_language_model(
        how.model,
        device=device or how.device,
        dtype=how.dtype,
        trust_remote_code=how.trust_remote_code,
    )


def take_up(place: PartPlace, job: Job) -> Part:
    """The part that was put down at a place."""
    lines = Path(place.path).read_text(encoding="utf-8").split("\n")
    samples: list[Sample] = [sample_from_row(json.loads(line)) for line in lines if line]
    goals = [goal for goal in job.goals if str(goal.folder) in place.folders]
    return Part(place.index, samples, range(len(samples)), goals)


def _put_down(part: Part) -> PartPlace:
    """Write the samples of a part where workers find them."""
    path = part.goals[0].folder.absolute() / _WAITING / f"part-{part.index:05d}.jsonl"
    with atomic_path(path) as temporary:
        lines = (json.dumps(asdict(sample)) + "\n" for sample in part.samples)
        temporary.write_text("".join(lines), encoding="utf-8")
    return PartPlace(part.index, str(path), tuple(str(goal.folder) for goal in part.goals))
