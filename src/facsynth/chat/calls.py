"""Many asynchronous calls, a fixed number at once, for callers that are not asynchronous.

A thread runs the calls on an event loop of its own, so this also works inside notebooks. Outcomes
come back through one queue and are handed over in the caller's thread.
"""

import asyncio
import queue
import signal
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, contextmanager, suppress
from types import FrameType

from facsynth.chat.model import OnOutcomes, Outcome

__all__ = ["Call", "CallQueue", "Session", "Stopped", "let_finish"]

Call = Callable[[int], Awaitable[Outcome]]
"""Makes the call of a number."""

Session = Callable[[], AbstractAsyncContextManager[Call]]
"""Is open while calls are made, on their event loop, and yields what makes them."""


class Stopped(Exception):  # noqa: N818
    """Leaves a call that would wait for another attempt after the queue was stopped."""


class CallQueue:
    """Makes numbered calls; each ends exactly once, or not at all after a stop.

    An error in a call or in the caller stops the queue, and so does Ctrl-C: no further call
    starts, calls under way may end within the grace time and are handed over, then the error is
    raised. A second Ctrl-C cancels them.
    """

    def __init__(self, n_calls: int, *, concurrency: int, grace_s: float) -> None:
        """Prepare calls 0 to n_calls - 1.

        Args:
            n_calls: Number of calls.
            concurrency: Calls at once, at most.
            grace_s: Longest time for the calls under way to end after a stop.
        """
        self._todo = iter(range(n_calls))
        self._n_workers = min(n_calls, concurrency)
        self._grace_s = grace_s
        self._outbox: queue.SimpleQueue[tuple[int, Outcome] | None] = queue.SimpleQueue()
        self._is_over = False
        self._error: BaseException | None = None
        self._stopped = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop
        self._workers: list[asyncio.Task[None]] = []

    def run(self, session: Session, on_outcomes: OnOutcomes) -> None:
        """Make the calls and hand their outcomes over.

        Args:
            session: See `Session`.
            on_outcomes: Takes outcomes in the caller's thread, each once.
        """
        error: BaseException | None = None
        n_interrupts = 0

        def interrupt() -> None:
            nonlocal n_interrupts
            n_interrupts += 1
            self._stop(cancel=n_interrupts > 1)

        name = "facsynth-chat"
        thread = threading.Thread(target=self._serve, args=(session,), name=name, daemon=True)
        self._loop = asyncio.new_event_loop()  # before the thread, so it can be told to stop
        thread.start()
        with _on_sigint(interrupt):
            while True:
                try:
                    if not (arrived := self._take()):
                        break
                    on_outcomes(arrived)
                except BaseException as caught:
                    is_second = error is not None and isinstance(caught, KeyboardInterrupt)
                    self._stop(cancel=is_second)
                    error = error or caught
            thread.join()
        if failure := error or self._error:
            raise failure
        if n_interrupts:
            raise KeyboardInterrupt

    async def sleep(self, seconds: float) -> None:
        """Wait inside a call.

        Raises:
            Stopped: The queue was stopped before the wait was over.
        """
        if seconds > 0:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stopped.wait(), seconds)
        if self._stopped.is_set():
            raise Stopped

    def _take(self) -> list[tuple[int, Outcome]]:
        """Everything that has arrived, at least one outcome; nothing when the calls are over."""
        arrived: list[tuple[int, Outcome]] = []
        while not self._is_over:
            try:
                item = self._outbox.get(block=not arrived)
            except queue.Empty:
                break
            if item is None:
                self._is_over = True
            else:
                arrived.append(item)
        return arrived

    def _stop(self, *, cancel: bool = False) -> None:
        """Stop the queue, from any thread."""
        with suppress(RuntimeError):  # the loop is closed: nothing is under way
            self._loop.call_soon_threadsafe(self._stop_here, cancel)

    def _stop_here(self, cancel: bool) -> None:
        if not self._stopped.is_set():
            self._stopped.set()
            self._loop.call_later(self._grace_s, self._stop_here, True)
        if cancel:
            for worker in self._workers:
                worker.cancel()

    def _serve(self, session: Session) -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                runner.run(self._work(session))
        except BaseException as error:  # raised again by `run`, in the thread of the caller
            self._error = self._error or error
        finally:
            self._outbox.put(None)

    async def _work(self, session: Session) -> None:
        async with session() as call:
            self._workers = [
                self._loop.create_task(self._make_calls(call)) for _ in range(self._n_workers)
            ]
            await asyncio.gather(*self._workers, return_exceptions=True)

    async def _make_calls(self, call: Call) -> None:
        for index in self._todo:
            if self._stopped.is_set():
                return
            try:
                self._outbox.put((index, await call(index)))
            except Stopped:
                return
            except Exception as error:
                self._error = self._error or error
                self._stop_here(False)


# Ctrl-C


@contextmanager
def _on_sigint(action: Callable[[], None]) -> Iterator[None]:
    """Turn Ctrl-C into an action, where it would raise KeyboardInterrupt in this thread."""
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield
        return

    def handle(number: int, frame: FrameType | None) -> None:
        action()

    signal.signal(signal.SIGINT, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@contextmanager
def let_finish() -> Iterator[None]:
    """Raise KeyboardInterrupt at the end of the block after one Ctrl-C, and at once after two."""
    n_interrupts = 0

    def interrupt() -> None:
        nonlocal n_interrupts
        n_interrupts += 1
        if n_interrupts > 1:
            raise KeyboardInterrupt

    with _on_sigint(interrupt):
        yield
    if n_interrupts:
        raise KeyboardInterrupt
