"""LocalCounters and the algorithms: exact amounts, all limits or none, correct times to retry, bounded memory."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.config.limit_syntax import Algorithm
from gateway.rate_limiting import local_counters
from gateway.rate_limiting.local_counters import LocalCounters
from gateway.rate_limiting.models import LimitCheck, LimitResult

START = 1_700_000_000.0 - 1_700_000_000.0 % 86400  # The beginning of a window of a second, a minute, an hour and a day.


class Clock:
    """A clock that the test sets, in seconds since 1970."""

    def __init__(self, now: float = START) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


def counters_at(now: float = START) -> tuple[LocalCounters, Clock]:
    clock = Clock(now)
    return LocalCounters(clock), clock


def passes(counters: LocalCounters, *checks: LimitCheck) -> bool:
    return all(result.passed for result in counters.consume(checks))


def passed_of(counters: LocalCounters, check: LimitCheck, tries: int) -> int:
    return sum(passes(counters, check) for _ in range(tries))


@pytest.mark.parametrize("amount", [1, 2, 3, 7, 100, 1000])
def test_exactly_the_amount_passes_within_one_window(amount: int) -> None:
    counters, clock = counters_at()
    passed = 0
    for step in range(amount * 2):
        clock.now = START + step * 59.9 / (amount * 2)
        passed += passes(counters, LimitCheck("ada", amount, 60))
    assert passed == amount


def test_results_of_each_request_until_the_limit() -> None:
    counters, clock = counters_at(START + 18)
    results = [counters.consume([LimitCheck("ada", 3, 60)])[0] for _ in range(4)]
    assert results[:3] == [LimitResult(True, left, 102, 0, 3) for left in (2, 1, 0)]
    # The window ends in 42 s. A third of its requests have left the sliding window after another 20 s, all of them
    # after another 60 s.
    assert results[3] == LimitResult(False, 0, 102, 62, 3)
    clock.now += 61.999
    assert not passes(counters, LimitCheck("ada", 3, 60))
    clock.now += 0.001
    assert passes(counters, LimitCheck("ada", 3, 60))


def test_the_previous_window_loses_weight_evenly() -> None:
    counters, clock = counters_at(START + 59)
    assert passed_of(counters, LimitCheck("ada", 60, 60), 100) == 60
    clock.now = START + 60
    assert passed_of(counters, LimitCheck("ada", 60, 60), 100) == 0
    # One request per second leaves the sliding window, so one per second passes.
    for second in range(1, 60):
        clock.now = START + 60 + second
        assert passed_of(counters, LimitCheck("ada", 60, 60), 5) == 1


def test_a_burst_around_the_end_of_a_window_gets_the_amount_once() -> None:
    counters, clock = counters_at(START + 59.9)
    first = passed_of(counters, LimitCheck("ada", 100, 60), 200)
    clock.now = START + 60.1
    second = passed_of(counters, LimitCheck("ada", 100, 60), 200)
    assert (first, second) == (100, 0)


def test_the_whole_limit_is_available_after_two_idle_windows() -> None:
    counters, clock = counters_at(START + 59)
    assert passed_of(counters, LimitCheck("ada", 10, 60), 20) == 10
    clock.now = START + 120
    assert passed_of(counters, LimitCheck("ada", 10, 60), 20) == 10


def test_a_caller_with_an_even_pace_gets_the_amount_or_one_less() -> None:
    counters, clock = counters_at()
    for minute in range(60):
        passed = 0
        for second in range(60):
            clock.now = START + minute * 60 + second
            passed += passes(counters, LimitCheck("ada", 60, 60))
        assert passed in (59, 60)


def test_each_key_has_its_own_counter() -> None:
    counters, _ = counters_at()
    assert passed_of(counters, LimitCheck("ada", 2, 60), 3) == 2
    assert passed_of(counters, LimitCheck("bob", 2, 60), 3) == 2


def test_no_limit_is_charged_if_one_refuses() -> None:
    counters, clock = counters_at()
    small, large = LimitCheck("small", 2, 1), LimitCheck("large", 10, 3600)
    assert [passes(counters, small, large) for _ in range(5)] == [True, True, False, False, False]
    assert counters.consume([small, large])[1] == LimitResult(True, 8, 7200, 0, 10)
    clock.now += 2
    assert counters.consume([large], dry_run=True)[0].remaining == 8


def test_a_dry_run_charges_nothing() -> None:
    counters, _ = counters_at()
    for _ in range(5):
        assert counters.consume([LimitCheck("ada", 1, 60)], dry_run=True) == [LimitResult(True, 1, 0, 0, 1)]
    assert passes(counters, LimitCheck("ada", 1, 60))
    assert not passes(counters, LimitCheck("ada", 1, 60))


def test_a_cost_above_the_amount_never_passes_and_is_not_charged() -> None:
    counters, _ = counters_at()
    assert counters.consume([LimitCheck("ada", 5, 60, cost=6)]) == [LimitResult(False, 5, 0, 60, 5)]
    assert counters.consume([LimitCheck("ada", 5, 60, cost=5)]) == [LimitResult(True, 0, 120, 0, 5)]


# The times are whole milliseconds, which is the resolution of the algorithms.
moments = st.integers(0, 10 * 86_400_000).map(lambda milliseconds: START + milliseconds / 1000)
histories = st.lists(st.tuples(st.integers(0, 90_000), st.integers(1, 40)), max_size=12)


@given(moments, st.integers(1, 50), st.sampled_from([1, 7, 60, 3600]), histories, st.integers(1, 5))
@example(START, 3, 60, [(0, 3), (80_000, 1)], 1)
@example(START, 60, 60, [(59_000, 60)], 1)
def test_a_request_passes_after_retry_after_seconds_and_not_before(
    now: float, amount: int, window_seconds: int, history: Sequence[tuple[int, int]], cost: int
) -> None:
    counters, clock = counters_at(now)
    for wait_milliseconds, tries in history:
        clock.now += wait_milliseconds / 1000
        passed_of(counters, LimitCheck("ada", amount, window_seconds), tries)
    check = LimitCheck("ada", amount, window_seconds, cost)
    result = counters.consume([check], dry_run=True)[0]
    if cost > amount:
        assert not result.passed
        assert result.retry_after_seconds == window_seconds
    elif result.passed:
        assert result.retry_after_seconds == 0
    else:
        refused_at = clock.now
        assert 0 < result.retry_after_seconds <= 2 * window_seconds
        clock.now = refused_at + result.retry_after_seconds - 0.001
        assert not counters.consume([check], dry_run=True)[0].passed
        # Retry-After is rounded up to whole seconds. After this time the request passes as well.
        clock.now = refused_at + math.ceil(result.retry_after_seconds)
        assert counters.consume([check], dry_run=True)[0].passed
        clock.now = refused_at + result.retry_after_seconds
        assert counters.consume([check])[0].passed


@given(
    st.lists(st.tuples(st.integers(0, 30_000), st.integers(1, 4)), min_size=1, max_size=60),
    st.integers(1, 20),
    st.sampled_from([1, 10, 60]),
)
def test_at_most_the_amount_per_window_and_at_least_what_two_windows_leave(
    steps: Sequence[tuple[int, int]], amount: int, window_seconds: int
) -> None:
    counters, clock = counters_at()
    by_window: dict[int, int] = {}
    for wait_milliseconds, cost in steps:
        clock.now += wait_milliseconds / 1000
        index = round(clock.now * 1000) // (window_seconds * 1000)
        result = counters.consume([LimitCheck("ada", amount, window_seconds, cost)])[0]
        by_window[index] = by_window.get(index, 0) + (cost if result.passed else 0)
        assert 0 <= result.remaining <= amount - (cost if result.passed else 0)
        assert 0 <= result.reset_seconds <= 2 * window_seconds
        # A request may only be refused if this window and the previous one together have too many.
        assert result.passed or by_window[index] + by_window.get(index - 1, 0) + cost > amount
    assert max(by_window.values()) <= amount


@given(st.lists(st.tuples(st.integers(1, 6), st.sampled_from([1, 60]), st.integers(1, 3)), min_size=1, max_size=4))
def test_several_limits_let_pass_what_the_tightest_allows(limits: Sequence[tuple[int, int, int]]) -> None:
    counters, _ = counters_at()
    checks = [LimitCheck(str(at), amount, seconds, cost) for at, (amount, seconds, cost) in enumerate(limits)]
    assert sum(passes(counters, *checks) for _ in range(10)) == min(amount // cost for amount, _, cost in limits)


def test_a_clock_set_back_a_little_keeps_the_count() -> None:
    counters, clock = counters_at(START + 61)
    assert passed_of(counters, LimitCheck("ada", 2, 60), 5) == 2
    clock.now = START + 59
    assert passed_of(counters, LimitCheck("ada", 2, 60), 5) == 0
    clock.now = START + 62
    assert passed_of(counters, LimitCheck("ada", 2, 60), 5) == 0


def test_a_clock_set_back_far_refuses_nobody() -> None:
    counters, clock = counters_at(START + 86400)
    assert passed_of(counters, LimitCheck("ada", 2, 60), 5) == 2
    clock.now = START
    assert passed_of(counters, LimitCheck("ada", 2, 60), 5) == 2


def test_memory_is_bounded_and_idle_keys_are_dropped_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_counters, "MAX_LOCAL_KEYS", 100)
    counters, _ = counters_at()
    busy = LimitCheck("busy", 1000, 60)
    for number in range(500):
        assert passes(counters, LimitCheck(f"key-{number}", 1, 60))
        assert passes(counters, busy)
    assert counters.consume([busy], dry_run=True)[0].remaining == 500
    assert not passes(counters, LimitCheck("key-499", 1, 60))
    assert passes(counters, LimitCheck("key-0", 1, 60))
    assert counters.clear_all() == 100


def test_refused_requests_take_no_memory() -> None:
    counters, _ = counters_at()
    for number in range(50):
        counters.consume([LimitCheck(f"key-{number}", 1, 60, cost=2)])
    assert counters.clear_all() == 0


def test_clear_removes_one_counter() -> None:
    counters, _ = counters_at()
    for key in ("ada", "bob"):
        assert passed_of(counters, LimitCheck(key, 1, 60), 2) == 1
    counters.clear("ada")
    counters.clear("nobody")
    assert passes(counters, LimitCheck("ada", 1, 60))
    assert not passes(counters, LimitCheck("bob", 1, 60))


def bucket(amount: int, seconds: int, burst: int, cost: int = 1) -> LimitCheck:
    return LimitCheck("ada", amount, seconds, cost, "bucket", burst)


def test_a_fixed_window_resets_the_count_at_its_end() -> None:
    counters, clock = counters_at(START + 59.999)
    check = LimitCheck("ada", 3, 60, algorithm="fixed")
    assert passed_of(counters, check, 5) == 3
    assert counters.consume([check])[0] == LimitResult(False, 0, 0.001, 0.001, 3)
    clock.now = START + 60
    assert passed_of(counters, check, 5) == 3
    assert counters.consume([check])[0] == LimitResult(False, 0, 60, 60, 3)


def test_a_bucket_allows_its_burst_at_once_and_then_its_rate() -> None:
    counters, clock = counters_at()
    check = bucket(5, 1, 20)
    assert passed_of(counters, check, 30) == 20
    assert counters.consume([check])[0] == LimitResult(False, 0, 4, 0.2, 20)
    clock.now += 0.199
    assert passed_of(counters, check, 2) == 0
    clock.now += 0.001
    assert passed_of(counters, check, 2) == 1
    clock.now += 3600
    assert counters.consume([check], dry_run=True)[0] == LimitResult(True, 20, 0, 0, 20)
    assert counters.consume([check])[0] == LimitResult(True, 19, 0.2, 0, 20)


def test_a_bucket_loses_no_fractions() -> None:
    counters, clock = counters_at()
    # With 7 per second, the time for one request is not a whole number of milliseconds.
    passed = 0
    for _ in range(10_000):
        clock.now += 0.001
        passed += passes(counters, bucket(7, 1, 1))
    # One request passes at once. Then one passes every seventh of a second, rounded up to 143 ms.
    assert passed == 10_000 // 143 + 1


def test_a_cost_above_the_burst_never_passes() -> None:
    counters, _ = counters_at()
    assert counters.consume([bucket(5, 60, 3, cost=4)])[0] == LimitResult(False, 3, 0, 60, 3)


@given(
    st.lists(st.tuples(st.integers(0, 3000), st.integers(1, 4)), max_size=60),
    st.integers(1, 9),
    st.integers(1, 3),
    st.integers(4, 9),
)
def test_over_any_period_a_bucket_allows_its_burst_and_its_rate(
    steps: Sequence[tuple[int, int]], amount: int, seconds: int, burst: int
) -> None:
    counters, clock = counters_at()
    milliseconds, passed = 0, []
    for step, cost in steps:
        milliseconds += step
        clock.now = START + milliseconds / 1000
        result = counters.consume([bucket(amount, seconds, burst, cost)])[0]
        if result.passed:
            passed.append((milliseconds, cost))
        else:
            # 1 ms before retry_after_seconds have passed, the request is still refused. Then it passes.
            check = bucket(amount, seconds, burst, cost)
            clock.now = START + milliseconds / 1000 + result.retry_after_seconds - 0.001
            assert not counters.consume([check], dry_run=True)[0].passed
            clock.now = START + milliseconds / 1000 + result.retry_after_seconds
            assert counters.consume([check], dry_run=True)[0].passed
    for first in range(len(passed)):
        for last in range(first, len(passed)):
            period = passed[last][0] - passed[first][0]
            consumed = sum(cost for _, cost in passed[first : last + 1])
            assert consumed * seconds * 1000 <= burst * seconds * 1000 + amount * period


@st.composite
def random_check(draw: st.DrawFn) -> LimitCheck:
    algorithm: Algorithm = draw(st.sampled_from(["sliding", "fixed", "bucket"]))
    burst = draw(st.integers(1, 20)) if algorithm == "bucket" else 0
    amount = draw(st.integers(1, 20))
    cost = draw(st.integers(1, burst or amount))
    return LimitCheck("ada", amount, draw(st.sampled_from([1, 5, 7, 60, 3600])), cost, algorithm, burst)


# A negative step sets the clock back.
steps = st.lists(st.tuples(st.integers(-3_000, 90_000), st.integers(0, 40)), max_size=12)


@given(moments, random_check(), steps)
@example(START, LimitCheck("ada", 5, 1), [(0, 5)])
@example(START + 0.7, LimitCheck("ada", 5, 1), [(0, 5), (600, 2)])
@example(START, LimitCheck("ada", 3, 60, 1, "fixed"), [(59_999, 1)])
@example(START + 61, LimitCheck("ada", 2, 60), [(0, 2), (-2_000, 1)])
def test_the_whole_limit_is_available_after_reset_seconds_and_not_before(
    now: float, check: LimitCheck, history: Sequence[tuple[int, int]]
) -> None:
    counters, clock = counters_at(now)
    for wait_milliseconds, tries in history:
        clock.now += wait_milliseconds / 1000
        passed_of(counters, check, tries)
    sent_at = clock.now
    result = counters.consume([check])[0]

    def at(seconds: float) -> LimitResult:
        clock.now = sent_at + seconds
        return counters.consume([check], dry_run=True)[0]

    assert at(result.reset_seconds) == LimitResult(True, check.capacity, 0, 0, check.capacity)
    assert at(math.ceil(result.reset_seconds)).remaining == check.capacity
    if result.reset_seconds:
        assert at(result.reset_seconds - 0.001).remaining < check.capacity
    assert result.retry_after_seconds <= result.reset_seconds
    if not result.passed:
        assert at(result.retry_after_seconds).passed
        assert not at(result.retry_after_seconds - 0.001).passed


@pytest.mark.parametrize("algorithm", ["fixed", "bucket"])
def test_a_clock_set_back_with_fixed_and_bucket(algorithm: Any) -> None:
    counters, clock = counters_at()
    check = LimitCheck("ada", 3, 60, 1, algorithm, 3)
    assert passed_of(counters, check, 5) == 3
    clock.now -= 30
    assert passed_of(counters, check, 5) == 0
    clock.now -= 86_400
    assert passed_of(counters, check, 5) == 3


def test_long_keys_are_stored_as_hashes() -> None:
    counters = LocalCounters(lambda: 1000.0)
    long = [f"user::{'x' * 8000}{number}" for number in range(3)]
    for key in long:
        assert [counters.consume([LimitCheck(key, 2, 60)])[0].passed for _ in range(3)] == [True, True, False]
    assert all(sys.getsizeof(key) < 300 for key in counters._states)
    counters.clear(long[0])
    assert [counters.consume([LimitCheck(key, 2, 60)])[0].passed for key in long] == [True, False, False]
