"""Extraction on several devices of this machine: one process for each, with its own model.

A process takes the next part as soon as it is done with one. On a GPU a second process tokenises
beside it, because with small models the GPU would wait for that.
"""

import os
import pickle
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import Any

import torch

from facsynth.errors import DataError
from facsynth.models.lm import LanguageModel, pick_device
from facsynth.models.settings import ModelSettings
from facsynth.models.source import load_tokenizer
from facsynth.models.tokens import TokenizedSample
from facsynth.records import Sample
from facsynth.scale.worker import (
    Job,
    PartPlace,
    load_worker_model,
    read_elsewhere,
    take_up,
)
from facsynth.table.extract import ReadParts
from facsynth.table.reading import Meter
from facsynth.table.settings import ExtractSettings
from facsynth.table.work import Part, read_parts, tokenize_with

__all__ = ["Device", "find_devices", "read_on_devices"]

_GROUP_CORES = 4
"""Cores of a process without a GPU, where there are many."""


@dataclass(frozen=True)
class Device:
    """Where a process runs the model."""

    name: str
    """As torch calls it."""

    cores: tuple[int, ...] = ()
    """Cores that it keeps to; all by default."""

    tokenizes_beside: bool = False
    """Whether a second process tokenises for it."""


def find_devices(wanted: str) -> list[Device]:
    """The devices that `--devices` asks for.

    Args:
        wanted: `all`, names of torch devices with commas between, or a number of CPU processes.

    Raises:
        DataError: It is none of these.
        ModelError: A device cannot be used.
    """
    cores = sorted(os.sched_getaffinity(0))
    if wanted == "all" and torch.cuda.is_available():
        names = [f"cuda:{i}" for i in range(torch.cuda.device_count())]
        return [Device(name, tokenizes_beside=True) for name in names]
    if wanted == "all":
        return _core_groups(cores, min(len(cores), max(2, len(cores) // _GROUP_CORES)))
    if wanted.isdecimal():
        if not 1 <= int(wanted) <= len(cores):
            raise DataError(f"--devices {wanted}: there are {len(cores)} cores")
        return _core_groups(cores, int(wanted))
    names = [name.strip() for name in wanted.split(",")]
    if len(set(names)) < len(names) or not all(names):
        raise DataError(f"--devices {wanted}: name each device once, such as cuda:0,cuda:1")
    return [Device(name, tokenizes_beside=pick_device(name).type == "cuda") for name in names]


def _core_groups(cores: Sequence[int], n: int) -> list[Device]:
    return [
        Device("cpu", tuple(cores[i * len(cores) // n : (i + 1) * len(cores) // n]))
        for i in range(n)
    ]


def read_on_devices(
    devices: Sequence[Device], lm: LanguageModel, model: ModelSettings, settings: ExtractSettings
) -> ReadParts:
    """A reader with a process for each device, for `extract_where`.

    A process that is killed is a DataError.
    """

    def run(waiting: Sequence[PartPlace], job: Job, meter: Meter) -> None:
        _run(waiting, job, devices, meter)

    return read_elsewhere(lm, model, settings, run)


def _run(waiting: Sequence[PartPlace], job: Job, devices: Sequence[Device], meter: Meter) -> None:
    """Start the processes, show what they report, and raise what they raise."""
    context = get_context("spawn")
    packed = pickle.dumps(job)  # processes would share the SAE's memory, and so move it here
    n_taken, running, processes = context.Value("q", 0), dict[Connection, Device](), []
    for device in devices[: len(waiting)]:
        reader, writer = context.Pipe(duplex=False)
        given = (device, packed, tuple(waiting), n_taken, writer)
        processes.append(context.Process(target=_work, args=given))
        processes[-1].start()
        writer.close()
        running[reader] = device
    try:
        _listen(running, meter)
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _listen(running: dict[Connection, Device], meter: Meter) -> None:
    """Show progress until every process has ended."""
    killed = list[str]()
    while running:
        for reader in wait(list(running)):
            assert isinstance(reader, Connection)
            try:
                said = reader.recv()
            except EOFError:
                killed.append(running.pop(reader).name)
                continue
            if isinstance(said, BaseException):
                raise said
            if said is None:
                running.pop(reader)
            else:
                meter.add(*said)
    if killed:
        raise DataError(
            f"the process of {', '.join(killed)} was killed; finished parts are kept, run the same "
            "command again"
        )


class _Reporting(Meter):
    """Sends what is read to the driver."""

    def __init__(self, driver: Connection) -> None:
        self._driver = driver

    def add(self, n_samples: int, n_tokens: int) -> None:
        self._driver.send((n_samples, n_tokens))

    def skip(self, n_samples: int) -> None:
        self._driver.send((n_samples, 0))


def _work(
    device: Device, packed: bytes, waiting: Sequence[PartPlace], n_taken: Any, driver: Connection
) -> None:
    """What a process does: take parts, one ahead of the one that is read, until there are none."""
    if device.cores:
        os.sched_setaffinity(0, device.cores)
        torch.set_num_threads(len(device.cores))

    def taken() -> Iterator[PartPlace]:
        while True:
            with n_taken.get_lock():
                n_taken.value += 1
                place = n_taken.value - 1
            if place >= len(waiting):
                return
            yield waiting[place]

    try:
        job: Job = pickle.loads(packed)
        lm = load_worker_model(job, device=device.name)
        parts = (take_up(place, job) for place in taken())
        with ExitStack() as stack:
            beside = stack.enter_context(_tokenizing(job)) if device.tokenizes_beside else None
            read_parts(parts, lm, job.settings, _Reporting(driver), tokenized=beside)
        driver.send(None)
    except KeyboardInterrupt:
        pass  # the driver says what is saved
    except Exception as error:
        driver.send(error)


@contextmanager
def _tokenizing(job: Job) -> Iterator[Callable[[Part], list[TokenizedSample]]]:
    """A process that tokenises."""
    given = (job.model.model, job.settings)
    with ProcessPoolExecutor(1, get_context("spawn"), _Tokenizing.load, given) as pool:
        yield lambda part: pool.submit(_Tokenizing.tokenize, list(part.samples)).result()


class _Tokenizing:
    """What the tokenising process holds."""

    tokenizer: Any = None
    settings: ExtractSettings

    @classmethod
    def load(cls, model: str | None, settings: ExtractSettings) -> None:
        cls.tokenizer, cls.settings = load_tokenizer(model), settings

    @classmethod
    def tokenize(cls, samples: list[Sample]) -> list[TokenizedSample]:
        return tokenize_with(cls.tokenizer, samples, cls.settings)
