"""Forwards a request to one service and hands back the answer as it comes.

1. Read a small body whole, so that a slow client holds neither a slot nor an upstream connection.
2. Take one of the service's slots for requests in flight, or answer 503 at once.
3. Pick a target; build the fields that go on: the client's, less what must not pass, then the gateway's own.
4. Send; the answer's head comes back, and the first piece of its body. Where it does not and that is safe, try again,
   another target first.
5. Hand over status, fields and body, changed only where they name the target itself.
6. When the body ends or is closed: the connection is returned or closed, the slots given back.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Protocol

from gateway.config import ServiceSettings
from gateway.errors import UpgradeRefused, UpstreamConnectionStale, UpstreamError
from gateway.http_fields import HeaderPairs
from gateway.proxy.balancer import Balancer, TargetState
from gateway.proxy.breaker import MAX_REST_SECONDS, Breaker
from gateway.proxy.chunked import as_chunks
from gateway.proxy.forward_request import Attempt, ForwardRequest, ForwardResponse
from gateway.proxy.header_filter import answered_fields, forwarded_fields, with_one_forward_less
from gateway.proxy.http1 import ResponseHead
from gateway.proxy.in_flight_limits import InFlightLimits, Slot
from gateway.proxy.request_body import RequestBody
from gateway.proxy.response_body import ResponseBody, first_piece
from gateway.proxy.response_rewriting import ResponseRewriter, names_a_place
from gateway.proxy.retry import RetryBudget, backoff_seconds, is_safe_to_send_again
from gateway.proxy.round_trip import ReadyRequest
from gateway.proxy.session import ServiceSession
from gateway.proxy.target import Target
from gateway.timestamps import to_microseconds
from gateway.trace_context import UpstreamCall


class Watch(Protocol):
    """Who is told what becomes of a service's requests."""

    def retried(self) -> None: ...
    def opened(self, target: Target) -> None: ...


class Forwarder:
    """Forwards to one service. `identity_names`: the normal names of the fields that only the gateway may set. `clock`
    is monotonic seconds, `chance` gives numbers from 0 to 1, `watch` is told of retries and of breakers that open."""

    def __init__(
        self,
        settings: ServiceSettings,
        session: ServiceSession,
        identity_names: frozenset[str],
        balancer: Balancer,
        clock: Callable[[], float],
        chance: Callable[[], float],
        watch: Watch,
    ) -> None:
        self._settings = settings
        self._session = session
        self._identity_names = identity_names
        self._balancer = balancer
        self._clock = clock
        self._chance = chance
        self._watch = watch
        self._budget = RetryBudget(settings.retry_budget)
        self._slots = InFlightLimits(settings)

    @property
    def in_flight(self) -> int:
        """Requests whose answers have not ended."""
        return self._slots.taken

    def forward(self, incoming: ForwardRequest) -> ForwardResponse:
        """Raises GatewayError, or ClientDisconnected."""
        body = self._body_of(incoming)
        # Only now, as reading a small body may have taken long.
        slot = self._slots.take(incoming.caller, isinstance(body, RequestBody))
        try:
            if isinstance(body, RequestBody):
                body.when_whole = slot.end_upload
            return self._send_until_answered(incoming, body, slot)
        except BaseException:
            slot.give_back()
            raise

    def _body_of(self, incoming: ForwardRequest) -> bytes | RequestBody:
        if incoming.content_length is None and not incoming.is_chunked:
            return b""
        # Nothing is read for a request that would be refused.
        self._slots.check(incoming.caller)
        body = RequestBody(incoming.stream, incoming.content_length, self._settings.max_body_bytes)
        small = body.read_if_small()
        if small is None:
            return body
        return as_chunks(small) if incoming.is_chunked else small

    def _send_until_answered(self, incoming: ForwardRequest, body: bytes | RequestBody, slot: Slot) -> ForwardResponse:
        self._budget.earn()
        balancer, tried = self._balancer, list[TargetState]()
        state = balancer.choose(incoming.caller, isinstance(body, RequestBody))
        while True:
            try:
                return self._send(incoming, body, state, slot)
            except UpstreamError as error:
                tried.append(state)
                if len(tried) > self._settings.retries or not is_safe_to_send_again(error, incoming.method, body):
                    raise
                if not self._budget.has_one or not balancer.has_another(tried):
                    raise
                # The slot is kept: the pause is short, and the request would be lost where others had taken it.
                time.sleep(backoff_seconds(len(tried), self._chance))
                # Chosen only now, as much may have happened meanwhile.
                another = balancer.another(incoming.caller, tried)
                if another is None or not self._budget.spend():
                    raise
                state = another
            self._watch.retried()

    def _send(
        self, incoming: ForwardRequest, body: bytes | RequestBody, state: TargetState, slot: Slot
    ) -> ForwardResponse:
        """One attempt, at one target, which learns of its outcome."""
        target, breaker, started = state.target, state.breaker, self._clock()
        outcome, status, trace = "answered", None, incoming.trace
        if trace is not None:
            trace.begin_call()
        state.in_flight += 1
        permit = breaker.acquire(isinstance(body, RequestBody))
        try:
            head, upstream_body = self._session.send_ready(
                ReadyRequest(
                    incoming.method,
                    target,
                    self.target_for(incoming, target),
                    self.fields_for(incoming, target),
                    body,
                    incoming.timeouts,
                    incoming.client_socket,
                    partial(self._send_interim, incoming, target) if incoming.send_interim else None,
                )
            )
            status = head.status
            fields = self._answered_fields(head.fields, incoming, target)
            first = first_piece(upstream_body)
        except UpstreamError as error:
            state.in_flight -= 1
            outcome = error.code
            if isinstance(error, UpstreamConnectionStale):
                outcome = "stale connection"
                breaker.abandoned(permit)
            elif breaker.failed(permit):
                self._watch.opened(target)
            raise
        except BaseException:
            state.in_flight -= 1
            outcome = "given up"
            breaker.abandoned(permit)
            raise
        finally:
            ended = self._clock()
            incoming.attempts.append(Attempt(target.url, outcome, to_microseconds(ended - started)))
            if trace is not None and trace.is_recorded:
                url = target.origin + self.target_for(incoming, target).partition("?")[0]
                trace.calls.append(
                    UpstreamCall(trace.sent_id, url, target.host, target.port, outcome, status, started, ended)
                )
        breaker.succeeded(permit)
        if head.status == 503:
            rest(breaker, head.fields)

        def leave() -> None:
            state.in_flight -= 1
            slot.give_back()
            if upstream_body.is_whole:
                breaker.was_whole(permit)
            elif upstream_body.is_cut and breaker.was_cut(permit):
                self._watch.opened(target)

        return ForwardResponse(head.status, head.reason, fields, ResponseBody(first, upstream_body, leave))

    def _send_interim(self, incoming: ForwardRequest, target: Target, head: ResponseHead) -> None:
        # 100 Continue answers an expectation that the gateway has met itself.
        if incoming.send_interim is not None and head.status != 100:
            incoming.send_interim(head.status, head.reason, self._answered_fields(head.fields, incoming, target))

    def _answered_fields(self, received: HeaderPairs, incoming: ForwardRequest, target: Target) -> HeaderPairs:
        """The answer's fields as the client gets them."""
        fields, places = answered_fields(received), None
        for index, (name, value) in enumerate(fields):
            if names_a_place(name):
                places = places or self._places(incoming, target)
                fields[index] = (name, places.field(name, value))
        return fields

    def _places(self, incoming: ForwardRequest, target: Target) -> ResponseRewriter:
        asked, client = incoming.request_target, incoming.client
        return ResponseRewriter(
            client_scheme=client.scheme,
            client_host=client.host,
            target_scheme="https" if target.is_tls else "http",
            names=(target.authority, self.host_for(incoming, target)),
            asked=asked.raw_path if asked.raw_query is None else f"{asked.raw_path}?{asked.raw_query}",
            asked_of_target=self.target_for(incoming, target).partition("?")[0],
            base_path=target.base_path,
            prefix=incoming.prefix.client_prefix,
            inner_prefix=incoming.prefix.service_prefix,
        )

    def target_for(self, incoming: ForwardRequest, target: Target) -> str:
        """What is asked of the target: the client's own bytes of path and query, behind the target's base path. Raises
        BadPath."""
        asked = incoming.request_target
        path = incoming.prefix.service_path(asked.raw_path, target.base_path)
        return path if asked.raw_query is None else f"{path}?{asked.raw_query}"

    def host_for(self, incoming: ForwardRequest, target: Target) -> str:
        """The Host that the service is asked by, and by which it names itself in redirects."""
        if self._settings.preserve_host and incoming.client.host:
            return incoming.client.host
        return self._settings.host or target.authority

    def fields_for(self, incoming: ForwardRequest, target: Target) -> HeaderPairs:
        """The header that goes on. Raises UpgradeRefused for a WebSocket, which would be half a one behind here."""
        if any(name.lower() == "upgrade" and "websocket" in value.lower() for name, value in incoming.headers):
            raise UpgradeRefused()
        passing = forwarded_fields(incoming.headers, self._identity_names)
        if incoming.method == "OPTIONS":
            passing = with_one_forward_less(passing)
        fields = [("Host", self.host_for(incoming, target)), *passing]
        fields += incoming.client.fields
        fields += incoming.prefix.headers
        fields += (("Via", incoming.via), ("X-Request-Id", incoming.request_id))
        fields += incoming.identity_headers
        if incoming.trace is not None:
            fields += incoming.trace.fields()
        if incoming.is_chunked:
            fields.append(("Transfer-Encoding", "chunked"))
        elif incoming.content_length is not None:
            fields.append(("Content-Length", str(incoming.content_length)))
        return fields


def rest(breaker: Breaker, fields: HeaderPairs) -> None:
    """A 503 with Retry-After in seconds (RFC 9110 10.2.3): other targets first, for so long."""
    for name, value in fields:
        if name.lower() == "retry-after" and value.isascii() and value.isdigit():
            breaker.rest(min(int(value[:6]), MAX_REST_SECONDS))
