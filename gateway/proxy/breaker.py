"""A circuit breaker for one target: after repeated failures the target gets no requests for a while, then one probe."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Literal

from gateway.config import BreakerSettings

# The longest pause that a target can request by Retry-After (RFC 9110 10.2.3).
MAX_REST_SECONDS = 30.0
# If the probe is a streamed upload, another probe may be sent after this time: the response to an upload comes when the
# upload has ended, perhaps hours later.
UPLOAD_PROBE_SECONDS = 0.5
# If the breakers of all targets of a service are open, another probe may be sent after this time, whatever the first
# probe is. It may be a long poll, to which a working service responds late.
LONE_PROBE_SECONDS = 1.0

State = Literal["closed", "open", "half-open"]


class Breaker:
    """Opens after a number of consecutive failures, or if too large a share of the recent requests failed. After its
    open time it is half-open: one request, the probe, is sent, and its outcome closes the breaker or opens it again.
    `clock` is monotonic seconds.

    Each attempt holds a permit: the number of the breaker's state at the time of `acquire`. The outcome of an attempt
    counts only while that state lasts, so an old failure can't reopen the breaker and an old success can't close it.
    Each permit is returned once, by `succeeded`, `failed` or `abandoned`. After `succeeded`, `body_completed` or
    `body_truncated` may follow.

    If a probe takes long, a second probe may be sent. A later failure of the first probe does not count then. Its
    success still counts, as it was sent after the breaker had opened."""

    def __init__(self, settings: BreakerSettings, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        # The number of the current state.
        self._number = 0
        self._consecutive_failures = 0
        self._consecutive_truncations = 0
        # The times of failures and of all requests in the window, for the share of failures.
        self._failures: deque[float] = deque()
        self._recent: deque[float] = deque()
        # How often the breaker has opened since it was last closed.
        self._openings = 0
        self._opened_at = 0.0
        # The target is known to fail since this time: when the latest failed probe was sent (perhaps long before it
        # failed), or, before the first probe, when the breaker opened.
        self._failing_since = 0.0
        # The number of the state in which the breaker opened. The permits of probes are larger.
        self._opening_number = 0
        # When the latest probe was sent; None if no probe is in flight.
        self._probe_began: float | None = None
        self._is_probe_streamed = False
        self._rest_until = 0.0

    @property
    def is_open(self) -> bool:
        """Whether the breaker is open or half-open."""
        return self._openings > 0

    @property
    def opened_at(self) -> float | None:
        """When the breaker opened last; None while it is closed."""
        return self._opened_at if self._openings else None

    @property
    def is_resting(self) -> bool:
        """Whether the target has asked for a pause by Retry-After that is not over yet. During the pause the target is
        still used if there is no other one."""
        return self._rest_until > 0 and self._clock() < self._rest_until

    @property
    def state(self) -> State:
        """`open`: nothing is sent. `half-open`: a probe may be sent, or has been sent."""
        if not self._openings:
            return "closed"
        return "half-open" if self._probe_began is not None or self._clock() >= self._open_until() else "open"

    def allows(self, is_alone: bool = False) -> bool:
        """Whether a request may be sent now. `is_alone`: the breakers of all other targets of the service are open."""
        return not self._openings or self._clock() >= max(self._open_until(is_alone), self._probe_until(is_alone))

    def seconds_until_next_try(self, is_alone: bool = False) -> float:
        return max(0.0, self._open_until(is_alone) - self._clock()) if self._openings else 0.0

    def acquire(self, is_streamed: bool = False) -> int:
        """The permit for a request that is about to be sent. While the breaker is open, the request is the probe.
        `is_streamed` is whether the request's body is still being received: a slow client may then delay the
        outcome."""
        if self._openings:
            self._number += 1
            self._probe_began, self._is_probe_streamed = self._clock(), is_streamed
        return self._number

    def succeeded(self, permit: int) -> None:
        if self._openings:
            if permit > self._opening_number:
                # The latest probe's permit stays valid, so that the end of its response's body counts in the new state.
                self._close(self._number if permit == self._number else self._number + 1)
            return
        if permit != self._number:
            return
        self._consecutive_failures = 0
        if self._failures:
            # Without failures there is no share to calculate, so successes are not recorded.
            now = self._clock()
            self._recent.append(now)
            self._forget_before(now - self._settings.window_seconds)

    def failed(self, permit: int) -> bool:
        """Records a failed attempt. Returns whether the failure opened the breaker."""
        if permit != self._number or not self._settings.failures:
            return False
        now = self._clock()
        if self._openings:
            self._open(now, now if self._probe_began is None else self._probe_began)
            return True
        self._consecutive_failures += 1
        self._failures.append(now)
        self._recent.append(now)
        self._forget_before(now - self._settings.window_seconds)
        if self._has_failed_enough():
            self._open(now, now)
            return True
        return False

    def abandoned(self, permit: int) -> None:
        """Records that an attempt ended without a result about the target: the client left, for example."""
        if permit == self._number:
            self._probe_began = None

    def body_completed(self, permit: int) -> None:
        if permit == self._number:
            self._consecutive_truncations = 0

    def body_truncated(self, permit: int) -> bool:
        """Records that a response ended early, after its head had counted as a success. Returns whether this opened the
        breaker."""
        if permit != self._number or not self._settings.failures:
            return False
        self._consecutive_truncations += 1
        if self._consecutive_truncations < self._settings.failures:
            return False
        now = self._clock()
        self._open(now, now)
        return True

    def recovered(self, seen_at: float) -> bool:
        """Records that the target was seen to work at `seen_at`, not by a request of this worker but by a health check,
        a connection attempt or another worker. Closes the breaker unless the target has failed since then. Returns
        whether this closed the breaker."""
        if not self._openings or seen_at <= self._failing_since:
            return False
        # With the new number, the outcome of a probe that is in flight no longer counts.
        self._close(self._number + 1)
        return True

    def rest(self, seconds: float) -> None:
        """Records that the target has asked for a pause of so many seconds."""
        self._rest_until = self._clock() + min(seconds, MAX_REST_SECONDS)

    def _forget_before(self, time: float) -> None:
        for times in (self._failures, self._recent):
            while times and times[0] < time:
                times.popleft()
        if not self._failures:
            self._recent.clear()

    def _has_failed_enough(self) -> bool:
        settings, requests = self._settings, len(self._recent)
        if self._consecutive_failures >= settings.failures:
            return True
        return requests >= settings.min_requests and len(self._failures) >= settings.failure_ratio * requests

    def _open_until(self, is_alone: bool = False) -> float:
        """When the next probe may be sent. The open time begins when the breaker opens, and doubles with each failed
        probe. With `is_alone` the open time does not double, and it begins when the failed probe was sent: no other
        target could serve the requests, so a longer pause would only make clients wait after the target is back."""
        settings = self._settings
        if is_alone:
            return self._failing_since + min(settings.open_seconds, settings.max_open_seconds)
        return self._opened_at + min(
            settings.open_seconds * 2.0 ** min(self._openings - 1, 20), settings.max_open_seconds
        )

    def _probe_until(self, is_alone: bool) -> float:
        """When another probe may be sent although one is in flight."""
        if self._probe_began is None:
            return -math.inf
        if self._is_probe_streamed:
            return self._probe_began + UPLOAD_PROBE_SECONDS
        return self._probe_began + LONE_PROBE_SECONDS if is_alone else math.inf

    def _open(self, now: float, failing_since: float) -> None:
        self._number += 1
        self._opening_number = self._number
        self._openings += 1
        self._opened_at, self._failing_since = now, failing_since
        self._probe_began = None

    def _close(self, number: int) -> None:
        self._number = number
        self._openings = self._consecutive_failures = 0
        self._probe_began = None
        self._failures.clear()
        self._recent.clear()
