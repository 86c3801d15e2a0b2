"""Extraction on a Ray cluster: Ray Data hands the parts of a table to a pool of workers.

The driver writes the samples of every part that is to be read to disk and passes its number on. A
worker loads the model once, reads the samples of a part, and writes the part into the table. So
little goes through Ray's memory, every finished part is on disk, and a part that was lost with its
worker is read again by another: parts are written under temporary names and then renamed, so each
sample is in the table once. All machines see the folder of the table under the same path.
"""

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, cast

from facsynth.data.read import Source
from facsynth.errors import DataError, FacsynthError
from facsynth.folders import atomic_path
from facsynth.models.lm import LanguageModel, load_language_model
from facsynth.models.settings import ModelSettings, Precision
from facsynth.progress import SILENT, Progress
from facsynth.records import Sample, sample_from_row
from facsynth.sae.module import SparseAutoencoder
from facsynth.scale.settings import RaySettings
from facsynth.table.extract import extract_parts, kept_samples
from facsynth.table.reading import Meter
from facsynth.table.settings import ExtractSettings
from facsynth.table.table import FeatureTable, open_table
from facsynth.table.work import Goal, Part, read_parts

__all__ = ["extract_on_ray"]

_WAITING = ".parts"
"""Folder with the samples of parts that are to be read; deleted when all are."""


def extract_on_ray(
    samples: Source,
    lm: LanguageModel,
    saes: Mapping[Path, tuple[SparseAutoencoder, str]],
    cluster: RaySettings,
    model: ModelSettings,
    *,
    settings: ExtractSettings | None = None,
    progress: Progress = SILENT,
) -> list[FeatureTable]:
    """Extract tables with the workers of a Ray cluster, resuming an earlier run.

    Args:
        samples: What `read_samples` takes, or samples.
        lm: The model, which says what the tables depend on; it reads nothing here.
        saes: The SAE of the table in each folder, and the SAE's name.
        cluster: The cluster.
        model: How workers load the model; each machine must be able to.
        settings: See `ExtractSettings`.
        progress: Shows a bar.

    Returns:
        The tables, equal to those of `extract_table` on machines of the same kind.

    Raises:
        DataError: Ray is not installed, or as in `extract_table`.
        MismatchError: An SAE does not fit the model.
    """
    settings = settings or ExtractSettings()
    how = replace(model, dtype=cast(Precision, lm.dtype))

    def read(parts: Sequence[Part], meter: Meter) -> None:
        todo = [part for part in parts if part.goals]
        if not todo:
            return
        for part in parts:
            if not part.goals:
                meter.skip(len(part.rows))
        waiting = [_put_down(part) for part in todo]
        with _connected(cluster) as n_workers:
            _run(waiting, n_workers, _Job(how, settings, todo[0].goals), meter)
        for goal in todo[0].goals:
            shutil.rmtree(goal.folder / _WAITING, ignore_errors=True)

    extract_parts(kept_samples(samples), lm, saes, settings, progress, read=read)
    return [open_table(folder) for folder in saes]


@dataclass(frozen=True)
class _Job:
    """What a worker needs to know beside the part."""

    model: ModelSettings
    settings: ExtractSettings
    goals: Sequence[Goal]
    """The tables that a part may lack, with their SAEs."""


class _Worker:
    """Reads parts on one machine; Ray makes it again when it is lost."""

    def __init__(self, job: _Job) -> None:
        self._job = job
        how = job.model
        self._lm = load_language_model(
            how.model,
            device=how.device,
            dtype=how.dtype,
            trust_remote_code=how.trust_remote_code,
        )

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        lines = Path(row["path"]).read_text(encoding="utf-8").splitlines()
        samples: list[Sample] = [sample_from_row(json.loads(line)) for line in lines]
        goals = [goal for goal in self._job.goals if str(goal.folder) in row["folders"]]
        part = Part(int(row["index"]), samples, range(len(samples)), goals)
        with SILENT.task("", len(samples), "samples") as task:
            read_parts([part], self._lm, self._job.settings, Meter(task))
        return {"index": int(row["index"]), "n_samples": len(samples)}


def _put_down(part: Part) -> dict[str, Any]:
    """Write the samples of a part where workers find them."""
    path = part.goals[0].folder.absolute() / _WAITING / f"part-{part.index:05d}.jsonl"
    with atomic_path(path) as temporary:
        lines = (json.dumps(asdict(sample)) + "\n" for sample in part.samples)
        temporary.write_text("".join(lines), encoding="utf-8")
    folders = [str(goal.folder) for goal in part.goals]
    return {"index": part.index, "path": str(path), "folders": folders}


def _run(waiting: list[dict[str, Any]], n_workers: int, job: _Job, meter: Meter) -> None:
    import ray
    from ray.exceptions import RayError

    n_gpus = int(ray.cluster_resources().get("GPU", 0))
    parts = ray.data.from_items(waiting, override_num_blocks=len(waiting))
    done = parts.map(
        _Worker,
        fn_constructor_kwargs={"job": job},
        compute=ray.data.ActorPoolStrategy(size=min(n_workers, len(waiting))),
        **({"num_gpus": 1} if n_gpus else {"num_cpus": 1}),
    )
    try:
        for row in done.iter_rows():
            meter.add(int(row["n_samples"]), 0)
    except RayError as error:
        raise _cause(error) from error


def _cause(error: BaseException) -> Exception:
    """The project's error that a worker raised, or one that names Ray's."""
    inner: BaseException | None = error
    while inner is not None:
        for one in (inner, getattr(inner, "cause", None)):
            if isinstance(one, FacsynthError):
                return one
        inner = inner.__cause__
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return DataError(f"Ray stopped: {lines[-1][:200]}; finished parts are kept, run it again")


@contextmanager
def _connected(cluster: RaySettings) -> Iterator[int]:
    """Join the cluster, or start one here; gives the number of workers."""
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise DataError("--ray needs Ray; run `pip install 'facsynth[ray]'`") from error
    is_ours = not ray.is_initialized()
    if is_ours:
        address = None if cluster.ray == "local" else cluster.ray
        ray.init(address=address, include_dashboard=False, log_to_driver=False)
    try:
        has = ray.cluster_resources()
        # Ray Data reads with CPUs of its own: workers on all of them would wait for ever.
        most = int(has.get("GPU", 0)) or max(1, int(has.get("CPU", 1)) - 1)
        yield cluster.ray_workers or most
    finally:
        if is_ours:
            ray.shutdown()
