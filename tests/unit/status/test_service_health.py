"""The state of a service on /status, and the reasons for it."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.status.service_health import health_of_service

HEALTHY = {"url": "http://a", "workers": 2, "health": "healthy", "unhealthy_in": 0}
CLOSED = {"breaker": "closed", "open_in": 0, "half_open_in": 0}
A = HEALTHY | CLOSED
NOT_CHECKED = A | {"health": "not checked"}
UNKNOWN = A | {"health": "unknown"}
UNHEALTHY = A | {"health": "unhealthy", "unhealthy_in": 1}
OPEN = A | {"health": "not checked", "breaker": "open", "open_in": 1, "half_open_in": 1}
NO_ANSWER = "it answered no request in the last 15 minutes"
NO_REQUEST = "in the last 15 minutes no request reached it and no health check passed"


@pytest.mark.parametrize(
    ("targets", "requests", "codes", "error_share", "state", "why"),
    [
        ([NOT_CHECKED], 0, {}, None, "unknown", [NO_REQUEST]),
        ([UNKNOWN], 0, {}, None, "unknown", [NO_REQUEST]),
        # Responses that come from the gateway itself say nothing about the service.
        ([NOT_CHECKED], 9, {"missing_token": 8, "quota_exceeded": 1}, 0.0, "unknown", None),
        ([A], 0, {}, None, "up", []),
        ([A, UNKNOWN], 0, {}, None, "up", []),
        ([NOT_CHECKED], 1, {}, 0.0, "up", []),
        ([NOT_CHECKED], 9, {"upstream_unreachable": 1}, 0.1, "up", []),
        ([NOT_CHECKED], 2, {"upstream_timeout": 2}, None, "failing", [NO_ANSWER]),
        ([NOT_CHECKED], 9, {}, 0.5, "partly failing", ["50% of the requests of the last minute failed"]),
        ([UNHEALTHY], 9, {}, 0.0, "failing", ["http://a fails its health checks in 1 of 2 workers"]),
        ([UNHEALTHY, A], 9, {}, 0.0, "partly failing", None),
        ([OPEN], 9, {}, 0.0, "failing", ["the breaker of http://a is open in 2 of 2 workers"]),
        ([OPEN | {"workers": 1, "half_open_in": 0}], 9, {}, 0.0, "failing", ["the breaker of http://a is open"]),
    ],
)  # fmt: skip
def test_state_and_reasons(
    targets: list[dict[str, Any]],
    requests: int,
    codes: dict[str, int],
    error_share: float | None,
    state: str,
    why: list[str] | None,
) -> None:
    found = health_of_service({"targets": targets, "requests": requests, "codes": codes, "error_share": error_share})
    assert found["state"] == state
    assert found["why"] == why or why is None
