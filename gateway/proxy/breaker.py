"""A breaker: leaves a target that keeps failing alone for a while, then lets one request try."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Literal

from gateway.config import BreakerSettings

# A target that asks for a pause (RFC 9110 10.2.3) is not believed longer than that.
MAX_REST_SECONDS = 30.0

State = Literal["closed", "open", "half-open"]


class Breaker:
    """Opens after so many failures in a row, or where too large a share of the last requests failed. When its time is
    over it is half-open: one request tries, and its outcome decides. `clock` is monotonic seconds.

    Not locked: under threads a request more or less may get through, which does no harm."""

    def __init__(self, settings: BreakerSettings, clock: Callable[[], float]) -> None:
        self._settings = settings
        self._clock = clock
        self._in_a_row = 0
        self._cut_in_a_row = 0
        self._failures: deque[float] = deque()
        self._recent: deque[float] = deque()
        self._opened = 0
        self._open_until = 0.0
        self._trying = False
        self._rest_until = 0.0

    @property
    def is_open(self) -> bool:
        return self._opened > 0

    @property
    def is_resting(self) -> bool:
        """Whether the target itself asked to be left alone; it is still taken where there is no other."""
        return self._rest_until > 0 and self._clock() < self._rest_until

    @property
    def state(self) -> State:
        """`open`: nothing is sent; `half-open`: one request may try, or is trying."""
        if not self._opened:
            return "closed"
        return "half-open" if self._trying or self._clock() >= self._open_until else "open"

    def allows(self) -> bool:
        """Whether a request may be sent now."""
        if not self._opened:
            return True
        return not self._trying and self._clock() >= self._open_until

    def seconds_until_next_try(self) -> float:
        return max(0.0, self._open_until - self._clock()) if self._opened else 0.0

    def begin(self) -> None:
        """A request is sent. While the breaker is half-open it is the only one."""
        if self._opened:
            self._trying = True

    def succeeded(self) -> None:
        self._in_a_row = 0
        if self._opened:
            self._opened, self._trying = 0, False
            self._failures.clear()
            self._recent.clear()
        elif self._failures:
            # Shares are only counted while there is something to count.
            now = self._clock()
            self._recent.append(now)
            self._forget_before(now - self._settings.window_seconds)

    def failed(self) -> bool:
        """Whether it opened by this failure."""
        if not self._settings.failures:
            return False
        now = self._clock()
        self._in_a_row += 1
        self._failures.append(now)
        self._recent.append(now)
        self._forget_before(now - self._settings.window_seconds)
        is_half_open = self._opened and self._trying
        if is_half_open or (not self._opened and self._has_failed_enough()):
            self._open(now)
            return True
        return False

    def was_whole(self) -> None:
        """An answer came to its end."""
        self._cut_in_a_row = 0

    def was_cut(self) -> bool:
        """An answer ended early, after its beginning had counted as a success; whether it opened by this."""
        if not self._settings.failures:
            return False
        self._cut_in_a_row += 1
        if self._opened or self._cut_in_a_row < self._settings.failures:
            return False
        self._open(self._clock())
        return True

    def abandoned(self) -> None:
        """The request ended without telling anything about the target: its client left."""
        self._trying = False

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

    def _open(self, now: float) -> None:
        self._opened += 1
        self._trying = False
        seconds = self._settings.open_seconds * 2 ** min(self._opened - 1, 20)
        self._open_until = now + min(seconds, self._settings.max_open_seconds)
