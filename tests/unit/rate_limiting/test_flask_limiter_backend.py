"""The storage and the strategy that Flask-Limiter uses."""

from __future__ import annotations

import pytest
from limits import parse
from limits.storage import MemoryStorage
from redis.exceptions import (
    ConnectionError,
)

from gateway.errors import LimiterUnavailable
from gateway.rate_limiting.flask_limiter_backend import ALL_LIMITS, LimitStorage, LimitStrategy
from gateway.rate_limiting.models import LimitCheck, RateLimitState
from tests.unit.rate_limiting.failing_redis import FROM_REDIS, Setup


def strategy(setup: Setup, state: RateLimitState | None) -> LimitStrategy:
    return LimitStrategy(LimitStorage("gateway://", rate_limiter=setup.rate_limiter, state=lambda: state))


def test_all_limits_of_a_request_are_one_call() -> None:
    setup = Setup("local")
    state = RateLimitState([LimitCheck("a", 5, 1), LimitCheck("b", 100, 60), LimitCheck("c", 1000, 86400)])
    one = strategy(setup, state)
    assert [one.hit(ALL_LIMITS, "ada", "gateway") for _ in range(3)] == [True] * 3
    assert one.get_window_stats(ALL_LIMITS, "ada", "gateway").remaining == 99
    assert setup.redis.calls == 1
    assert state.results == [FROM_REDIS] * 3


@pytest.mark.parametrize("observed", [True, False])
def test_observe_mode_lets_pass_and_reports(observed: bool) -> None:
    setup = Setup("local", with_redis=False)
    for number in range(3):
        state = RateLimitState([LimitCheck("a", 2, 60)], observed=observed)
        assert strategy(setup, state).hit(ALL_LIMITS, "ada", "gateway") is (number < 2 or observed)
        assert state.passed is (number < 2)


def test_a_request_overrides_on_redis_failure() -> None:
    setup = Setup("local")
    setup.redis.error = ConnectionError("gone")
    with pytest.raises(LimiterUnavailable):
        strategy(setup, RateLimitState([LimitCheck("a", 2, 60)], on_failure="closed")).hit(ALL_LIMITS)
    opened = RateLimitState([LimitCheck("a", 2, 60)], on_failure="open")
    assert all(strategy(setup, opened).hit(ALL_LIMITS) for _ in range(5))
    assert opened.results == []


def test_a_limit_of_the_application_is_a_call_of_its_own() -> None:
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


def test_with_open_an_uncounted_request_passes_and_calls_redis_once() -> None:
    setup = Setup("open")
    setup.redis.error = ConnectionError("gone")
    state = RateLimitState([LimitCheck("a", 1, 1), LimitCheck("b", 1, 60)])
    one = strategy(setup, state)
    assert [one.hit(ALL_LIMITS, "ada") for _ in range(2)] == [True, True]
    assert state.results == []
    assert setup.redis.calls == 1


def test_the_strategy_refuses_other_storages() -> None:
    with pytest.raises(TypeError, match="gateway://"):
        LimitStrategy(MemoryStorage())


def test_the_storage_clears_counters_and_checks_redis() -> None:
    setup = Setup("local", with_redis=False)
    storage = LimitStorage("gateway://", rate_limiter=setup.rate_limiter, state=lambda: None)
    assert setup.passed_locally(1) == 1
    assert storage.reset() == 1
    assert setup.passed_locally(1) == 1
    storage.clear("ada")
    assert setup.passed_locally(1) == 1
    assert storage.check() is False


def test_operations_without_a_limit_are_not_supported() -> None:
    storage = LimitStorage("gateway://", rate_limiter=Setup("local").rate_limiter, state=lambda: None)
    with pytest.raises(NotImplementedError, match="strategy"):
        storage.incr("key", 60)
    with pytest.raises(NotImplementedError, match="strategy"):
        storage.get("key")
    with pytest.raises(NotImplementedError, match="strategy"):
        storage.get_expiry("key")
