"""A breaker: leaves a target that keeps failing alone for a while, then lets one request try."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from typing import Literal

from gateway.config import BreakerSettings

# A target that asks for a pause (RFC 9110 10.2.3) is not believed longer than that.
MAX_REST_SECONDS = 30.0
# How long a probe may be the only request to its target. An upload that is streamed: its response comes when it has
# ended, which may be hours later. Any other, where the service has no other target to serve its clients: the probe may
# be a long poll, of a service that works.
UPLOAD_PROBE_SECONDS = 0.5
LONE_PROBE_SECONDS = 1.0

State = Literal["closed", "open", "half-open"]


class Breaker:
    """Opens after so many failures in a row, or where too large a share of the last requests failed. When its time is
    over it is half-open: one request, the probe, is sent, and its outcome decides. `clock` is monotonic seconds.

    Each attempt holds a permit, which is the number of the state that the breaker was in when the permit was given: the
    outcome of an attempt counts only while that state lasts. So a failure of an older request can't open the breaker
    again, and an older success can't close it. Each permit is to be returned, by `succeeded`, `failed` or `abandoned`;
    after `succeeded`, `was_whole` or `was_cut` may follow.

    A probe that takes long makes room for another one. Then the failure of the first one does not count any more; its
    success does, as it was sent after the breaker had opened."""

    def __init__(self, settings: BreakerSettings, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        self._number = 0
        self._in_a_row = 0
        self._cut_in_a_row = 0
        self._failures: deque[float] = deque()
        self._recent: deque[float] = deque()
        # How often it has opened without having been closed since.
        self._openings = 0
        self._opened_at = 0.0
        # Since when the target is known to fail: when the probe was sent that failed, which may have taken long to.
        self._failing_since = 0.0
        # The number with which it opened: the permits of probes are larger.
        self._opening_number = 0
        # When the latest probe was sent; None while there is none.
        self._probe_began: float | None = None
        self._is_probe_streamed = False
        self._rest_until = 0.0

    @property
    def is_open(self) -> bool:
        """Whether it is open or half-open."""
        return self._openings > 0

    @property
    def opened_at(self) -> float | None:
        """When it opened the last time; None while it is closed."""
        return self._opened_at if self._openings else None

    @property
    def is_resting(self) -> bool:
        """Whether the target itself asked to be left alone; it is still taken where there is no other."""
        return self._rest_until > 0 and self._clock() < self._rest_until

    @property
    def state(self) -> State:
        """`open`: nothing is sent; `half-open`: one request may try, or is trying."""
        if not self._openings:
            return "closed"
        return "half-open" if self._probe_began is not None or self._clock() >= self._open_until() else "open"

    def allows(self, is_alone: bool = False) -> bool:
        """Whether a request may be sent now. `is_alone`: the service has no other target to send it to."""
        return not self._openings or self._clock() >= max(self._open_until(is_alone), self._probe_until(is_alone))

    def seconds_until_next_try(self, is_alone: bool = False) -> float:
        return max(0.0, self._open_until(is_alone) - self._clock()) if self._openings else 0.0

    def acquire(self, is_streamed: bool = False) -> int:
        """The permit for a request that is sent now. While the breaker is open, the request is the probe.
        `is_streamed`: its body is not at hand, so that it may take long through no fault of the target."""
        if self._openings:
            self._number += 1
            self._probe_began, self._is_probe_streamed = self._clock(), is_streamed
        return self._number

    def succeeded(self, permit: int) -> None:
        if self._openings:
            if permit > self._opening_number:
                # The latest probe's number stays: how the body of its response ends belongs to the state that begins.
                self._close(self._number if permit == self._number else self._number + 1)
            return
        if permit != self._number:
            return
        self._in_a_row = 0
        if self._failures:
            # Shares are only counted while there is something to count.
            now = self._clock()
            self._recent.append(now)
            self._forget_before(now - self._settings.window_seconds)

    def failed(self, permit: int) -> bool:
        """Whether it opened by this failure."""
        if permit != self._number or not self._settings.failures:
            return False
        now = self._clock()
        if self._openings:
            self._open(now, now if self._probe_began is None else self._probe_began)
            return True
        self._in_a_row += 1
        self._failures.append(now)
        self._recent.append(now)
        self._forget_before(now - self._settings.window_seconds)
        if self._has_failed_enough():
            self._open(now, now)
            return True
        return False

    def abandoned(self, permit: int) -> None:
        """The request ended without telling anything about the target: its client left, for example."""
        if permit == self._number:
            self._probe_began = None

    def was_whole(self, permit: int) -> None:
        """A response came to its end."""
        if permit == self._number:
            self._cut_in_a_row = 0

    def was_cut(self, permit: int) -> bool:
        """A response ended early, after its beginning had counted as a success; whether the breaker opened by this."""
        if permit != self._number or not self._settings.failures:
            return False
        self._cut_in_a_row += 1
        if self._cut_in_a_row < self._settings.failures:
            return False
        now = self._clock()
        self._open(now, now)
        return True

    def recovered(self, seen_at: float) -> bool:
        """Closes it, where the target was seen to work at that moment, by other means than a request of this worker,
        and is not known to have failed since. Whether it was closed by this."""
        if not self._openings or seen_at <= self._failing_since:
            return False
        # Whoever tries at the moment has nothing to decide any more.
        self._close(self._number + 1)
        return True

    def rest(self, seconds: float) -> None:
        """The target asks for a pause."""
        self._rest_until = self._clock() + min(seconds, MAX_REST_SECONDS)

    def _forget_before(self, moment: float) -> None:
        for moments in (self._failures, self._recent):
            while moments and moments[0] < moment:
                moments.popleft()
        if not self._failures:
            self._recent.clear()

    def _has_failed_enough(self) -> bool:
        settings, requests = self._settings, len(self._recent)
        if self._in_a_row >= settings.failures:
            return True
        return requests >= settings.min_requests and len(self._failures) >= settings.failure_ratio * requests

    def _open_until(self, is_alone: bool = False) -> float:
        """When the next request may try. A target beside which there is no other to ask is not left alone longer each
        time, and a probe that took long to fail was pause enough: nobody would gain by more, and its clients would wait
        after it is back."""
        settings = self._settings
        if is_alone:
            return self._failing_since + min(settings.open_seconds, settings.max_open_seconds)
        return self._opened_at + min(
            settings.open_seconds * 2.0 ** min(self._openings - 1, 20), settings.max_open_seconds
        )

    def _probe_until(self, is_alone: bool) -> float:
        """Until when no other request may be the probe."""
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
        self._openings = self._in_a_row = 0
        self._probe_began = None
        self._failures.clear()
        self._recent.clear()
