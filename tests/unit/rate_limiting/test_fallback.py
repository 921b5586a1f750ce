"""FallbackLimiter: the three values of on_redis_failure, the breaker, and recovery."""

from __future__ import annotations

import builtins
import logging

import pytest
from redis.exceptions import (
    AuthenticationError,
    ConnectionError,
    InvalidResponse,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    TimeoutError,
)

from gateway.errors import LimiterUnavailable
from gateway.rate_limiting.models import LimitCheck, LimitResult
from gateway.rate_limiting.redis_breaker import PAUSE_SECONDS
from tests.unit.rate_limiting.failing_redis import FROM_REDIS, Setup


@pytest.mark.parametrize("on_failure", ["local", "open", "closed"])
def test_redis_alone_counts_while_it_works(on_failure: str) -> None:
    setup = Setup(on_failure)
    for _ in range(20):
        assert setup.consume(1) == [FROM_REDIS]
    assert setup.redis.calls == 20
    assert setup.rate_limiter.state == "ok"


@pytest.mark.parametrize("workers", [1, 2, 3, 8])
def test_local_counts_the_workers_share(workers: int) -> None:
    setup = Setup("local", workers)
    setup.redis.error = ConnectionError("gone")
    assert setup.passed_locally(24) == 24 // workers


def test_a_workers_share_of_a_bucket_fills_at_its_share_of_the_rate() -> None:
    setup = Setup("local", workers=2)
    setup.redis.error = ConnectionError("gone")
    check = LimitCheck("ada", 2, 1, 5, "bucket", 10)
    # The cost of 5 is higher than what the bucket gains in a window of one second. This must not make the bucket gain
    # more.
    passed = 0
    for _ in range(100):
        passed += setup.rate_limiter.consume([check])[0].passed
        setup.clock.now += 1
    # One request passes at once from the worker's share of the burst. Then one passes every five seconds, as the bucket
    # gains one per second.
    assert passed == 1 + 99 // 5


def test_a_share_lets_at_least_one_request_pass() -> None:
    setup = Setup("local", workers=8)
    setup.redis.error = ConnectionError("gone")
    assert setup.passed_locally(3) == 1


def test_local_charges_all_limits_or_none() -> None:
    setup = Setup("local", workers=2)
    setup.redis.error = ConnectionError("gone")
    small, large = LimitCheck("small", 4, 3600), LimitCheck("large", 20, 3600)
    results_of_each = [setup.rate_limiter.consume([small, large]) for _ in range(4)]
    assert [[one.passed for one in results] for results in results_of_each] == [[True, True]] * 2 + [[False, True]] * 2
    assert results_of_each[-1][1].remaining == 8


def test_open_lets_requests_pass_uncounted() -> None:
    setup = Setup("open")
    setup.redis.error = ConnectionError("gone")
    assert [setup.consume(1) for _ in range(5)] == [[]] * 5


def test_closed_refuses_with_503() -> None:
    setup = Setup("closed")
    setup.redis.error = ConnectionError("gone")
    for _ in range(5):
        with pytest.raises(LimiterUnavailable) as caught:
            setup.consume()
        assert caught.value.status == 503
        assert dict(caught.value.headers)["Retry-After"] == "1"


@pytest.mark.parametrize(
    "error",
    [
        ConnectionError("refused by 10.0.0.7:6379"),
        TimeoutError("slow"),
        AuthenticationError("WRONGPASS"),
        ReadOnlyError("READONLY"),
        OutOfMemoryError("OOM"),
        InvalidResponse("junk"),
        RedisError("anything"),
        OSError(24, "Too many open files"),
        FileNotFoundError(2, "no socket"),
        builtins.TimeoutError(),
    ],
    ids=repr,
)
def test_every_failure_of_redis_leads_to_the_fallback(error: Exception) -> None:
    setup = Setup("local")
    setup.redis.error = error
    assert setup.passed_locally(7) == 7
    assert setup.rate_limiter.state == "down"


def test_an_error_of_the_gateway_is_not_a_failure_of_redis() -> None:
    setup = Setup("open")
    setup.redis.error = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        setup.consume()
    assert setup.rate_limiter.state == "ok"


@pytest.mark.parametrize("on_failure", ["local", "open"])
def test_after_a_failure_redis_is_called_once_per_pause(on_failure: str) -> None:
    setup = Setup(on_failure)
    setup.redis.error = TimeoutError("hung")
    for second in range(5):
        setup.clock.now = 1000.0 + second * PAUSE_SECONDS
        for _ in range(100):
            setup.consume()
        assert setup.redis.calls == second + 1
        setup.clock.now += PAUSE_SECONDS - 0.001
        setup.consume()
        assert setup.redis.calls == second + 1


def test_closed_does_not_call_redis_during_the_pause() -> None:
    setup = Setup("closed")
    setup.redis.error = TimeoutError("hung")
    for _ in range(100):
        with pytest.raises(LimiterUnavailable):
            setup.consume()
    assert setup.redis.calls == 1


def test_the_pause_starts_at_the_end_of_a_call() -> None:
    setup = Setup("open")
    setup.redis.error = TimeoutError("hung")

    def wait() -> None:
        setup.clock.now += 0.1

    setup.redis.meanwhile = wait
    setup.consume()
    setup.clock.now += PAUSE_SECONDS - 0.001
    setup.consume()
    assert setup.redis.calls == 1
    setup.clock.now += 0.001
    setup.consume()
    assert setup.redis.calls == 2


def test_while_one_request_tries_redis_others_use_the_fallback() -> None:
    setup = Setup("local")
    setup.redis.error = TimeoutError("hung")
    setup.consume()
    setup.clock.now += PAUSE_SECONDS
    during: list[list[LimitResult]] = []

    def others() -> None:
        setup.redis.meanwhile = lambda: None
        during.extend(setup.consume() for _ in range(5))

    setup.redis.meanwhile = others
    setup.consume()
    assert setup.redis.calls == 2
    assert len(during) == 5
    assert all(results[0].passed for results in during)


def test_requests_in_flight_when_redis_hangs_use_the_fallback() -> None:
    setup = Setup("local")
    setup.redis.error = TimeoutError("hung")
    depth = 0

    def another() -> None:
        nonlocal depth
        depth += 1
        if depth < 20:
            assert setup.consume(100)[0].passed

    setup.redis.meanwhile = another
    assert setup.consume(100)[0].passed
    assert setup.redis.calls == 20
    # These 20 calls were in flight when Redis failed. Later requests don't call Redis.
    setup.consume(100)
    assert setup.redis.calls == 20


@pytest.mark.parametrize("on_failure", ["local", "open", "closed"])
def test_recovery(on_failure: str, caplog: pytest.LogCaptureFixture) -> None:
    setup = Setup(on_failure)
    setup.redis.error = ConnectionError("gone")
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            try:
                setup.consume()
            except LimiterUnavailable:
                assert on_failure == "closed"
        assert setup.rate_limiter.state == "down"
        setup.redis.error = None
        setup.clock.now += PAUSE_SECONDS
        assert setup.consume() == [FROM_REDIS]
        assert setup.consume() == [FROM_REDIS]
    assert setup.rate_limiter.state == "ok"
    # The log has one line for the failure and one for the recovery, however many requests there were.
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]
    assert on_failure in caplog.records[0].getMessage()


def test_without_redis_the_process_counts() -> None:
    setup = Setup("closed", workers=2, with_redis=False)
    assert setup.passed_locally(10) == 5
    assert setup.rate_limiter.state == "not configured"
    assert setup.rate_limiter.is_reachable() is False
    assert setup.rate_limiter.clear_all() == 1


def test_is_reachable_writes_and_respects_the_pause() -> None:
    setup = Setup("local")
    assert setup.rate_limiter.is_reachable()
    assert setup.redis.calls == 1
    # This Redis would reply to PING, but does not accept writes.
    setup.redis.error = ReadOnlyError("READONLY")
    assert not setup.rate_limiter.is_reachable()
    assert setup.rate_limiter.state == "down"
    for _ in range(10):
        assert not setup.rate_limiter.is_reachable()
        setup.consume()
    assert setup.redis.calls == 2
    setup.redis.error = None
    setup.clock.now += PAUSE_SECONDS
    assert setup.rate_limiter.is_reachable()
    assert setup.rate_limiter.state == "ok"
    assert setup.consume() == [FROM_REDIS]
