import asyncio
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from facsynth.chat.model import ChatReply
from facsynth.chat.throttle import Dispatcher, Retry, RetrySettings, Throttle, retry_after_s
from facsynth.errors import ChatError


class Clock:
    def __init__(self):
        self.now = 100.0

    def __call__(self):
        return self.now


def dispatch(n_calls, attempt, *, throttle=None, settings=None):
    """Run calls and give back what was put, as (number, outcome) in the order of arrival."""
    arrived = []
    settings = settings or RetrySettings(backoff_s=0.001, max_backoff_s=0.001)

    async def run():
        dispatcher = Dispatcher(
            n_calls,
            attempt,
            lambda index, outcome: arrived.append((index, outcome)),
            throttle=throttle or Throttle(),
            settings=settings,
            server="the server",
        )
        await dispatcher.run()

    asyncio.run(run())
    return arrived


def test_first_limit_of_a_burst_takes_a_quarter():
    clock = Clock()
    throttle = Throttle(start=16, clock=clock)
    started = throttle.now()
    clock.now += 1
    for _ in range(5):
        throttle.limited(started)
        clock.now += 0.1
    assert throttle.limit == 12


def test_limit_of_a_later_call_takes_another_quarter():
    clock = Clock()
    throttle = Throttle(start=16, clock=clock)
    throttle.limited(clock.now)
    clock.now += 1
    throttle.limited(clock.now)
    assert throttle.limit == 9


def test_twenty_five_successes_add_one():
    throttle = Throttle(start=2, maximum=3)
    for _ in range(24):
        throttle.succeeded()
    assert throttle.limit == 2
    for _ in range(76):
        throttle.succeeded()
    assert throttle.limit == 3


def test_limit_never_falls_below_the_minimum():
    clock = Clock()
    throttle = Throttle(start=4, clock=clock)
    for _ in range(20):
        clock.now += 1
        throttle.limited(clock.now)
    assert throttle.limit == 1


def test_retry_after_pauses_every_start():
    clock = Clock()
    throttle = Throttle(clock=clock)
    throttle.limited(clock.now, 5.0)
    throttle.limited(clock.now, 2.0)
    clock.now += 3
    assert throttle.delay_s() == 2.0
    clock.now += 3
    assert throttle.delay_s() == 0.0


def test_impossible_bounds_are_refused():
    with pytest.raises(ChatError, match="1 <= minimum <= start <= maximum"):
        Throttle(start=9, maximum=8)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("3", 3.0), ("0.5", 0.5), ("-1", None), ("nan", None), ("soon", None), (None, None)],
)
def test_retry_after_seconds(header, seconds):
    assert retry_after_s(header) == seconds


def test_retry_after_date():
    header = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    assert 25 < retry_after_s(header) <= 30


def test_never_more_calls_at_once_than_the_throttle_allows():
    under_way, most = 0, 0

    async def attempt(index, left_s):
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.001)
        under_way -= 1
        return ChatReply("ok", 1, 1)

    arrived = dispatch(30, attempt, throttle=Throttle(start=4, maximum=4))
    assert sorted(index for index, _ in arrived) == list(range(30))
    assert most == 4


def test_waiting_for_a_repeat_holds_no_place():
    seen = []

    async def attempt(index, left_s):
        seen.append(index)
        if seen == [0]:
            return Retry("not yet", after_s=0.05)
        return ChatReply("ok", 1, 1)

    dispatch(3, attempt, throttle=Throttle(start=1))
    assert seen == [0, 1, 2, 0]


def test_asked_pause_holds_back_fresh_calls():
    starts = []

    async def attempt(index, left_s):
        starts.append(asyncio.get_running_loop().time())
        if len(starts) == 1:
            return Retry("slow down", after_s=0.05, is_limited=True)
        return ChatReply("ok", 1, 1)

    dispatch(2, attempt, throttle=Throttle(start=1))
    assert starts[1] - starts[0] >= 0.045


def test_call_gets_only_the_time_it_has_left():
    left = []

    async def attempt(index, left_s):
        left.append(left_s)
        return Retry("no", after_s=0.06)

    ((_, outcome),) = dispatch(1, attempt, settings=RetrySettings(call_timeout_s=0.1))
    assert outcome.reason.startswith("no; gave up after 2 attempts")
    assert left[0] == pytest.approx(0.1)
    assert left[1] < 0.05


def test_unexpected_error_ends_the_run_and_passes_on_what_is_under_way():
    async def attempt(index, left_s):
        if index == 1:
            raise ZeroDivisionError
        await asyncio.sleep(0.02)
        return ChatReply("ok", 1, 1)

    arrived = []

    async def run():
        await Dispatcher(
            50,
            attempt,
            lambda index, outcome: arrived.append(index),
            throttle=Throttle(start=4),
            settings=RetrySettings(),
            server="the server",
        ).run()

    with pytest.raises(ZeroDivisionError):
        asyncio.run(run())
    assert sorted(arrived) == [0, 2, 3]
