"""What happens to quotas when Redis fails: the three policies, the breaker, and the way back."""

from __future__ import annotations

import builtins
import logging
from collections.abc import Callable, Sequence

import pytest
from limits import parse
from limits.storage import MemoryStorage
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
from gateway.rate_limiting.fallback import FallbackLimiter
from gateway.rate_limiting.flask_limiter_backend import ALL_LIMITS, LimitStorage, LimitStrategy
from gateway.rate_limiting.local_counters import LocalCounters
from gateway.rate_limiting.models import LimitCheck, LimitResult, RateLimitState, RevocationLookup
from gateway.rate_limiting.redis_breaker import PAUSE_SECONDS
from gateway.rate_limiting.redis_counters import RedisCounters
from gateway.redis.addresses import Address
from gateway.telemetry.metrics.registry import Metrics

FROM_REDIS = LimitResult(True, 99, 5, 0, 100)


class FailingCounters(RedisCounters):
    """Answers FROM_REDIS while `error` is None, else raises it; counts how often it was asked."""

    def __init__(self) -> None:
        self.error: Exception | None = None
        self.calls = 0
        self.meanwhile: Callable[[], None] = lambda: None

    def consume(
        self,
        checks: Sequence[LimitCheck],
        lookup: RevocationLookup | None = None,  # noqa: ARG002
        partition_key: str = "",  # noqa: ARG002
        *,
        dry_run: bool = False,  # noqa: ARG002
    ) -> list[LimitResult]:
        self.calls += 1
        error = self.error
        self.meanwhile()
        if error is not None:
            raise error
        return [FROM_REDIS] * len(checks)

    def node_of(self, partition_key: str) -> None:  # noqa: ARG002
        return None

    def has_node(self, address: Address | None) -> bool:  # noqa: ARG002
        return True


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Setup:
    def __init__(self, on_failure: str, workers: int = 1, *, with_redis: bool = True) -> None:
        self.redis = FailingCounters()
        self.clock = Clock()
        self.rate_limiter = FallbackLimiter(
            self.redis if with_redis else None,
            LocalCounters(self.clock),
            on_failure,  # type: ignore[arg-type] # parametrized
            workers,
            self.clock,
            Metrics(),
        )

    def consume(self, amount: int = 10, key: str = "ada") -> list[LimitResult]:
        return self.rate_limiter.consume([LimitCheck(key, amount, 3600)])

    def passed_locally(self, amount: int, tries: int = 100) -> int:
        return sum(self.consume(amount)[0].passed for _ in range(tries))


@pytest.mark.parametrize("on_failure", ["local", "open", "closed"])
def test_while_redis_answers_it_alone_is_asked(on_failure: str) -> None:
    setup = Setup(on_failure)
    for _ in range(20):
        assert setup.consume(1) == [FROM_REDIS]
    assert setup.redis.calls == 20
    assert setup.rate_limiter.state == "ok"


@pytest.mark.parametrize("workers", [1, 2, 3, 8])
def test_local_counts_in_the_worker_with_the_workers_share(workers: int) -> None:
    setup = Setup("local", workers)
    setup.redis.error = ConnectionError("gone")
    assert setup.passed_locally(24) == 24 // workers


def test_a_share_of_a_bucket_fills_no_faster_than_its_share() -> None:
    setup = Setup("local", workers=2)
    setup.redis.error = ConnectionError("gone")
    check = LimitCheck("ada", 2, 1, 5, "bucket", 10)
    # A cost that is more than what comes in with a window must not make more come in.
    passed = 0
    for _ in range(100):
        passed += setup.rate_limiter.consume([check])[0].passed
        setup.clock.now += 1
    # The share of the burst at once, and then five whenever a second each has brought one.
    assert passed == 1 + 99 // 5


def test_a_share_is_never_nothing() -> None:
    setup = Setup("local", workers=8)
    setup.redis.error = ConnectionError("gone")
    assert setup.passed_locally(3) == 1


def test_local_charges_all_limits_or_none() -> None:
    setup = Setup("local", workers=2)
    setup.redis.error = ConnectionError("gone")
    small, large = LimitCheck("small", 4, 3600), LimitCheck("large", 20, 3600)
    taken = [setup.rate_limiter.consume([small, large]) for _ in range(4)]
    assert [[one.passed for one in results] for results in taken] == [[True, True]] * 2 + [[False, True]] * 2
    assert taken[-1][1].remaining == 8


def test_open_lets_pass_and_counts_nothing() -> None:
    setup = Setup("open")
    setup.redis.error = ConnectionError("gone")
    assert [setup.consume(1) for _ in range(5)] == [[]] * 5


def test_closed_refuses() -> None:
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
def test_every_way_to_fail_is_survived(error: Exception) -> None:
    setup = Setup("local")
    setup.redis.error = error
    assert setup.passed_locally(7) == 7
    assert setup.rate_limiter.state == "down"


def test_a_mistake_in_the_program_is_not_taken_for_redis_failing() -> None:
    setup = Setup("open")
    setup.redis.error = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        setup.consume()
    assert setup.rate_limiter.state == "ok"


@pytest.mark.parametrize("on_failure", ["local", "open"])
def test_after_a_failure_redis_is_asked_once_a_second(on_failure: str) -> None:
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


def test_closed_answers_at_once_between_the_tries() -> None:
    setup = Setup("closed")
    setup.redis.error = TimeoutError("hung")
    for _ in range(100):
        with pytest.raises(LimiterUnavailable):
            setup.consume()
    assert setup.redis.calls == 1


def test_a_try_that_takes_long_starts_the_pause_at_its_end() -> None:
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


def test_while_one_request_tries_the_others_do_not_wait_for_it() -> None:
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


def test_requests_in_flight_when_redis_hangs_all_get_their_answer() -> None:
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
    # They were on their way already; nobody else goes now.
    setup.consume(100)
    assert setup.redis.calls == 20


@pytest.mark.parametrize("on_failure", ["local", "open", "closed"])
def test_it_comes_back_by_itself(on_failure: str, caplog: pytest.LogCaptureFixture) -> None:
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
    # Told once each way, however many requests there were.
    assert [record.levelname for record in caplog.records] == ["ERROR", "WARNING"]
    assert on_failure in caplog.records[0].getMessage()


def test_without_redis_the_process_counts_whatever_the_policy() -> None:
    setup = Setup("closed", workers=2, with_redis=False)
    assert setup.passed_locally(10) == 5
    assert setup.rate_limiter.state == "not configured"
    assert setup.rate_limiter.is_reachable() is False
    assert setup.rate_limiter.clear_all() == 1


def test_readiness_probes_what_requests_need_and_respects_the_pause() -> None:
    setup = Setup("local")
    assert setup.rate_limiter.is_reachable()
    assert setup.redis.calls == 1
    # As read-only Redis: it would answer a PING.
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


def strategy(setup: Setup, state: RateLimitState | None) -> LimitStrategy:
    return LimitStrategy(LimitStorage("gateway://", rate_limiter=setup.rate_limiter, state=lambda: state))


def test_a_batch_asks_once_for_all_its_limits() -> None:
    setup = Setup("local")
    state = RateLimitState([LimitCheck("a", 5, 1), LimitCheck("b", 100, 60), LimitCheck("c", 1000, 86400)])
    one = strategy(setup, state)
    assert [one.hit(ALL_LIMITS, "ada", "gateway") for _ in range(3)] == [True] * 3
    assert one.get_window_stats(ALL_LIMITS, "ada", "gateway").remaining == 99
    assert setup.redis.calls == 1
    assert state.results == [FROM_REDIS] * 3


@pytest.mark.parametrize("observed", [True, False])
def test_what_is_only_observed_passes_and_tells_what_it_would_not_have(observed: bool) -> None:
    setup = Setup("local", with_redis=False)
    for number in range(3):
        state = RateLimitState([LimitCheck("a", 2, 60)], observed=observed)
        assert strategy(setup, state).hit(ALL_LIMITS, "ada", "gateway") is (number < 2 or observed)
        assert state.passed is (number < 2)


def test_a_batch_has_its_own_way_when_redis_fails() -> None:
    setup = Setup("local")
    setup.redis.error = ConnectionError("gone")
    with pytest.raises(LimiterUnavailable):
        strategy(setup, RateLimitState([LimitCheck("a", 2, 60)], on_failure="closed")).hit(ALL_LIMITS)
    opened = RateLimitState([LimitCheck("a", 2, 60)], on_failure="open")
    assert all(strategy(setup, opened).hit(ALL_LIMITS) for _ in range(5))
    assert opened.results == []


def test_a_limit_outside_of_the_batch_is_asked_for_by_itself() -> None:
    setup = Setup("local")
    setup.redis.error = ConnectionError("gone")
    one = strategy(setup, None)
    item = parse("2/hour")
    assert [one.test(item, "ada"), one.hit(item, "ada"), one.hit(item, "ada"), one.hit(item, "ada")] == [
        True,
        True,
        True,
        False,
    ]
    assert not one.test(item, "ada")
    assert one.get_window_stats(item, "ada").remaining == 0


def test_with_open_a_batch_that_counted_nothing_passes_and_is_not_asked_again() -> None:
    setup = Setup("open")
    setup.redis.error = ConnectionError("gone")
    state = RateLimitState([LimitCheck("a", 1, 1), LimitCheck("b", 1, 60)])
    one = strategy(setup, state)
    assert [one.hit(ALL_LIMITS, "ada") for _ in range(2)] == [True, True]
    assert state.results == []
    assert setup.redis.calls == 1


def test_the_strategy_refuses_storages_that_it_does_not_know() -> None:
    with pytest.raises(TypeError, match="gateway://"):
        LimitStrategy(MemoryStorage())


def test_the_storage_forgets_and_tells_its_health() -> None:
    setup = Setup("local", with_redis=False)
    storage = LimitStorage("gateway://", rate_limiter=setup.rate_limiter, state=lambda: None)
    assert setup.passed_locally(1) == 1
    assert storage.reset() == 1
    assert setup.passed_locally(1) == 1
    storage.clear("ada")
    assert setup.passed_locally(1) == 1
    assert storage.check() is False


def test_the_storage_does_not_pretend_to_count_without_a_limit() -> None:
    storage = LimitStorage("gateway://", rate_limiter=Setup("local").rate_limiter, state=lambda: None)
    with pytest.raises(NotImplementedError, match="strategy"):
        storage.incr("key", 60)
    with pytest.raises(NotImplementedError, match="strategy"):
        storage.get("key")
    with pytest.raises(NotImplementedError, match="strategy"):
        storage.get_expiry("key")
