"""Whether a request may be sent again, and when. A retry must be safe, and retries must not make an outage worse."""

from __future__ import annotations

from collections.abc import Callable

from gateway.errors import UpstreamConnectError, UpstreamConnectTimeout, UpstreamError, UpstreamNotReached
from gateway.proxy.request_body import RequestBody

IDEMPOTENT = frozenset(["GET", "HEAD", "OPTIONS", "PUT", "DELETE", "PROPFIND", "REPORT", "SEARCH"])  # RFC 9110 9.2.2

BASE_SECONDS = 0.025
MAX_SECONDS = 0.5
# Retries that a service with little traffic saves up: without them, its rare requests would have no retry.
MAX_SAVED_RETRIES = 10.0


class RetryBudget:
    """Allows retries for a share of a service's requests. Without a budget, retries would multiply the load of an
    overloaded service."""

    def __init__(self, share: float) -> None:
        self._share = share
        self._saved = MAX_SAVED_RETRIES if share else 0.0

    def earn(self) -> None:
        """Adds the share of one request. To be called once a request."""
        self._saved = min(MAX_SAVED_RETRIES, self._saved + self._share)

    @property
    def has_retry(self) -> bool:
        return self._saved >= 1

    def spend(self) -> bool:
        """Takes one retry from the budget. Returns False if none is left."""
        if not self.has_retry:
            return False
        self._saved -= 1
        return True


def may_retry(error: UpstreamError, method: str, body: bytes | RequestBody) -> bool:
    """Whether a request may be sent again after this error: either the service can't have seen the request, or the
    method is idempotent (RFC 9110 9.2.2) and the whole body is in memory. After a read timeout there is no retry, as it
    would add to the load of a slow service."""
    if isinstance(error, UpstreamNotReached | UpstreamConnectTimeout):
        return isinstance(body, bytes) or body.received == 0
    return isinstance(error, UpstreamConnectError) and method in IDEMPOTENT and isinstance(body, bytes)


def backoff_seconds(attempts: int, chance: Callable[[], float]) -> float:
    """Seconds to wait after so many attempts: exponential backoff with full jitter, so that requests that failed at the
    same time are not sent again at the same time."""
    longest: float = BASE_SECONDS * 2**attempts
    return chance() * min(MAX_SECONDS, longest)
