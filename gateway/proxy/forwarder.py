"""Forwards requests to one service and returns its responses as they arrive.

1. Read a small body completely, so that a slow client holds neither an in-flight slot nor an upstream connection.
2. Take one of the service's in-flight slots, or fail with 503 at once.
3. Choose a target. Build the headers for the upstream: those of the client that may pass, then the gateway's own.
4. Send the request; read the response's head and the first piece of its body. If that fails and a retry is safe, try
   again, on another target.
5. Return status, headers and body. Only URLs and paths that name the service itself are rewritten.
6. When the body is closed, release the in-flight slot. The connection has gone back to the pool or is closed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial

from gateway.config import ServiceSettings
from gateway.errors import UpgradeRefused, UpstreamConnectionStale, UpstreamError
from gateway.http_fields import HeaderPairs
from gateway.proxy.balancer import Balancer, TargetState
from gateway.proxy.breaker import Breaker
from gateway.proxy.chunked import encode_chunked
from gateway.proxy.forward_request import Attempt, ForwardRequest, ForwardResponse
from gateway.proxy.header_filter import headers_for_client, headers_for_upstream, with_max_forwards_decremented
from gateway.proxy.http1 import ResponseHead
from gateway.proxy.in_flight_limits import InFlightLimits, InFlightSlot
from gateway.proxy.request_body import RequestBody
from gateway.proxy.requests_session import ServiceSession
from gateway.proxy.response_rewriting import ResponseRewriter, is_rewritten
from gateway.proxy.retry import RetryBudget, backoff_seconds, may_retry
from gateway.proxy.round_trip import UpstreamRequest
from gateway.proxy.target import Target
from gateway.telemetry.metrics.registry import Metrics

log = logging.getLogger(__name__)


class Forwarder:
    """Forwards to one service. `identity_names` are the normalized names of the headers that only the gateway sets.
    `clock` returns monotonic seconds, `chance` numbers from 0 to 1. `name` is the service's, for log and metrics."""

    def __init__(
        self,
        settings: ServiceSettings,
        session: ServiceSession,
        identity_names: frozenset[str],
        balancer: Balancer,
        clock: Callable[[], float],
        chance: Callable[[], float],
        name: str,
        metrics: Metrics,
    ) -> None:
        self._settings = settings
        self._session = session
        self._identity_names = identity_names
        self._balancer = balancer
        self._clock = clock
        self._chance = chance
        self._name = name
        self._metrics = metrics
        self._retry_budget = RetryBudget(settings.retry_budget)
        self._in_flight = InFlightLimits(settings)

    @property
    def in_flight(self) -> int:
        """The number of requests whose responses have not ended."""
        return self._in_flight.count

    def forward(self, request: ForwardRequest) -> ForwardResponse:
        """Sends the request to the service and returns its response, whose body is still to be read. Raises
        GatewayError or ClientDisconnected."""
        body = self.read_body(request)
        # The slot is taken only now, as reading a small body may have taken long.
        slot = self._in_flight.take(request.caller, isinstance(body, RequestBody))
        try:
            if isinstance(body, RequestBody):
                body.on_complete = slot.end_upload
            return self._send_with_retries(request, body, slot)
        except BaseException:
            slot.release()
            raise

    def read_body(self, request: ForwardRequest) -> bytes | RequestBody:
        """The body's bytes if it is small, else a body to be streamed. Raises Overloaded or BodyTooLarge."""
        if request.content_length is None and not request.is_chunked:
            return b""
        # The in-flight limits are checked first, so that no body is read for a request that would be refused.
        self._in_flight.check(request.caller)
        body = RequestBody(request.stream, request.content_length, self._settings.max_body_bytes)
        small = body.read_if_small()
        if small is None:
            return body
        return encode_chunked(small) if request.is_chunked else small

    def _send_with_retries(
        self, request: ForwardRequest, body: bytes | RequestBody, slot: InFlightSlot
    ) -> ForwardResponse:
        self._retry_budget.earn()
        balancer, tried = self._balancer, list[TargetState]()
        state = balancer.choose(request.caller, isinstance(body, RequestBody))
        while True:
            try:
                return self._send(request, body, state, slot)
            except UpstreamError as error:
                tried.append(state)
                if len(tried) > self._settings.retries or not may_retry(error, request.method, body):
                    raise
                if not self._retry_budget.has_retry or not balancer.has_another(tried):
                    raise
                # The in-flight slot is not released during this short pause: if another request took it, this request
                # would fail.
                time.sleep(backoff_seconds(len(tried), self._chance))
                # The target is chosen after the pause, during which the states of the targets may have changed.
                another = balancer.choose_another(request.caller, tried)
                if another is None or not self._retry_budget.spend():
                    raise
                state = another
            self._metrics.retries.labels(self._name).inc()

    def _send(
        self, request: ForwardRequest, body: bytes | RequestBody, state: TargetState, slot: InFlightSlot
    ) -> ForwardResponse:
        """Makes one attempt at one target, and records its outcome with the target's breaker."""
        target, breaker, started = state.target, state.breaker, self._clock()
        outcome, status, request_target, span_id = "answered", None, "", ""
        if request.trace is not None:
            span_id = request.trace.start_attempt()
        state.in_flight += 1
        permit = breaker.acquire(isinstance(body, RequestBody))
        try:
            request_target = self.request_target_for(request, target)
            head, response_body = self._session.send_ready(
                UpstreamRequest(
                    request.method,
                    target,
                    request_target,
                    self.headers_for(request, target),
                    body,
                    request.timeouts,
                    request.client_socket,
                    partial(self._send_interim, request, target) if request.send_interim else None,
                )
            )
            status = head.status
            headers = self._headers_for_client(head.headers, request, target)
            response_body.prefetch()
        except UpstreamError as error:
            state.in_flight -= 1
            outcome = error.code
            if isinstance(error, UpstreamConnectionStale):
                outcome = "stale connection"
                breaker.abandoned(permit)
            elif breaker.failed(permit):
                self._record_opening(target)
            raise
        except BaseException:
            state.in_flight -= 1
            outcome = "given up"
            breaker.abandoned(permit)
            raise
        finally:
            attempt = Attempt(target, request_target, outcome, status, started, self._clock(), span_id)
            request.attempts.append(attempt)
        breaker.succeeded(permit)
        if head.status == 503:
            rest_if_requested(breaker, head.headers)

        def on_close() -> None:
            state.in_flight -= 1
            slot.release()
            if response_body.is_complete:
                breaker.body_completed(permit)
            elif response_body.is_truncated and breaker.body_truncated(permit):
                self._record_opening(target)

        response_body.on_close = on_close
        return ForwardResponse(head.status, head.reason, headers, response_body)

    def _record_opening(self, target: Target) -> None:
        log.warning("%s: the breaker of %s opened after repeated failures", self._name, target.url)
        self._metrics.breaker_openings.labels(self._name, target.url).inc()

    def _send_interim(self, request: ForwardRequest, target: Target, head: ResponseHead) -> None:
        # The gateway itself answers `Expect: 100-continue`, so a 100 of the upstream is of no use to the client.
        if request.send_interim is not None and head.status != 100:
            request.send_interim(head.status, head.reason, self._headers_for_client(head.headers, request, target))

    def _headers_for_client(self, received: HeaderPairs, request: ForwardRequest, target: Target) -> HeaderPairs:
        headers, rewriter = headers_for_client(received), None
        for index, (name, value) in enumerate(headers):
            if is_rewritten(name):
                rewriter = rewriter or self._rewriter(request, target)
                headers[index] = (name, rewriter.rewrite(name, value))
        return headers

    def _rewriter(self, request: ForwardRequest, target: Target) -> ResponseRewriter:
        path, query = request.request_target.raw_path, request.request_target.raw_query
        return ResponseRewriter(
            client_scheme=request.client.scheme,
            client_host=request.client.host,
            target_scheme=target.scheme,
            service_hosts=(target.authority, self.host_for(request, target)),
            client_request_target=path if query is None else f"{path}?{query}",
            service_path=self.request_target_for(request, target).partition("?")[0],
            base_path=target.base_path,
            client_prefix=request.prefix.client_prefix,
            service_prefix=request.prefix.service_prefix,
        )

    def request_target_for(self, request: ForwardRequest, target: Target) -> str:
        """The request target for the upstream: the client's own bytes of path and query, after the target's base path.
        Raises BadPath."""
        path, query = request.request_target.raw_path, request.request_target.raw_query
        path = request.prefix.service_path(path, target.base_path)
        return path if query is None else f"{path}?{query}"

    def host_for(self, request: ForwardRequest, target: Target) -> str:
        """The Host header for the upstream. Many upstreams name themselves by it in redirects."""
        if self._settings.preserve_host and request.client.host:
            return request.client.host
        return self._settings.host or target.authority

    def headers_for(self, request: ForwardRequest, target: Target) -> HeaderPairs:
        """The headers for the upstream. Raises UpgradeRefused for a WebSocket handshake, which can't be forwarded."""
        if any(name.lower() == "upgrade" and "websocket" in value.lower() for name, value in request.headers):
            raise UpgradeRefused()
        passing = headers_for_upstream(request.headers, self._identity_names)
        if request.method == "OPTIONS":
            passing = with_max_forwards_decremented(passing)
        headers = [("Host", self.host_for(request, target)), *passing]
        headers += request.client.headers
        headers += request.prefix.headers
        headers += (("Via", request.via), ("X-Request-Id", request.request_id))
        headers += request.identity_headers
        if request.trace is not None:
            headers += request.trace.headers()
        if request.is_chunked:
            headers.append(("Transfer-Encoding", "chunked"))
        elif request.content_length is not None:
            headers.append(("Content-Length", str(request.content_length)))
        return headers


def rest_if_requested(breaker: Breaker, headers: HeaderPairs) -> None:
    """Makes the balancer prefer other targets for the seconds in the Retry-After of a 503 (RFC 9110 10.2.3)."""
    for name, value in headers:
        if name.lower() == "retry-after" and value.isascii() and value.isdigit():
            # Six digits are enough to exceed the breaker's maximum.
            breaker.rest(int(value[:6]))
