"""The rate limit headers of a response: X-RateLimit-*, and those of draft-ietf-httpapi-ratelimit-headers."""

from __future__ import annotations

import math

from flask import Flask, Response

from gateway import context
from gateway.rate_limiting.models import LimitCheck, LimitResult, RateLimitState
from gateway.responses import put_fields
from gateway.telemetry.metrics.registry import Metrics

OBSERVED_HEADER = "X-RateLimit-Observed"
HEADERS = frozenset("x-ratelimit-limit x-ratelimit-remaining x-ratelimit-reset ratelimit-policy ratelimit".split())


def install(app: Flask, metrics: Metrics) -> None:
    """Registers the stage: it adds the headers to every limited response, and counts exceeded limits in the metrics."""

    def add_headers(response: Response) -> Response:
        exchange = context.current_or_none()
        if exchange is None or not exchange.limits.results:
            return response
        limits = exchange.limits
        put_fields(response.headers, headers_of(limits), HEADERS)
        if not limits.passed:
            if limits.observed:
                response.headers[OBSERVED_HEADER] = ", ".join(f'"{name}"' for name in violated_policies(limits))
            elif exchange.error_code == "quota_exceeded":
                response.headers["Retry-After"] = str(retry_after(limits))
            if exchange.policy is not None:
                mode = "observe" if limits.observed else "enforce"
                metrics.quota_refusals.labels(exchange.policy.service, exchange.policy.name, mode).inc()
        return response

    app.after_request(add_headers)


def headers_of(limits: RateLimitState) -> list[tuple[str, str]]:
    name, result = nearest(limits)
    reset = math.ceil(result.reset_seconds)
    return [
        ("X-RateLimit-Limit", str(result.capacity)),
        ("X-RateLimit-Remaining", str(result.remaining)),
        ("X-RateLimit-Reset", str(reset)),
        ("RateLimit-Policy", ", ".join(map(policy_item, limits.names, limits.checks, limits.results))),
        ("RateLimit", f'"{name}";r={result.remaining};t={reset}'),
    ]


def policy_item(name: str, check: LimitCheck, result: LimitResult) -> str:
    """A member of RateLimit-Policy: the capacity `q` and the window `w` in seconds. The window of a bucket is the time
    in which an empty one fills up."""
    window = check.window_seconds
    if check.algorithm == "bucket":
        window = math.ceil(check.burst * check.window_seconds / check.amount)
    return f'"{name}";q={result.capacity};w={window}'


def nearest(limits: RateLimitState) -> tuple[str, LimitResult]:
    """The exceeded limit; if no limit is exceeded, the limit with the smallest remaining share."""
    if len(limits.results) == 1:
        return limits.names[0], limits.results[0]
    return min(
        zip(limits.names, limits.results, strict=True),
        key=lambda item: (item[1].passed, item[1].remaining / max(1, item[1].capacity)),
    )


def retry_after(limits: RateLimitState) -> int:
    """The whole seconds after which all limits pass again, rounded up so that no retry is too early (RFC 9110
    10.2.3)."""
    return max([1, *(math.ceil(result.retry_after_seconds) for result in limits.results)])


def violated_policies(limits: RateLimitState) -> list[str]:
    """The names of the exceeded limits; none where Redis failed and nothing could be counted."""
    return [name for name, result in zip(limits.names, limits.results, strict=False) if not result.passed]
