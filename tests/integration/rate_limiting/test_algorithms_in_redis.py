"""consume_limits.lua and algorithms.py make the same decisions, for any limit, counter and time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Literal

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from redis import Redis

from gateway.rate_limiting.algorithms import State, decide
from gateway.rate_limiting.models import LimitCheck, LimitResult
from gateway.rate_limiting.redis_counters import RedisCounters, redis_key
from gateway.redis.client import SharedRedis
from tests.support.redis import RedisServer

Algorithm = Literal["sliding", "fixed", "bucket"]


@pytest.fixture(scope="module")
def counters(server: RedisServer) -> RedisCounters:
    return RedisCounters(SharedRedis(server.url, 20))


@pytest.fixture(scope="module")
def admin(server: RedisServer) -> Iterator[Redis]:
    with server.client() as client:
        yield client


def milliseconds(admin: Redis) -> int:
    """The current time of the Redis server, which the script uses."""
    seconds, micros = admin.time()
    return int(seconds) * 1000 + int(micros) // 1000


def expected_at(
    now: int, checks: Sequence[LimitCheck], states: Sequence[State | None], consume: bool
) -> list[LimitResult]:
    decisions = [decide(check, now, state) for check, state in zip(checks, states, strict=True)]
    if consume and all(one.uncharged.passed for one in decisions):
        return [one.charged for one in decisions]
    return [one.uncharged for one in decisions]


@st.composite
def limits(draw: st.DrawFn) -> tuple[LimitCheck, tuple[int, int, int] | None]:
    """A check, and the state of its counter. For a window: its age in multiples of the window, and the two counts. For
    a bucket: its age in milliseconds, and its level in thousandths."""
    algorithm: Algorithm = draw(st.sampled_from(["sliding", "fixed", "bucket"]))
    check = LimitCheck(
        "",
        draw(st.integers(1, 9) | st.sampled_from([300, 10**6])),
        draw(st.sampled_from([1, 7, 60, 86_400])),
        draw(st.integers(0, 11)),
        algorithm,
        draw(st.integers(1, 20)) if algorithm == "bucket" else 0,
    )
    if draw(st.booleans()):
        return check, None
    if algorithm == "bucket":
        return check, (draw(st.integers(-100_000, 10_000_000)), draw(st.integers(0, 1000)), 0)
    return check, (draw(st.integers(-2, 3)), draw(st.integers(0, check.amount)), draw(st.integers(0, check.amount)))


def state_of(check: LimitCheck, before: tuple[int, int, int] | None, now: int) -> State | None:
    if before is None:
        return None
    ago, second, third = before
    window = check.window_seconds * 1000
    if check.algorithm == "bucket":
        return now - ago, second * check.burst * window // 1000, 0
    return now // window - ago, second, third


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(limits(), min_size=1, max_size=3), st.booleans())
@example([(LimitCheck("", 5, 1, 1, "bucket", 20), (100, 0, 0))], True)
@example([(LimitCheck("", 7, 1, 1, "bucket", 1), (142, 0, 0))], True)
def test_redis_decides_as_the_process_does(
    counters: RedisCounters,
    admin: Redis,
    wanted: list[tuple[LimitCheck, tuple[int, int, int] | None]],
    consume: bool,
) -> None:
    admin.flushall()
    start = milliseconds(admin)
    checks, states = [], []
    for number, (check, before) in enumerate(wanted):
        check.key = f"limit-{number}"
        state = state_of(check, before, start)
        if state is not None:
            admin.set(redis_key(check.key), ":".join(map(str, state)))
        checks.append(check)
        states.append(state)
    first = milliseconds(admin)
    results = counters.consume(checks, dry_run=not consume)
    last = milliseconds(admin)
    # Redis made its decision at one of these milliseconds.
    assert any(results == expected_at(now, checks, states, consume) for now in range(first, last + 1)), (
        results,
        [expected_at(now, checks, states, consume) for now in (first, last)],
    )


@pytest.mark.parametrize(
    "check",
    [LimitCheck("ada", 50, 3600, 1, "fixed"), LimitCheck("ada", 1, 86_400, 1, "bucket", 50)],
    ids=["fixed", "bucket"],
)
def test_several_gateways_share_exactly_the_amount(server: RedisServer, admin: Redis, check: LimitCheck) -> None:
    admin.flushall()
    gateways = [RedisCounters(SharedRedis(server.url, 20)) for _ in range(4)]

    def consume_many(number: int) -> int:
        return sum(gateways[number % 4].consume([check])[0].passed for _ in range(10))

    with ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(consume_many, range(16))) == 50


def test_a_bucket_fills_by_the_clock_of_redis(counters: RedisCounters, server: RedisServer, admin: Redis) -> None:
    admin.flushall()
    check = LimitCheck("ada", 10, 1, 1, "bucket", 2)
    while counters.consume([check])[0].passed:
        pass
    wait = counters.consume([check])[0].retry_after_seconds
    assert 0 < wait <= 0.1
    # The script uses the clock of Redis, so the test waits by a blocking command of Redis with a timeout.
    server.ask("BLPOP", "nothing", f"{wait + 0.001:.3f}")
    assert counters.consume([check])[0].passed


@pytest.mark.parametrize(
    "check",
    [LimitCheck("ada", 5, 1), LimitCheck("ada", 5, 1, 1, "fixed"), LimitCheck("ada", 20, 1, 1, "bucket", 5)],
    ids=["sliding", "fixed", "bucket"],
)
def test_the_whole_limit_is_available_after_reset_seconds(
    counters: RedisCounters, server: RedisServer, admin: Redis, check: LimitCheck
) -> None:
    admin.flushall()
    results = [counters.consume([check])[0] for _ in range(6)]
    # Uses the reset time of the last result, because another window may have begun during the six calls.
    server.ask("BLPOP", "nothing", f"{results[-1].reset_seconds + 0.001:.3f}")
    assert counters.consume([check], dry_run=True) == [LimitResult(True, 5, 0, 0, 5)]
    assert [counters.consume([check])[0].passed for _ in range(5)] == [True] * 5


def test_counters_expire_once_they_have_no_effect(counters: RedisCounters, admin: Redis) -> None:
    for check, longest in [
        (LimitCheck("ada", 5, 60, 1, "fixed"), 120_000),
        # The bucket is full after 12 s.
        (LimitCheck("ada", 5, 60, 1, "bucket", 20), 12_000),
    ]:
        admin.flushall()
        assert counters.consume([check])[0].passed
        (left,) = [admin.pttl(key) for key in admin.keys("*")]
        assert longest - 2000 < left <= longest
