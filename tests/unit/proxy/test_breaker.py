"""The breaker: when it opens, which requests are probes, and how long it stays open."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    rule,
    run_state_machine_as_test,
)

from gateway.config import BreakerSettings
from gateway.proxy.breaker import LONE_PROBE_SECONDS, MAX_REST_SECONDS, UPLOAD_PROBE_SECONDS, Breaker


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def breaker(**settings: Any) -> tuple[Breaker, Clock]:
    clock = Clock()
    return Breaker(BreakerSettings(**settings), clock), clock


def fail(one: Breaker, times: int = 1) -> bool:
    """Lets so many requests fail. Returns whether the last failure opened the breaker."""
    opened = False
    for _ in range(times):
        opened = one.failed(one.acquire())
    return opened


def succeed(one: Breaker, times: int = 1) -> None:
    for _ in range(times):
        one.succeeded(one.acquire())


def test_consecutive_failures_open_it() -> None:
    one, _ = breaker(failures=3)
    assert not fail(one, 2)
    succeed(one)
    assert not fail(one, 2)
    assert one.allows()
    assert fail(one)
    assert not one.allows()
    assert one.seconds_until_next_try() == 1


def test_the_share_of_failures_opens_it() -> None:
    one, clock = breaker(failures=100, failure_ratio=0.5, min_requests=10, window_seconds=10)
    opened = []
    for _ in range(10):
        opened.append(fail(one))
        succeed(one)
    # Successes before the first failure don't count. The breaker opens at the tenth request that counts, when half of
    # them have failed.
    assert opened.count(True) == 1
    one, clock = breaker(failures=100, failure_ratio=0.5, min_requests=10, window_seconds=10)
    for _ in range(20):
        # The share of failures is the same, but there are never ten requests within the window.
        assert not fail(one)
        succeed(one)
        clock.now += 5


def test_a_small_share_of_failures_does_not_open_it() -> None:
    one, _ = breaker(failures=100, failure_ratio=0.5, min_requests=10)
    for _ in range(50):
        assert not fail(one)
        succeed(one, 3)


def test_half_open_allows_one_probe_which_decides() -> None:
    one, clock = breaker(failures=1, open_seconds=2)
    fail(one)
    clock.now += 1.9
    assert not one.allows()
    clock.now += 0.1
    assert one.allows()
    probe = one.acquire()
    clock.now += 1000
    assert not one.allows()
    one.succeeded(probe)
    assert one.allows()
    assert not one.is_open


def test_each_failed_probe_doubles_the_open_time_up_to_a_maximum() -> None:
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


def test_outcomes_of_requests_sent_before_it_opened_do_not_count() -> None:
    one, clock = breaker(failures=2)
    older = [one.acquire() for _ in range(4)]
    assert fail(one, 2)
    # The outcome of an older request arrives while the breaker is open, while a probe is in flight, and after the
    # breaker has closed.
    assert not one.failed(older[0])
    assert one.seconds_until_next_try() == 1
    one.succeeded(older[1])
    assert one.is_open
    clock.now += 1
    probe = one.acquire()
    one.failed(older[2])
    one.succeeded(older[3])
    one.abandoned(older[0])
    one.body_truncated(older[1])
    assert one.is_open
    assert not one.allows()
    one.succeeded(probe)
    assert not any(one.failed(permit) for permit in older * 3)
    assert one.allows()


def test_an_abandoned_probe_allows_another() -> None:
    one, clock = breaker(failures=1)
    fail(one)
    clock.now += 1
    one.abandoned(one.acquire())
    assert one.allows()


def test_the_open_time_does_not_grow_without_another_target() -> None:
    one, clock = breaker(failures=1, open_seconds=1)
    for _ in range(5):
        assert fail(one)
        assert not one.allows(is_alone=True)
        assert one.seconds_until_next_try(is_alone=True) == 1
        clock.now += 1
        assert one.allows(is_alone=True)
    assert not one.allows()
    assert one.seconds_until_next_try() == 15


@pytest.mark.parametrize(
    ("is_streamed", "is_alone", "seconds"),
    [
        (True, False, UPLOAD_PROBE_SECONDS),
        (True, True, UPLOAD_PROBE_SECONDS),
        (False, True, LONE_PROBE_SECONDS),
        (False, False, None),
    ],
)
def test_a_slow_probe_allows_another(is_streamed: bool, is_alone: bool, seconds: float | None) -> None:
    one, clock = breaker(failures=1)
    fail(one)
    clock.now += 1
    first = one.acquire(is_streamed)
    assert not one.allows(is_alone)
    if seconds is None:
        clock.now += 10_000
        assert not one.allows(is_alone)
        return
    clock.now += seconds
    assert one.allows(is_alone)
    second = one.acquire()
    # After a second probe was sent, a failure of the first one does not count. The first success counts, whichever
    # probe it is of.
    assert not one.failed(first)
    assert not one.allows(is_alone)
    third = one.acquire()
    one.succeeded(second)
    assert not one.is_open
    assert not one.failed(third)
    assert not one.failed(first)
    assert one.allows()


def test_without_another_target_the_open_time_counts_from_the_start_of_the_failed_probe() -> None:
    one, clock = breaker(failures=1, open_seconds=1)
    fail(one)
    clock.now += 1
    probe = one.acquire()
    sent_at = clock.now
    clock.now += 0.75
    one.failed(probe)
    assert not one.allows(is_alone=True)
    assert one.seconds_until_next_try(is_alone=True) == 0.25
    assert one.seconds_until_next_try() == 2
    clock.now += 0.25
    assert one.allows(is_alone=True)
    assert not one.allows()
    # Only a recovery that was seen after the failed probe was sent closes the breaker.
    assert not one.recovered(sent_at)
    assert one.recovered(sent_at + 0.5)


def test_a_recovery_seen_after_it_opened_closes_it() -> None:
    one, clock = breaker(failures=1, open_seconds=30)
    assert not one.recovered(clock.now)
    fail(one)
    assert one.opened_at == clock.now
    assert not one.recovered(clock.now - 1)
    assert not one.recovered(clock.now)
    clock.now += 30
    probe = one.acquire()
    assert one.recovered(clock.now)
    assert one.opened_at is None
    assert one.allows()
    # The recovery has closed the breaker, so the outcome of the probe does not count.
    assert not one.failed(probe)
    assert one.allows()
    # When the breaker opens again, its open time is the configured one, not a multiple.
    fail(one)
    assert one.seconds_until_next_try() == 30


def test_it_stores_no_more_than_its_window() -> None:
    one, clock = breaker(window_seconds=10)
    fail(one)
    for _ in range(5000):
        succeed(one)
        clock.now += 0.01
    # The window has passed, so the failure is dropped. Without a failure no successes are stored.
    assert len(one._recent) + len(one._failures) == 0
    for _ in range(5000):
        fail(one)
        succeed(one, 3)
        clock.now += 0.01
    assert len(one._recent) <= 4100


def test_zero_failures_disable_it() -> None:
    one, _ = breaker(failures=0)
    assert not fail(one, 100)
    assert one.allows()


@pytest.mark.parametrize(("requested", "applied"), [(5, 5), (10_000, MAX_REST_SECONDS)])
def test_a_target_rests_for_the_requested_time_up_to_a_maximum(requested: float, applied: float) -> None:
    one, clock = breaker()
    assert not one.is_resting
    one.rest(requested)
    clock.now += applied - 0.1
    assert one.is_resting
    assert one.allows()
    clock.now += 0.2
    assert not one.is_resting


def test_state_follows_failures_and_probes() -> None:
    one, clock = breaker(failures=1, open_seconds=2)
    states = [one.state]
    fail(one)
    states.append(one.state)
    clock.now += 2
    states.append(one.state)
    probe = one.acquire()
    states.append(one.state)
    one.failed(probe)
    states.append(one.state)
    clock.now += 4
    succeed(one)
    states.append(one.state)
    assert states == ["closed", "open", "half-open", "half-open", "open", "closed"]


def test_consecutive_truncated_bodies_open_it() -> None:
    one, clock = breaker(failures=3)

    def cut() -> bool:
        permit = one.acquire()
        one.succeeded(permit)
        return one.body_truncated(permit)

    assert not cut()
    assert not cut()
    whole = one.acquire()
    one.succeeded(whole)
    one.body_completed(whole)
    assert [cut(), cut(), cut()] == [False, False, True]
    assert not one.allows()
    clock.now += 1
    # The head of the response closes the breaker, its truncated body opens it again.
    assert cut()
    assert not one.allows()
    never, _ = breaker(failures=0)
    assert not any(never.body_truncated(never.acquire()) for _ in range(10))


@dataclass(frozen=True)
class Sent:
    """An attempt that has not ended. `opening` is the number of times that the breaker had opened before it."""

    permit: int
    opening: int
    is_probe: bool


class BreakerMachine(RuleBasedStateMachine):
    """Requests are sent and end in any order, with recoveries in between. Three invariants are checked. Only a probe of
    the current outage or a recovery closes the breaker. Only failures since the last closing open it. It refuses
    requests for a limited time only."""

    attempts: Bundle[Sent] = Bundle("attempts")

    def __init__(self) -> None:
        super().__init__()
        self.clock = Clock()
        self.breaker = Breaker(BreakerSettings(failures=2, open_seconds=1, max_open_seconds=4), self.clock)
        self.openings = 0
        self.running: list[Sent] = []

    @rule(target=attempts, is_streamed=st.booleans(), is_alone=st.booleans())
    def send(self, is_streamed: bool, is_alone: bool) -> Any:
        was_open = self.breaker.is_open
        if not self.breaker.allows(is_alone):
            return Sent(-1, 0, is_probe=False)
        sent = Sent(self.breaker.acquire(is_streamed), self.openings, was_open)
        self.running.append(sent)
        if was_open:
            # A second probe is allowed only after some time.
            assert not self.breaker.allows(is_alone)
        return sent

    @rule(sent=consumes(attempts), outcome=st.sampled_from(["failed", "succeeded", "abandoned", "cut", "whole"]))
    def end(self, sent: Sent, outcome: str) -> None:
        if sent not in self.running:
            return
        self.running.remove(sent)
        before = self.breaker.opened_at
        is_current = sent.is_probe and sent.opening == self.openings
        match outcome:
            case "failed":
                opened = self.breaker.failed(sent.permit)
            case "abandoned":
                self.breaker.abandoned(sent.permit)
                opened = False
            case _:
                self.breaker.succeeded(sent.permit)
                opened = outcome == "cut" and self.breaker.body_truncated(sent.permit)
                if outcome == "whole":
                    self.breaker.body_completed(sent.permit)
        after = self.breaker.opened_at
        if before is not None and after is None:
            assert is_current
            assert outcome in ("succeeded", "cut", "whole")
        if opened:
            assert outcome in ("failed", "cut")
            assert sent.opening == self.openings
            self.openings += 1
        elif before is not None and after is not None:
            # The failure did not open the breaker, so it must not extend the open time.
            assert after == before

    @rule(ago=st.floats(0, 3))
    def see_it_work(self, ago: float) -> None:
        opened_at = self.breaker.opened_at
        closed = self.breaker.recovered(self.clock.now - ago)
        if opened_at is None or opened_at < self.clock.now - ago:
            assert closed == (opened_at is not None)
        elif closed:
            # A recovery from before the opening closes the breaker only if it was seen after the failed probe was sent.
            assert self.breaker._failing_since < self.clock.now - ago

    @rule(seconds=st.sampled_from([0.1, 0.5, 1.0, 2.0, 10.0]))
    def wait(self, seconds: float) -> None:
        self.clock.now += seconds

    @invariant()
    def no_permit_is_lost(self) -> None:
        """However many requests are in flight, a service without another target gets a probe soon."""
        now, self.clock.now = self.clock.now, self.clock.now + 1 + LONE_PROBE_SECONDS
        assert self.breaker.allows(is_alone=True)
        if not any(sent.is_probe for sent in self.running):
            self.clock.now = now + 4
            assert self.breaker.allows()
        self.clock.now = now


def test_invariants_hold_for_requests_in_any_order() -> None:
    run_state_machine_as_test(
        BreakerMachine, settings=settings(max_examples=150, stateful_step_count=40, deadline=None)
    )
