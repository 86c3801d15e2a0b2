"""Extraction on a Ray cluster: Ray Data hands the parts of a table to a pool of workers.

Through Ray go numbers of parts; see `worker` for how samples and results travel. A worker loads the
model once. One that is lost is made again, and its part is read by another.
"""

import os
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from facsynth.errors import DataError, FacsynthError
from facsynth.models.lm import LanguageModel
from facsynth.models.settings import ModelSettings
from facsynth.progress import SILENT
from facsynth.scale.settings import ScaleSettings
from facsynth.scale.worker import Job, PartPlace, load_worker_model, read_elsewhere, take_up
from facsynth.table.extract import ReadParts
from facsynth.table.reading import Meter
from facsynth.table.settings import ExtractSettings
from facsynth.table.work import read_parts

__all__ = ["connected", "read_on_ray"]

_REACHED_S = 5.0
"""Longest wait for the head node of a cluster."""


def read_on_ray(
    cluster: ScaleSettings, lm: LanguageModel, model: ModelSettings, settings: ExtractSettings
) -> ReadParts:
    """A reader with the workers of a Ray cluster, for `extract_where`.

    Without Ray or the cluster, reading is a DataError.
    """

    def run(waiting: Sequence[PartPlace], job: Job, meter: Meter) -> None:
        with connected(cluster) as workers:
            _run([asdict(place) for place in waiting], *workers, job, meter)

    return read_elsewhere(lm, model, settings, run)


class _Worker:
    """Reads parts on one machine; Ray makes it again when it is lost."""

    def __init__(self, job: Job) -> None:
        self._job, self._lm = job, load_worker_model(job)

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        place = PartPlace(int(row["index"]), row["path"], tuple(row["folders"]))
        part = take_up(place, self._job)
        with SILENT.task("", len(part.rows), "samples") as task:
            read_parts([part], self._lm, self._job.settings, Meter(task))
        return {"index": part.index, "n_samples": len(part.rows)}


def _run(waiting: list[dict[str, Any]], n_now: int, n_wanted: int, job: Job, meter: Meter) -> None:
    import ray
    from ray.exceptions import RayError

    n_gpus = int(ray.cluster_resources().get("GPU", 0))
    parts = ray.data.from_items(waiting, override_num_blocks=len(waiting))
    done = parts.map(
        _Worker,
        fn_constructor_kwargs={"job": job},
        compute=ray.data.ActorPoolStrategy(
            min_size=min(n_now, len(waiting)), max_size=min(n_wanted, len(waiting))
        ),
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
def connected(cluster: ScaleSettings) -> Iterator[tuple[int, int]]:
    """Join the cluster, or start one here.

    Yields:
        Workers that have room now, and workers that are wanted.

    Raises:
        DataError: Ray is not installed, or the cluster cannot be reached.
    """
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise DataError("--ray needs Ray; run `pip install 'facsynth[ray]'`") from error
    is_ours = not ray.is_initialized()
    if is_ours:
        _join(cluster)
    try:
        has = ray.cluster_resources()
        # Ray Data reads with CPUs of its own: workers on all of them would wait for ever.
        most = int(has.get("GPU", 0)) or max(1, int(has.get("CPU", 1)) - 1)
        wanted = cluster.ray_workers or most
        yield min(most, wanted), wanted
    finally:
        if is_ours:
            ray.shutdown()


def _join(cluster: ScaleSettings) -> None:
    import ray

    assert cluster.ray is not None
    how: dict[str, Any] = {"include_dashboard": False, "log_to_driver": False}
    if cluster.ray == "local":
        if cluster.ray_workers:
            n_cores = len(os.sched_getaffinity(0))
            how["num_cpus"] = max(n_cores, cluster.ray_workers + 1)
        ray.init(address="local", **how)
        return
    _check_reachable(cluster.ray)
    try:
        ray.init(address=cluster.ray, **how)
    except (ConnectionError, RuntimeError, ValueError, OSError) as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise DataError(f"no Ray cluster at {cluster.ray}: {lines[0][:200]}") from error


def _check_reachable(address: str) -> None:
    """Raise a DataError unless something listens there; Ray itself tries for minutes."""
    address = _last_address() if address == "auto" else address
    host, colon, port = address.rpartition("://")[2].rpartition(":")
    if not colon or not port.isdecimal():
        return  # what Ray judges itself
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_REACHED_S).close()
    except (OSError, OverflowError) as error:
        raise DataError(
            f"no Ray cluster at {address}: {error}; `ray status` on its head node says whether it "
            "is up"
        ) from error


def _last_address() -> str:
    """Where Ray looks for a cluster by itself: it may be gone."""
    file = Path(os.environ.get("RAY_TMPDIR", "/tmp"), "ray", "ray_current_cluster")
    return os.environ.get("RAY_ADDRESS") or (file.read_text().strip() if file.is_file() else "")
