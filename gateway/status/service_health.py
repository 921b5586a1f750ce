"""Whether a service works, by what all workers have seen of it, and why it does not."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

# Of the requests of the last minute.
MUCH = 0.5


def verdict_on(service: Mapping[str, Any]) -> dict[str, Any]:
    """`state` is up, partly failing, failing or unknown, and `why` says it for people; `service` as `/status` has it.
    Unknown is a service of which no worker has seen anything in the last 15 minutes: no passed health check, and no
    request that it answered or failed to answer."""
    why = list(complaints(service))
    failing = [target for target in service["targets"] if is_failing(target)]
    codes = service["codes"]
    was_asked_in_vain = any(code.startswith("upstream_") for code in codes)
    has_answered = service["requests"] > sum(codes.values())
    if len(failing) == len(service["targets"]):
        state = "failing"
    elif why:
        state = "partly failing"
    elif has_answered or any(target["health"] == "well" for target in service["targets"]):
        state = "up"
    elif was_asked_in_vain:
        state, why = "failing", ["it has answered no request of the last 15 minutes"]
    else:
        state, why = "unknown", ["nobody has asked it in the last 15 minutes"]
    return {"state": state, "why": why}


def is_failing(target: Mapping[str, Any]) -> bool:
    return bool(target["health"] == "unwell" or target["breaker"] != "closed")


def complaints(service: Mapping[str, Any]) -> Iterator[str]:
    for target in service["targets"]:
        workers = target["workers"]
        if target["unwell_in"]:
            yield f"{target['url']} fails its health checks{share(target['unwell_in'], workers)}"
        if target["breaker"] != "closed":
            yield f"the breaker of {target['url']} is open{share(target['open_in'] + target['half_open_in'], workers)}"
    errors = service["error_share"] or 0
    if errors >= MUCH:
        yield f"{errors:.0%} of the requests of the last minute failed"


def share(some: int, workers: int) -> str:
    return f", say {some} of {workers} workers" if workers > 1 else ""
