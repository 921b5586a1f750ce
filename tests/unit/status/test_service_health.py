"""What /status says of a service: up, failing or unknown, and why."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.status.service_health import verdict_on

WELL = {"url": "http://a", "workers": 2, "health": "well", "unwell_in": 0}
CLOSED = {"breaker": "closed", "open_in": 0, "half_open_in": 0}
A = WELL | CLOSED
NOT_ASKED = A | {"health": "not asked"}
UNKNOWN = A | {"health": "unknown"}
UNWELL = A | {"health": "unwell", "unwell_in": 1}
OPEN = A | {"health": "not asked", "breaker": "open", "open_in": 1, "half_open_in": 1}
IN_VAIN = "it has answered no request of the last 15 minutes"


@pytest.mark.parametrize(
    ("targets", "requests", "codes", "error_share", "state", "why"),
    [
        ([NOT_ASKED], 0, {}, None, "unknown", ["nobody has asked it in the last 15 minutes"]),
        ([UNKNOWN], 0, {}, None, "unknown", ["nobody has asked it in the last 15 minutes"]),
        # What the gateway answered by itself says nothing of the service.
        ([NOT_ASKED], 9, {"missing_token": 8, "quota_exceeded": 1}, 0.0, "unknown", None),
        ([A], 0, {}, None, "up", []),
        ([A, UNKNOWN], 0, {}, None, "up", []),
        ([NOT_ASKED], 1, {}, 0.0, "up", []),
        ([NOT_ASKED], 9, {"upstream_unreachable": 1}, 0.1, "up", []),
        ([NOT_ASKED], 2, {"upstream_timeout": 2}, None, "failing", [IN_VAIN]),
        ([NOT_ASKED], 9, {}, 0.5, "partly failing", ["50% of the requests of the last minute failed"]),
        ([UNWELL], 9, {}, 0.0, "failing", ["http://a fails its health checks, say 1 of 2 workers"]),
        ([UNWELL, A], 9, {}, 0.0, "partly failing", None),
        ([OPEN], 9, {}, 0.0, "failing", ["the breaker of http://a is open, say 2 of 2 workers"]),
        ([OPEN | {"workers": 1, "half_open_in": 0}], 9, {}, 0.0, "failing", ["the breaker of http://a is open"]),
    ],
)  # fmt: skip
def test_what_is_said_of_a_service(
    targets: list[dict[str, Any]],
    requests: int,
    codes: dict[str, int],
    error_share: float | None,
    state: str,
    why: list[str] | None,
) -> None:
    found = verdict_on({"targets": targets, "requests": requests, "codes": codes, "error_share": error_share})
    assert found["state"] == state
    assert found["why"] == why or why is None
