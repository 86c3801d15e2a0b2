"""How many calls are under way at once, and what happens to one that fails.

Nothing here makes requests: `Throttle` learns a concurrency from answers, and `Dispatcher`
makes calls within it, repeats them when that may help, and stops in good order.
"""

import asyncio
import heapq
import random
import time
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from typing import Any

from facsynth.chat.model import ChatFailure, Outcome
from facsynth.errors import ChatError

__all__ = ["Dispatcher", "Retry", "RetrySettings", "Throttle", "retry_after_s"]

_DECREASE = 0.75
_SUCCESSES_PER_STEP = 25
_OUTAGE = 20
"""Calls given up one after the other, without an answer between them, that end the run."""


class Throttle:
    """Concurrency that grows by addition and shrinks by multiplication (AIMD).

    The first rate-limit answer (HTTP 429) of a burst takes away a quarter; the others of that
    burst, from calls that had started before, say nothing new. Each 25 successes add one.
    It holds no lock and starts nothing: whoever makes the calls asks it.

    >>> throttle = Throttle(start=8, maximum=64)
    >>> throttle.limited(started_at=throttle.now())
    >>> throttle.limit
    6
    """

    def __init__(
        self,
        *,
        start: int = 16,
        maximum: int = 64,
        minimum: int = 1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Set the bounds.

        Args:
            start: Calls at once before anything is known.
            maximum: Most calls at once.
            minimum: Fewest calls at once.
            clock: Seconds since any fixed moment.

        Raises:
            ChatError: The three numbers are not in the order 1 <= minimum <= start <= maximum.
        """
        if not 1 <= minimum <= start <= maximum:
            raise ChatError(
                f"concurrency must satisfy 1 <= minimum <= start <= maximum, but is "
                f"{minimum}, {start}, {maximum}"
            )
        self._limit = start
        self._minimum = minimum
        self._maximum = maximum
        self._clock = clock
        self._successes = 0
        self._lowered_at = float("-inf")
        self._paused_until = float("-inf")

    @property
    def limit(self) -> int:
        """Calls that may be under way at once."""
        return self._limit

    def now(self) -> float:
        """Time on the clock of the throttle, in seconds."""
        return self._clock()

    def delay_s(self) -> float:
        """Seconds until the next call may start: 0, or what is left of a `Retry-After`."""
        return max(0.0, self._paused_until - self._clock())

    def succeeded(self) -> None:
        """Count a call that the server answered."""
        self._successes += 1
        if self._successes >= _SUCCESSES_PER_STEP:
            self._successes = 0
            self._limit = min(self._maximum, self._limit + 1)

    def limited(self, started_at: float, retry_after_s: float | None = None) -> None:
        """Count a call that the server turned away for its rate.

        Args:
            started_at: When that call had started, by `now`.
            retry_after_s: Seconds the server asked to wait; no call starts before.
        """
        self._successes = 0
        now = self._clock()
        if retry_after_s is not None:
            self._paused_until = max(self._paused_until, now + retry_after_s)
        if started_at >= self._lowered_at:
            self._limit = max(self._minimum, int(self._limit * _DECREASE))
            self._lowered_at = now


@dataclass(frozen=True, slots=True)
class RetrySettings:
    """When a call is repeated, and when it is given up."""

    max_attempts: int = 6
    """Attempts of a call that fail, those turned away for their rate not counted."""

    call_timeout_s: float = 600.0
    """Longest time of a call, all its attempts and the waits between them included."""

    backoff_s: float = 0.5
    """Wait after the first failure; each further one doubles it, up to half is random."""

    max_backoff_s: float = 30.0
    """Longest wait, unless the server asks for more."""

    grace_s: float = 20.0
    """After Ctrl-C or an error, longest time for the calls under way to end."""

    def __post_init__(self) -> None:
        if self.max_attempts < 1:
            raise ChatError(f"max_attempts is {self.max_attempts}; it must be at least 1")
        times = (self.call_timeout_s, self.backoff_s, self.max_backoff_s, self.grace_s)
        if not all(time_s >= 0 for time_s in times):
            raise ChatError(f"times must be 0 or more, but are {times}")


@dataclass(frozen=True, slots=True)
class Retry:
    """An attempt that failed in a way that another attempt may not."""

    reason: str
    """What happened, in one line."""

    after_s: float | None = None
    """Seconds the server asked to wait."""

    is_limited: bool = False
    """Whether the server turned the call away for its rate (HTTP 429)."""

    is_unreachable: bool = False
    """Whether there was no server to talk to."""


@dataclass(slots=True)
class _Call:
    index: int
    started_at: float = -1.0
    attempt_at: float = -1.0
    n_attempts: int = 0
    n_faults: int = 0


class Dispatcher:
    """Makes numbered calls within a throttle; each ends exactly once, or not at all when stopped.

    All methods belong to the thread of the event loop.
    """

    def __init__(
        self,
        n_calls: int,
        attempt: Callable[[int, float], Coroutine[Any, Any, Outcome | Retry]],
        put: Callable[[int, Outcome], None],
        *,
        throttle: Throttle,
        settings: RetrySettings,
        server: str,
    ) -> None:
        """Prepare calls 0 to n_calls - 1.

        Args:
            n_calls: Number of calls.
            attempt: Makes one attempt of a call, given the seconds that the call has left. An
                exception from it ends the run.
            put: Takes the number and the outcome of a call that ended.
            throttle: How many at once.
            settings: When to repeat, when to give up.
            server: Whom the calls go to, for messages.
        """
        self._attempt = attempt
        self._put = put
        self._throttle = throttle
        self._settings = settings
        self._server = server
        self._fresh = deque(_Call(index) for index in range(n_calls))
        self._waiting: list[tuple[float, int, _Call]] = []
        self._tasks: dict[asyncio.Task[Outcome | Retry], _Call] = {}
        self._wake = asyncio.Event()
        self._stopping = False
        self._error: BaseException | None = None
        self._n_answered = 0
        self._n_given_up_in_row = 0
        self._jitter = random.Random()  # moves times, never results

    async def run(self) -> None:
        """Make the calls until all have ended, or until stopped and none is under way.

        Raises:
            ChatError: The server cannot be reached, or has stopped to answer.
        """
        loop = asyncio.get_running_loop()
        try:
            while self._tasks or (not self._stopping and (self._fresh or self._waiting)):
                delay_s = self._start_ready()
                timer = None if delay_s is None else loop.call_later(delay_s, self._wake.set)
                await self._wake.wait()
                self._wake.clear()
                if timer is not None:
                    timer.cancel()
        finally:
            tasks = list(self._tasks)
            self.abort()
            await asyncio.gather(*tasks, return_exceptions=True)
        if self._error is not None:
            raise self._error

    def stop(self) -> None:
        """Start nothing more; what is under way may end within the grace time."""
        if not self._stopping:
            self._stopping = True
            self._wake.set()
            asyncio.get_running_loop().call_later(self._settings.grace_s, self.abort)

    def abort(self) -> None:
        """Start nothing more and cancel what is under way."""
        self._stopping = True
        self._wake.set()
        for task in self._tasks:
            task.cancel()

    def _start_ready(self) -> float | None:
        """Start what may start; seconds until more may, None when another event decides."""
        while not self._stopping and len(self._tasks) < self._throttle.limit:
            if pause_s := self._throttle.delay_s():
                return pause_s
            now = self._throttle.now()
            if self._waiting and self._waiting[0][0] <= now:
                call = heapq.heappop(self._waiting)[2]
            elif self._fresh:
                call = self._fresh.popleft()
                call.started_at = now
            else:
                return self._waiting[0][0] - now if self._waiting else None
            call.attempt_at = now
            left_s = call.started_at + self._settings.call_timeout_s - now
            task = asyncio.get_running_loop().create_task(self._attempt(call.index, left_s))
            self._tasks[task] = call
            task.add_done_callback(self._settle)
        return None

    def _settle(self, task: asyncio.Task[Outcome | Retry]) -> None:
        call = self._tasks.pop(task)
        self._wake.set()
        if task.cancelled():
            return
        if error := task.exception():
            self._fail(error)
        elif isinstance(result := task.result(), Retry):
            self._repeat(call, result)
        else:
            self._n_answered += 1
            self._n_given_up_in_row = 0
            self._throttle.succeeded()
            self._put(call.index, result)

    def _repeat(self, call: _Call, fault: Retry) -> None:
        now = self._throttle.now()
        call.n_attempts += 1
        call.n_faults += not fault.is_limited
        if fault.is_limited:
            self._throttle.limited(call.attempt_at, fault.after_s)
        longest_s = min(
            self._settings.max_backoff_s,
            self._settings.backoff_s * 2.0 ** min(call.n_attempts - 1, 30),
        )
        wait_s = self._jitter.uniform(longest_s / 2, longest_s)
        ready_at = now + (wait_s if fault.after_s is None else fault.after_s)
        is_late = ready_at >= call.started_at + self._settings.call_timeout_s
        if is_late or call.n_faults >= self._settings.max_attempts:
            self._give_up(call, fault, now)
        else:
            heapq.heappush(self._waiting, (ready_at, call.index, call))

    def _give_up(self, call: _Call, fault: Retry, now: float) -> None:
        self._n_given_up_in_row += 1
        tried = f"gave up after {call.n_attempts} attempts in {now - call.started_at:.1f} s"
        if fault.is_unreachable and not self._n_answered:
            self._fail(
                ChatError(
                    f"cannot reach {self._server}: {fault.reason}; {tried}; "
                    "start the server or check the address"
                )
            )
        elif self._n_given_up_in_row >= _OUTAGE:
            self._fail(
                ChatError(
                    f"{self._server} failed {_OUTAGE} calls in a row, the last one with: "
                    f"{fault.reason}; {tried}; look at the server, then start again to go on"
                )
            )
        self._put(call.index, ChatFailure(f"{fault.reason}; {tried}"))

    def _fail(self, error: BaseException) -> None:
        self._error = self._error or error
        self.stop()


def retry_after_s(header: str | None) -> float | None:
    """Seconds that a `Retry-After` header asks to wait; None without a readable one.

    >>> retry_after_s("2")
    2.0
    """
    if header is None:
        return None
    with suppress(ValueError):
        seconds = float(header)
        return seconds if 0 <= seconds < float("inf") else None
    with suppress(ValueError, TypeError):
        return max(0.0, parsedate_to_datetime(header).timestamp() - time.time())
    return None
