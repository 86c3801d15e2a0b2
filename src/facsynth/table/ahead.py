"""Work that is done in another thread, one item ahead of the one that is used."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

__all__ = ["one_ahead"]

A = TypeVar("A")
B = TypeVar("B")


def one_ahead(function: Callable[[A], B], items: Iterable[A]) -> Iterator[B]:
    """`map` that computes the next result in another thread while this one is used."""
    with ThreadPoolExecutor(1, "ahead") as pool:
        ahead: Future[B] | None = None
        for item in items:
            made, ahead = ahead, pool.submit(function, item)
            if made is not None:
                yield made.result()
        if ahead is not None:
            yield ahead.result()
