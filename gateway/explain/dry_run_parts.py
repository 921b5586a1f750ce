"""Replacements for the components that reach beyond the process: nothing is counted and nothing is sent to a service.

The limiter and the document refresher still read what is stored in Redis."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from gateway.api_documents.early_refresh import EarlyRefresh
from gateway.api_documents.refresher import DocumentRefresher
from gateway.http_fields import HeaderPairs
from gateway.proxy.forward_request import ForwardRequest, ForwardResponse
from gateway.proxy.forwarder import Forwarder
from gateway.proxy.http1 import request_head
from gateway.proxy.request_body import RequestBody
from gateway.rate_limiting.fallback import FallbackLimiter
from gateway.rate_limiting.models import LimitCheck, LimitResult, RevocationLookup
from gateway.rate_limiting.redis_counters import PROBE


@dataclass(frozen=True)
class UpstreamRequest:
    """The head of the request that one target would receive: the target's URL, the request line, the headers."""

    url: str
    line: str
    headers: HeaderPairs


class WouldForward(Exception):
    """Raised in place of sending the request to a service."""


class DryRunLimiter(FallbackLimiter):
    """Reads counters and counts nothing; results are as if the request had been counted."""

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
    """The result that the limiter would return if it had counted the request."""
    remaining = max(0, result.remaining - check.cost)
    reset_seconds = reset_after_charge(check, result.reset_seconds, time.time())
    return replace(result, remaining=remaining, reset_seconds=reset_seconds)


def reset_after_charge(check: LimitCheck, reset_before: float, now: float) -> float:
    """Seconds until the whole limit is available again, once the request is counted; `reset_before` are those seconds
    without the request. `now` is seconds since 1970, when the first window of every limit began."""
    if check.algorithm == "bucket":
        return reset_before + check.cost * check.window_seconds / check.amount
    window = check.window_seconds
    ends_in = reset_before or window - now % window
    # A sliding window counts a request until the end of the window after the request's own. If the reset is more than
    # one window away, an earlier request of the same window is already counted until then.
    return ends_in if check.algorithm == "fixed" or ends_in > window else ends_in + window


class DryRunRefresher(DocumentRefresher):
    """Reads the documents that gateways have stored in Redis, once, and fetches none from services."""

    _has_read = False

    def start(self) -> None:
        if not self._has_read:
            self._has_read = True
            self.read_store()

    def wait_for_first(self, seconds: float) -> None:
        del seconds
        self.start()

    def refresh_early(self, name: str) -> EarlyRefresh:
        del name
        ended = EarlyRefresh()
        ended.ended.set()
        return ended


class DryRunForwarder(Forwarder):
    """Prepares the request for each target that could be chosen, and sends nothing."""

    def __init__(self, upstream_requests: list[UpstreamRequest], *parts: Any) -> None:
        super().__init__(*parts)
        self._upstream_requests = upstream_requests

    def forward(self, request: ForwardRequest) -> ForwardResponse:
        """Raises WouldForward, or any error that forwarding raises before it sends."""
        self._in_flight.check(request.caller)
        body = self.read_body(request)
        # Called even if all candidates are shown, because it raises if no target is available.
        chosen = self._balancer.choose(request.caller)
        is_only_one = self._settings.balancing == "principal"
        for state in [chosen] if is_only_one else self._balancer.candidates():
            headers = self.headers_for(request, state.target)
            head = request_head(request.method, self.request_target_for(request, state.target), headers)
            line = head.split(b"\r\n", 1)[0].decode("latin-1")
            self._upstream_requests.append(UpstreamRequest(state.target.url, line, headers))
        if isinstance(body, RequestBody) and body.length is None:
            # Reading a chunked body to its end raises BodyTooLarge if its length exceeds the limit.
            for _ in body:
                pass
        raise WouldForward()
