"""The algorithms of quotas, in one process: exact, all or nothing, honest about when to come back, bounded."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from gateway.config.limit_text import Algorithm
from gateway.rate_limiting import local_counters
from gateway.rate_limiting.local_counters import LocalCounters
from gateway.rate_limiting.models import LimitCheck, LimitResult

START = 1_700_000_000.0 - 1_700_000_000.0 % 86400  # where windows of a second, minute, hour and day begin


class Clock:
    """Seconds since 1970, as the test says."""

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


def test_remaining_and_reset_are_told_from_the_first_request_to_the_last() -> None:
    counters, clock = counters_at(START + 18)
    told = [counters.consume([LimitCheck("ada", 3, 60)])[0] for _ in range(4)]
    assert told[:3] == [LimitResult(True, left, 102, 0, 3) for left in (2, 1, 0)]
    # The window ends in 42 s; a third of what it holds has slid out another 20 s later, and all of it after a minute.
    assert told[3] == LimitResult(False, 0, 102, 62, 3)
    clock.now += 61.999
    assert not passes(counters, LimitCheck("ada", 3, 60))
    clock.now += 0.001
    assert passes(counters, LimitCheck("ada", 3, 60))


def test_the_previous_window_slides_out_evenly() -> None:
    counters, clock = counters_at(START + 59)
    assert passed_of(counters, LimitCheck("ada", 60, 60), 100) == 60
    clock.now = START + 60
    assert passed_of(counters, LimitCheck("ada", 60, 60), 100) == 0
    # One slides out each second; who comes back each second gets one each time.
    for second in range(1, 60):
        clock.now = START + 60 + second
        assert passed_of(counters, LimitCheck("ada", 60, 60), 5) == 1


def test_a_burst_at_the_windows_edge_does_not_get_twice_the_amount() -> None:
    counters, clock = counters_at(START + 59.9)
    first = passed_of(counters, LimitCheck("ada", 100, 60), 200)
    clock.now = START + 60.1
    second = passed_of(counters, LimitCheck("ada", 100, 60), 200)
    assert (first, second) == (100, 0)


def test_everything_is_free_again_after_two_windows_of_silence() -> None:
    counters, clock = counters_at(START + 59)
    assert passed_of(counters, LimitCheck("ada", 10, 60), 20) == 10
    clock.now = START + 120
    assert passed_of(counters, LimitCheck("ada", 10, 60), 20) == 10


def test_an_even_pace_gets_the_amount_or_one_less() -> None:
    counters, clock = counters_at()
    for minute in range(60):
        passed = 0
        for second in range(60):
            clock.now = START + minute * 60 + second
            passed += passes(counters, LimitCheck("ada", 60, 60))
        assert passed in (59, 60)


def test_keys_do_not_share() -> None:
    counters, _ = counters_at()
    assert passed_of(counters, LimitCheck("ada", 2, 60), 3) == 2
    assert passed_of(counters, LimitCheck("bob", 2, 60), 3) == 2


def test_one_limit_that_refuses_charges_none_of_them() -> None:
    counters, clock = counters_at()
    small, large = LimitCheck("small", 2, 1), LimitCheck("large", 10, 3600)
    assert [passes(counters, small, large) for _ in range(5)] == [True, True, False, False, False]
    assert counters.consume([small, large])[1] == LimitResult(True, 8, 7200, 0, 10)
    clock.now += 2
    assert counters.consume([large], dry_run=True)[0].remaining == 8


def test_looking_costs_nothing() -> None:
    counters, _ = counters_at()
    for _ in range(5):
        assert counters.consume([LimitCheck("ada", 1, 60)], dry_run=True) == [LimitResult(True, 1, 0, 0, 1)]
    assert passes(counters, LimitCheck("ada", 1, 60))
    assert not passes(counters, LimitCheck("ada", 1, 60))


def test_a_cost_above_the_amount_never_passes_and_takes_nothing() -> None:
    counters, _ = counters_at()
    assert counters.consume([LimitCheck("ada", 5, 60, cost=6)]) == [LimitResult(False, 5, 0, 60, 5)]
    assert counters.consume([LimitCheck("ada", 5, 60, cost=5)]) == [LimitResult(True, 0, 120, 0, 5)]


# Whole milliseconds, as Redis counts them.
moments = st.integers(0, 10 * 86_400_000).map(lambda milliseconds: START + milliseconds / 1000)
histories = st.lists(st.tuples(st.integers(0, 90_000), st.integers(1, 40)), max_size=12)


@given(moments, st.integers(1, 50), st.sampled_from([1, 7, 60, 3600]), histories, st.integers(1, 5))
@example(START, 3, 60, [(0, 3), (80_000, 1)], 1)
@example(START, 60, 60, [(59_000, 60)], 1)
def test_waiting_as_long_as_told_passes_and_a_moment_less_does_not(
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
        # What Retry-After says: the same in whole seconds.
        clock.now = refused_at + math.ceil(result.retry_after_seconds)
        assert counters.consume([check], dry_run=True)[0].passed
        clock.now = refused_at + result.retry_after_seconds
        assert counters.consume([check])[0].passed


@given(
    st.lists(st.tuples(st.integers(0, 30_000), st.integers(1, 4)), min_size=1, max_size=60),
    st.integers(1, 20),
    st.sampled_from([1, 10, 60]),
)
def test_never_more_than_the_amount_in_a_window_and_never_less_than_a_fixed_window_would_give(
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
        # Refused only where the window and the one before it hold too much together.
        assert result.passed or by_window[index] + by_window.get(index - 1, 0) + cost > amount
    assert max(by_window.values()) <= amount


@given(st.lists(st.tuples(st.integers(1, 6), st.sampled_from([1, 60]), st.integers(1, 3)), min_size=1, max_size=4))
def test_all_limits_together_pass_as_often_as_the_tightest_alone(limits: Sequence[tuple[int, int, int]]) -> None:
    counters, _ = counters_at()
    checks = [LimitCheck(str(at), amount, seconds, cost) for at, (amount, seconds, cost) in enumerate(limits)]
    assert sum(passes(counters, *checks) for _ in range(10)) == min(amount // cost for amount, _, cost in limits)


def test_a_clock_set_back_a_little_forgets_nothing() -> None:
    counters, clock = counters_at(START + 61)
    assert passed_of(counters, LimitCheck("ada", 2, 60), 5) == 2
    clock.now = START + 59
    assert passed_of(counters, LimitCheck("ada", 2, 60), 5) == 0
    clock.now = START + 62
    assert passed_of(counters, LimitCheck("ada", 2, 60), 5) == 0


def test_a_clock_set_back_far_locks_nobody_out() -> None:
    counters, clock = counters_at(START + 86400)
    assert passed_of(counters, LimitCheck("ada", 2, 60), 5) == 2
    clock.now = START
    assert passed_of(counters, LimitCheck("ada", 2, 60), 5) == 2


def test_memory_is_bounded_and_the_quietest_keys_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
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


def test_forgetting_one_key_gives_back_its_quota_alone() -> None:
    counters, _ = counters_at()
    for key in ("ada", "bob"):
        assert passed_of(counters, LimitCheck(key, 1, 60), 2) == 1
    counters.clear("ada")
    counters.clear("nobody")
    assert passes(counters, LimitCheck("ada", 1, 60))
    assert not passes(counters, LimitCheck("bob", 1, 60))


def test_threads_together_get_exactly_the_amount() -> None:
    counters, _ = counters_at()
    with ThreadPoolExecutor(16) as pool:
        passed = sum(pool.map(lambda _: passed_of(counters, LimitCheck("ada", 1000, 60), 100), range(32)))
    assert passed == 1000


def bucket(amount: int, seconds: int, burst: int, cost: int = 1) -> LimitCheck:
    return LimitCheck("ada", amount, seconds, cost, "bucket", burst)


def test_a_fixed_window_forgets_everything_at_its_end() -> None:
    counters, clock = counters_at(START + 59.999)
    check = LimitCheck("ada", 3, 60, algorithm="fixed")
    assert passed_of(counters, check, 5) == 3
    assert counters.consume([check])[0] == LimitResult(False, 0, 0.001, 0.001, 3)
    clock.now = START + 60
    assert passed_of(counters, check, 5) == 3
    assert counters.consume([check])[0] == LimitResult(False, 0, 60, 60, 3)


def test_a_bucket_gives_its_burst_at_once_and_then_what_comes_in() -> None:
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


def test_a_bucket_that_gains_fractions_loses_none() -> None:
    counters, clock = counters_at()
    # 7 in a second: not a whole number of milliseconds each.
    passed = 0
    for _ in range(10_000):
        clock.now += 0.001
        passed += passes(counters, bucket(7, 1, 1))
    # The first of them was in the bucket; then one when the seventh part of a second is over, rounded up.
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
def test_over_any_stretch_a_bucket_lets_pass_no_more_than_it_holds_and_gains(
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
            # A moment before the time that it is told it would still be refused, and then it passes.
            check = bucket(amount, seconds, burst, cost)
            clock.now = START + milliseconds / 1000 + result.retry_after_seconds - 0.001
            assert not counters.consume([check], dry_run=True)[0].passed
            clock.now = START + milliseconds / 1000 + result.retry_after_seconds
            assert counters.consume([check], dry_run=True)[0].passed
    for first in range(len(passed)):
        for last in range(first, len(passed)):
            stretch = passed[last][0] - passed[first][0]
            taken = sum(cost for _, cost in passed[first : last + 1])
            assert taken * seconds * 1000 <= burst * seconds * 1000 + amount * stretch


@st.composite
def any_ask(draw: st.DrawFn) -> LimitCheck:
    algorithm: Algorithm = draw(st.sampled_from(["sliding", "fixed", "bucket"]))
    burst = draw(st.integers(1, 20)) if algorithm == "bucket" else 0
    amount = draw(st.integers(1, 20))
    cost = draw(st.integers(1, burst or amount))
    return LimitCheck("ada", amount, draw(st.sampled_from([1, 5, 7, 60, 3600])), cost, algorithm, burst)


# Also a clock that is set back.
steps = st.lists(st.tuples(st.integers(-3_000, 90_000), st.integers(0, 40)), max_size=12)


@given(moments, any_ask(), steps)
@example(START, LimitCheck("ada", 5, 1), [(0, 5)])
@example(START + 0.7, LimitCheck("ada", 5, 1), [(0, 5), (600, 2)])
@example(START, LimitCheck("ada", 3, 60, 1, "fixed"), [(59_999, 1)])
@example(START + 61, LimitCheck("ada", 2, 60), [(0, 2), (-2_000, 1)])
def test_all_is_free_when_it_is_said_to_be_and_not_a_moment_earlier(
    now: float, check: LimitCheck, history: Sequence[tuple[int, int]]
) -> None:
    counters, clock = counters_at(now)
    for wait_milliseconds, tries in history:
        clock.now += wait_milliseconds / 1000
        passed_of(counters, check, tries)
    came_at = clock.now
    result = counters.consume([check])[0]

    def at(seconds: float) -> LimitResult:
        clock.now = came_at + seconds
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
def test_a_clock_set_back_neither_locks_out_nor_gives_anew(algorithm: Any) -> None:
    counters, clock = counters_at()
    check = LimitCheck("ada", 3, 60, 1, algorithm, 3)
    assert passed_of(counters, check, 5) == 3
    clock.now -= 30
    assert passed_of(counters, check, 5) == 0
    clock.now -= 86_400
    assert passed_of(counters, check, 5) == 3


def test_long_keys_are_counted_apart_and_not_stored_as_they_are() -> None:
    counters = LocalCounters(lambda: 1000.0)
    long = [f"user::{'x' * 8000}{number}" for number in range(3)]
    for key in long:
        assert [counters.consume([LimitCheck(key, 2, 60)])[0].passed for _ in range(3)] == [True, True, False]
    assert all(sys.getsizeof(key) < 300 for key in counters._states)
    counters.clear(long[0])
    assert [counters.consume([LimitCheck(key, 2, 60)])[0].passed for key in long] == [True, False, False]
