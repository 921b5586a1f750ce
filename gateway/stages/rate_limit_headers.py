"""What a client is told of its quota: X-RateLimit-* and the fields of draft-ietf-httpapi-ratelimit-headers."""

from __future__ import annotations

import math

from flask import Flask, Response

from gateway import context
from gateway.rate_limiting.models import LimitCheck, LimitResult, RateLimitState
from gateway.responses import put_fields
from gateway.telemetry.metrics.registry import Metrics

OBSERVED_FIELD = "X-RateLimit-Observed"
FIELDS = frozenset("x-ratelimit-limit x-ratelimit-remaining x-ratelimit-reset ratelimit-policy ratelimit".split())


def install(app: Flask, metrics: Metrics) -> None:
    """Adds the fields to every limited answer, and counts those that are over their quota."""

    def tell_quota(response: Response) -> Response:
        exchange = context.current_or_none()
        if exchange is None or not exchange.limits.results:
            return response
        quota = exchange.limits
        put_fields(response.headers, fields_of(quota), FIELDS)
        if not quota.passed:
            if quota.observed:
                response.headers[OBSERVED_FIELD] = ", ".join(f'"{name}"' for name in violated_policies(quota))
            elif exchange.error_code == "quota_exceeded":
                response.headers["Retry-After"] = str(retry_after(quota))
            if exchange.policy is not None:
                mode = "observe" if quota.observed else "enforce"
                metrics.quota_refusals.labels(exchange.policy.service, exchange.policy.name, mode).inc()
        return response

    app.after_request(tell_quota)


def fields_of(quota: RateLimitState) -> list[tuple[str, str]]:
    name, result = nearest(quota)
    reset = math.ceil(result.reset_seconds)
    return [
        ("X-RateLimit-Limit", str(result.capacity)),
        ("X-RateLimit-Remaining", str(result.remaining)),
        ("X-RateLimit-Reset", str(reset)),
        ("RateLimit-Policy", ", ".join(map(policy_item, quota.names, quota.checks, quota.results))),
        ("RateLimit", f'"{name}";r={result.remaining};t={reset}'),
    ]


def policy_item(name: str, check: LimitCheck, result: LimitResult) -> str:
    """A member of RateLimit-Policy: how much in how many seconds; of a bucket, what it holds and how long that takes
    to come in."""
    window = check.window_seconds
    if check.algorithm == "bucket":
        window = math.ceil(check.burst * check.window_seconds / check.amount)
    return f'"{name}";q={result.capacity};w={window}'


def nearest(quota: RateLimitState) -> tuple[str, LimitResult]:
    """The limit that refused, or has the smallest share left."""
    if len(quota.results) == 1:
        return quota.names[0], quota.results[0]
    return min(
        zip(quota.names, quota.results, strict=True),
        key=lambda item: (item[1].passed, item[1].remaining / max(1, item[1].capacity)),
    )


def retry_after(quota: RateLimitState) -> int:
    """Whole seconds until all limits would pass, rounded up: never too early (RFC 9110 10.2.3)."""
    return max([1, *(math.ceil(result.retry_after_seconds) for result in quota.results)])


def violated_policies(quota: RateLimitState) -> list[str]:
    # There are no results where nothing could be counted.
    return [name for name, result in zip(quota.names, quota.results, strict=False) if not result.passed]
