"""Ctrl-C that lets what is under way end."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["let_finish", "on_sigint"]


@contextmanager
def on_sigint(action: Callable[[], None]) -> Iterator[None]:
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

    with on_sigint(interrupt):
        yield
    if n_interrupts:
        raise KeyboardInterrupt
