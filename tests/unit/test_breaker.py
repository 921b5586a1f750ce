"""The breaker: when it opens, who tries, and how long it stays open."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.config import BreakerSettings
from gateway.proxy.breaker import MAX_REST_SECONDS, Breaker


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def breaker(**settings: Any) -> tuple[Breaker, Clock]:
    clock = Clock()
    return Breaker(BreakerSettings(**settings), clock), clock


def fail(one: Breaker, times: int = 1) -> bool:
    """Whether the last of so many failing requests opened it."""
    opened = False
    for _ in range(times):
        one.begin()
        opened = one.failed()
    return opened


def succeed(one: Breaker, times: int = 1) -> None:
    for _ in range(times):
        one.begin()
        one.succeeded()


def test_it_opens_after_failures_in_a_row_and_not_before() -> None:
    one, _ = breaker(failures=3)
    assert not fail(one, 2)
    succeed(one)
    assert not fail(one, 2)
    assert one.allows()
    assert fail(one)
    assert not one.allows()
    assert one.seconds_until_next_try() == 1


def test_it_opens_by_the_share_of_failures_too() -> None:
    one, clock = breaker(failures=100, failure_ratio=0.5, min_requests=10, window_seconds=10)
    opened = []
    for _ in range(10):
        opened.append(fail(one))
        succeed(one)
    # The first one that succeeded before anything failed is not counted; at ten requests half of them have failed.
    assert opened.count(True) == 1
    one, clock = breaker(failures=100, failure_ratio=0.5, min_requests=10, window_seconds=10)
    for _ in range(20):
        # The same share, spread over so long a time that it never is ten requests.
        assert not fail(one)
        succeed(one)
        clock.now += 5


def test_a_good_share_keeps_it_closed() -> None:
    one, _ = breaker(failures=100, failure_ratio=0.5, min_requests=10)
    for _ in range(50):
        assert not fail(one)
        succeed(one, 3)


def test_half_open_lets_one_request_try_whose_outcome_decides() -> None:
    one, clock = breaker(failures=1, open_seconds=2)
    fail(one)
    clock.now += 1.9
    assert not one.allows()
    clock.now += 0.1
    assert one.allows()
    one.begin()
    assert not one.allows()
    one.succeeded()
    assert one.allows()
    assert not one.is_open


def test_each_time_that_it_fails_again_it_stays_open_twice_as_long_up_to_a_bound() -> None:
    one, clock = breaker(failures=1, open_seconds=1, max_open_seconds=5)
    waits = []
    for _ in range(5):
        assert fail(one)
        waits.append(one.seconds_until_next_try())
        clock.now += waits[-1]
        assert one.allows()
    assert waits == [1, 2, 4, 5, 5]
    succeed(one)
    assert fail(one)
    assert one.seconds_until_next_try() == 1


def test_requests_that_were_under_way_when_it_opened_change_nothing() -> None:
    one, _ = breaker(failures=2)
    assert fail(one, 2)
    assert not one.failed()
    assert one.seconds_until_next_try() == 1


def test_one_that_left_while_it_tried_lets_another_try() -> None:
    one, clock = breaker(failures=1)
    fail(one)
    clock.now += 1
    one.begin()
    one.abandoned()
    assert one.allows()


def test_it_remembers_no_more_than_its_window() -> None:
    one, clock = breaker(window_seconds=10)
    fail(one)
    for _ in range(5000):
        succeed(one)
        clock.now += 0.01
    # After its window the failure is forgotten, and then there is nothing to count.
    assert len(one._recent) + len(one._failures) == 0
    for _ in range(5000):
        fail(one)
        succeed(one, 3)
        clock.now += 0.01
    assert len(one._recent) <= 4100


def test_it_can_be_switched_off() -> None:
    one, _ = breaker(failures=0)
    assert not fail(one, 100)
    assert one.allows()


@pytest.mark.parametrize(("asked", "kept"), [(5, 5), (10_000, MAX_REST_SECONDS)])
def test_a_target_rests_as_long_as_it_asks_within_bounds(asked: float, kept: float) -> None:
    one, clock = breaker()
    assert not one.is_resting
    one.rest(asked)
    clock.now += kept - 0.1
    assert one.is_resting
    assert one.allows()
    clock.now += 0.2
    assert not one.is_resting


def test_its_state_is_told_in_a_word() -> None:
    one, clock = breaker(failures=1, open_seconds=2)
    states = [one.state]
    fail(one)
    states.append(one.state)
    clock.now += 2
    states.append(one.state)
    one.begin()
    states.append(one.state)
    fail(one)
    states.append(one.state)
    clock.now += 4
    succeed(one)
    states.append(one.state)
    assert states == ["closed", "open", "half-open", "half-open", "open", "closed"]


def test_it_opens_after_answers_that_broke_off_with_none_whole_in_between() -> None:
    one, clock = breaker(failures=3)

    def cut() -> bool:
        succeed(one)
        return one.was_cut()

    assert not cut()
    assert not cut()
    one.was_whole()
    assert [cut(), cut(), cut()] == [False, False, True]
    assert not one.allows()
    clock.now += 1
    # Its beginning closes the breaker, its end opens it again.
    assert cut()
    assert not one.allows()
    never, _ = breaker(failures=0)
    assert not any(never.was_cut() for _ in range(10))
