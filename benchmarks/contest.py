"""Contenders that take turns: each is a process that loads once and runs on request."""

import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from contenders.worker import Job
from environments import CannotInstall, Environment

__all__ = ["Contender", "Runs", "Started", "started", "take_turns"]

_REPLY_LIMIT_S = 180
"""Time limit for loading, and for one pass over the texts; a slower contender is stopped."""


@dataclass(frozen=True)
class Contender:
    """One way of going from texts to activations."""

    name: str

    script: str
    """Module in `contenders`."""

    n_texts: dict[str, int]
    """Number of texts per run, the first of each mix; slow contenders process fewer."""

    environment: Environment | None = None
    """None means facsynth's environment."""

    dtype: str = ""
    """Dtype of the model; empty means that of the job."""

    is_reference: bool = False
    """Run once, for its results only."""


@dataclass
class Runs:
    """Measurements of one contender on one mix."""

    contender: Contender
    mix: str
    n_texts: int

    result: Path
    """File with the activations of the warm-up run, written by `contenders.worker`."""

    warm_up: dict[str, Any] = field(default_factory=dict)
    measured: list[dict[str, Any]] = field(default_factory=list)


class Failed(Exception):  # noqa: N818
    """Says in one line why a contender cannot run."""


@dataclass
class _Process:
    """A contender that has loaded and waits for requests."""

    contender: Contender
    job: Job
    versions: dict[str, str] = field(init=False)
    loaded_bytes: int = field(init=False)

    def __post_init__(self) -> None:
        python = sys.executable
        if self.contender.environment is not None:
            python = str(self.contender.environment.python())
        job = self.job
        if self.contender.dtype:
            job = replace(job, dtype=self.contender.dtype)
        self._log = tempfile.TemporaryFile("w+")  # noqa: SIM115
        self._process = subprocess.Popen(
            [python, "-m", f"contenders.{self.contender.script}", json.dumps(asdict(job))],
            cwd=Path(__file__).resolve().parent,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            env=self._variables(),
        )
        ready = self._reply()
        self.versions, self.loaded_bytes = ready["versions"], ready["loaded_bytes"]

    def run(self, mix: str, n_texts: int, *, save: str = "") -> dict[str, Any]:
        """Process the first texts of a mix."""
        assert self._process.stdin is not None
        order = {"mix": mix, "n_texts": n_texts, "save": save}
        try:
            self._process.stdin.write(json.dumps(order) + "\n")
            self._process.stdin.flush()
        except BrokenPipeError as error:
            raise Failed(self._last_words()) from error
        return self._reply()

    def close(self) -> None:
        """Let the process exit."""
        assert self._process.stdin is not None
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._process.wait()

    def _variables(self) -> dict[str, str]:
        threads = str(self.job.threads)
        offline = {"HF_HUB_OFFLINE": "1", "WANDB_MODE": "disabled"}
        return {**os.environ, **offline, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}

    def _reply(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        limit = threading.Timer(_REPLY_LIMIT_S, self._process.kill)
        start = time.monotonic()
        limit.start()
        line = self._process.stdout.readline()
        limit.cancel()
        if line:
            return dict(json.loads(line))
        if time.monotonic() - start >= _REPLY_LIMIT_S:
            raise Failed(f"stopped because it took more than {_REPLY_LIMIT_S} s")
        raise Failed(self._last_words())

    def _last_words(self) -> str:
        self._process.wait()
        self._log.seek(0)
        lines = self._log.read().strip().splitlines() or ["it exited without a message"]
        return lines[-1][:200]


@dataclass
class Started:
    """The contenders that run, and the reasons why the others do not."""

    processes: dict[str, _Process] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)


@contextmanager
def started(contenders: Sequence[Contender], job: Job) -> Iterator[Started]:
    """Load the contenders one after the other; they exit when the context ends."""
    found = Started()
    try:
        for contender in contenders:
            _note(f"starting {contender.name}")
            try:
                found.processes[contender.name] = _Process(contender, job)
            except (Failed, CannotInstall) as error:
                found.reasons[contender.name] = str(error)
        yield found
    finally:
        for process in found.processes.values():
            process.close()


def take_turns(found: Started, runs: Sequence[Runs], n_runs: int, *, limit_s: float) -> None:
    """One warm-up each, whose result is saved, then `n_runs` rounds in which each runs once.

    Args:
        found: The contenders.
        runs: What each contender runs, in the order of a round.
        n_runs: Measured rounds.
        limit_s: Seconds for all rounds. A round starts only if one as long as the last would
            finish in time; the first round always runs.
    """
    start = time.monotonic()
    round_s = 0.0
    for turn in range(n_runs + 1):
        began = time.monotonic()
        if turn > 1 and began - start + round_s > limit_s:
            _note(f"stopped after {turn - 1} of {n_runs} rounds: reached the {limit_s:.0f} s limit")
            return
        for one in runs:
            if one.contender.name in found.reasons or (turn and one.contender.is_reference):
                continue
            _note(f"round {turn} of {n_runs}: {one.contender.name}, {one.mix} mix")
            _take_turn(found, one, is_warm_up=not turn)
        round_s = time.monotonic() - began


def _take_turn(found: Started, one: Runs, *, is_warm_up: bool) -> None:
    name = one.contender.name
    save = str(one.result) if is_warm_up and one.n_texts else ""
    try:
        seen = found.processes[name].run(one.mix, one.n_texts, save=save)
    except Failed as error:
        found.reasons[name] = str(error)
        return
    if is_warm_up:
        one.warm_up = seen
    else:
        one.measured.append(seen)


def _note(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
