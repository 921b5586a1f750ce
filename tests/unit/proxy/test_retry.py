"""Which failures allow another attempt, and how many there may be."""

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
def test_only_what_is_safe_is_sent_again(error: UpstreamError, method: str, body: bytes, expected: bool) -> None:
    assert may_retry(error, method, body) is expected


def test_no_more_than_the_share_of_requests_is_sent_again() -> None:
    budget = RetryBudget(0.2)
    spent = 0
    for _ in range(1000):
        budget.earn()
        spent += budget.spend()
    assert 208 <= spent <= 210
    assert not RetryBudget(0).spend()


def test_the_wait_grows_and_is_left_to_chance() -> None:
    longest = [backoff_seconds(attempts, lambda: 1.0) for attempts in range(1, 8)]
    assert longest[0] == 2 * BASE_SECONDS
    assert longest == sorted(longest)
    assert longest[-1] == MAX_SECONDS
    assert backoff_seconds(3, lambda: 0.0) == 0
