"""The queue of calls, without a server."""

import asyncio
from contextlib import asynccontextmanager

import pytest

from facsynth.chat.calls import CallQueue
from facsynth.chat.model import ChatReply

OK = ChatReply("ok", 1, 1)


def run(n_calls, call, *, concurrency=4):
    """Make the calls; numbers and outcomes in the order of arrival."""
    arrived = []
    queue = CallQueue(n_calls, concurrency=concurrency, grace_s=5.0)

    @asynccontextmanager
    async def session():
        yield lambda index: call(index, queue)

    try:
        queue.run(session, arrived.extend)
    finally:
        assert len({index for index, _ in arrived}) == len(arrived)
    return arrived


def test_never_more_calls_at_once_than_allowed():
    under_way, most = 0, 0

    async def call(index, queue):
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.001)
        under_way -= 1
        return OK

    assert sorted(index for index, _ in run(30, call)) == list(range(30))
    assert most == 4


def test_error_of_a_call_stops_the_pool_and_passes_on_what_is_under_way():
    arrived = []

    async def call(index, queue):
        await asyncio.sleep(0.02)
        if index == 0:
            raise ZeroDivisionError
        arrived.append(index)
        return OK

    with pytest.raises(ZeroDivisionError):
        run(50, call)
    assert arrived == [1, 2, 3]


def test_call_that_waits_for_another_attempt_ends_with_the_pool():
    waited = []

    async def call(index, queue):
        if index == 1:
            await asyncio.sleep(0.01)
            raise ZeroDivisionError
        waited.append(index)
        await queue.sleep(60.0)
        return OK

    with pytest.raises(ZeroDivisionError):
        run(2, call)
    assert waited == [0]


def test_session_that_cannot_open_is_an_error():
    @asynccontextmanager
    async def session():
        raise ZeroDivisionError
        yield

    with pytest.raises(ZeroDivisionError):
        CallQueue(1, concurrency=1, grace_s=1.0).run(session, print)
