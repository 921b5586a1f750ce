"""The state of a service (up, partly failing, failing or unknown) and the reasons, from the figures of all workers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

# A service is partly failing if at least this share of the last minute's requests are errors.
FAILING_ERROR_SHARE = 0.5


def health_of_service(service: Mapping[str, Any]) -> dict[str, Any]:
    """Returns `state` and `why`, a list of sentences. `service` is an entry of the status document.

    The state is unknown if, in the last 15 minutes, no health check passed, the service responded to no request, and no
    request failed at it."""
    why = list(reasons(service))
    failing = [target for target in service["targets"] if is_failing(target)]
    codes = service["codes"]
    has_failed = any(code.startswith("upstream_") for code in codes)
    has_answered = service["requests"] > sum(codes.values())
    if len(failing) == len(service["targets"]):
        state = "failing"
    elif why:
        state = "partly failing"
    elif has_answered or any(target["health"] == "healthy" for target in service["targets"]):
        state = "up"
    elif has_failed:
        state, why = "failing", ["it answered no request in the last 15 minutes"]
    else:
        state, why = "unknown", ["in the last 15 minutes no request reached it and no health check passed"]
    return {"state": state, "why": why}


def is_failing(target: Mapping[str, Any]) -> bool:
    return bool(target["health"] == "unhealthy" or target["breaker"] != "closed")


def reasons(service: Mapping[str, Any]) -> Iterator[str]:
    for target in service["targets"]:
        workers = target["workers"]
        if target["unhealthy_in"]:
            yield f"{target['url']} fails its health checks{share(target['unhealthy_in'], workers)}"
        if target["breaker"] != "closed":
            yield f"the breaker of {target['url']} is open{share(target['open_in'] + target['half_open_in'], workers)}"
    errors = service["error_share"] or 0
    if errors >= FAILING_ERROR_SHARE:
        yield f"{errors:.0%} of the requests of the last minute failed"


def share(some: int, workers: int) -> str:
    return f" in {some} of {workers} workers" if workers > 1 else ""
