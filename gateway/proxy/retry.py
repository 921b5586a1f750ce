"""Whether a request may be sent again, and when: only where that is safe, and never so often that it makes an outage
worse."""

from __future__ import annotations

from collections.abc import Callable

from gateway.errors import UpstreamConnectError, UpstreamConnectTimeout, UpstreamError, UpstreamNotReached
from gateway.proxy.request_body import RequestBody

IDEMPOTENT = frozenset(["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "PROPFIND", "REPORT", "SEARCH"])  # RFC 9110 9.2.2

BASE_SECONDS = 0.025
MAX_SECONDS = 0.5
# So many retries are saved up: a service that is asked seldom may be asked twice.
MOST_SAVED = 10.0


class RetryBudget:
    """A share of a service's requests may be sent again, and a few more: without a bound, retries would multiply the
    load of a service that fails for having too much of it."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._saved = MOST_SAVED if share else 0.0

    def earn(self) -> None:
        """A request has come."""
        self._saved = min(MOST_SAVED, self._saved + self._share)

    @property
    def has_one(self) -> bool:
        """Whether there is a retry left."""
        return self._saved >= 1

    def spend(self) -> bool:
        """Whether there is a retry left; takes it."""
        if not self.has_one:
            return False
        self._saved -= 1
        return True


def is_safe_to_send_again(error: UpstreamError, method: str, body: bytes | RequestBody) -> bool:
    """Whether the service can't have seen the request, or may see it twice (RFC 9110 9.2.2); and whether the body is
    still at hand. A service that is slow to answer is not asked again: it would only have more to do."""
    is_at_hand = isinstance(body, bytes) or body.received == 0
    if isinstance(error, UpstreamNotReached | UpstreamConnectTimeout):
        return is_at_hand
    return isinstance(error, UpstreamConnectError) and method in IDEMPOTENT and isinstance(body, bytes)


def backoff_seconds(attempts: int, chance: Callable[[], float]) -> float:
    """How long to wait before the next attempt, after so many: anything from nothing to twice as long each time (full
    jitter), so that those who failed together don't come back together."""
    longest: float = BASE_SECONDS * 2**attempts
    return chance() * min(MAX_SECONDS, longest)
