"""The parts of a gateway that reach beyond the process, doing everything but that."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from gateway.api_documents.refresher import DocumentRefresher
from gateway.api_documents.renewal import Renewal
from gateway.http_fields import HeaderPairs
from gateway.proxy.forward_request import ForwardRequest, ForwardResponse
from gateway.proxy.forwarder import Forwarder
from gateway.proxy.health_checks import HealthChecks
from gateway.proxy.http1 import request_head
from gateway.proxy.request_body import RequestBody
from gateway.rate_limiting.fallback import FallbackLimiter
from gateway.rate_limiting.models import LimitCheck, LimitResult, RevocationLookup
from gateway.rate_limiting.redis_counters import PROBE


@dataclass(frozen=True)
class Sending:
    """What would go to one target: its URL, the request line and the header."""

    url: str
    line: str
    fields: HeaderPairs


class NotSent(Exception):
    """Here the request would be sent."""


class DryRunLimiter(FallbackLimiter):
    """Counts nothing; the results are as if it had."""

    def consume(
        self,
        checks: Sequence[LimitCheck],
        *,
        dry_run: bool = True,
        lookup: RevocationLookup | None = None,
        **options: Any,
    ) -> list[LimitResult]:
        del dry_run
        results = super().consume(checks, dry_run=True, lookup=lookup, **options)
        if not all(result.passed for result in results):
            return results
        return [charged(check, result) for check, result in zip(checks, results, strict=False)]

    def is_reachable(self) -> bool:
        self.consume([PROBE], on_failure="open")
        return self.state == "ok"


def charged(check: LimitCheck, result: LimitResult) -> LimitResult:
    """What would be told of the limit after the request."""
    remaining = max(0, result.remaining - check.cost)
    return replace(result, remaining=remaining, reset_seconds=free_after(check, result.reset_seconds, time.time()))


def free_after(check: LimitCheck, free_before: float, now: float) -> float:
    """Seconds until all of the limit would be free again, from what that is without the request. `now` is seconds since
    1970, by which windows are cut."""
    if check.algorithm == "bucket":
        return free_before + check.cost * check.window_seconds / check.amount
    window = check.window_seconds
    ends_in = free_before or window - now % window
    # What is counted in this window slides out of the sliding one within the next; more than a window: that is so now.
    return ends_in if check.algorithm == "fixed" or ends_in > window else ends_in + window


class DryRunRefresher(DocumentRefresher):
    """Has what gateways keep in Redis, and checks no service."""

    _has_looked = False

    def start(self) -> None:
        if not self._has_looked:
            self._has_looked = True
            self.look()

    def wait_for_first(self, seconds: float) -> None:
        del seconds
        self.start()

    def begin_renewal(self, name: str) -> Renewal:
        del name
        renewal = Renewal()
        renewal.ended.set()
        return renewal


class NoHealthChecks(HealthChecks):
    """Asks no target."""

    def start(self) -> None:
        pass


class DryRunForwarder(Forwarder):
    """Does everything but send."""

    def __init__(self, sendings: list[Sending], *parts: Any) -> None:
        super().__init__(*parts)
        self._sendings = sendings

    def forward(self, request: ForwardRequest) -> ForwardResponse:
        """Raises NotSent, or what forwarding raises before anything is sent."""
        self._in_flight.check(request.caller)
        body = self.read_body(request)
        # First of all: of several targets it decides whether there is one.
        chosen = self._balancer.choose(request.caller)
        is_settled = self._settings.balancing == "principal"
        for state in [chosen] if is_settled else self._balancer.candidates():
            fields = self.headers_for(request, state.target)
            head = request_head(request.method, self.request_target_for(request, state.target), fields)
            self._sendings.append(Sending(state.target.url, head.split(b"\r\n", 1)[0].decode("latin-1"), fields))
        if isinstance(body, RequestBody) and body.length is None:
            # How long it is shows when it is sent.
            for _ in body:
                pass
        raise NotSent()
