"""Which failures may be retried, how often, and after how long."""

from __future__ import annotations

import io

import pytest

from gateway.errors import (
    UpstreamConnectError,
    UpstreamConnectTimeout,
    UpstreamError,
    UpstreamNotReached,
    UpstreamProtocolError,
    UpstreamTimeout,
)
from gateway.proxy.request_body import RequestBody
from gateway.proxy.retry import BASE_SECONDS, MAX_SECONDS, RetryBudget, backoff_seconds, may_retry


def streamed(read: bool) -> RequestBody:
    body = RequestBody(io.BytesIO(b"x" * 100_000), 100_000, 10**6)
    if read:
        next(iter(body))
    return body


@pytest.mark.parametrize(
    ("error", "method", "body", "expected"),
    [
        (UpstreamNotReached(), "POST", b"x", True),
        (UpstreamConnectTimeout(), "POST", b"x", True),
        (UpstreamNotReached(), "POST", streamed(read=False), True),
        (UpstreamNotReached(), "PUT", streamed(read=True), False),
        (UpstreamConnectError(), "GET", b"", True),
        (UpstreamConnectError(), "PUT", b"x", True),
        (UpstreamConnectError(), "PUT", streamed(read=False), False),
        (UpstreamConnectError(), "POST", b"", False),
        (UpstreamConnectError(), "PATCH", b"", False),
        (UpstreamTimeout(), "GET", b"", False),
        (UpstreamProtocolError(), "GET", b"", False),
    ],
)
def test_only_safe_requests_are_retried(error: UpstreamError, method: str, body: bytes, expected: bool) -> None:
    assert may_retry(error, method, body) is expected


def test_retries_are_limited_to_a_share_of_requests() -> None:
    budget = RetryBudget(0.2)
    spent = 0
    for _ in range(1000):
        budget.earn()
        spent += budget.spend()
    assert 208 <= spent <= 210
    assert not RetryBudget(0).spend()


def test_backoff_is_exponential_with_full_jitter() -> None:
    longest = [backoff_seconds(attempts, lambda: 1.0) for attempts in range(1, 8)]
    assert longest[0] == 2 * BASE_SECONDS
    assert longest == sorted(longest)
    assert longest[-1] == MAX_SECONDS
    assert backoff_seconds(3, lambda: 0.0) == 0
