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

import socket
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from gateway.config import ServiceSettings
from gateway.errors import UpgradeRefused, UpstreamConnectionStale, UpstreamError
from gateway.proxy.attempts import Attempt
from gateway.proxy.balancer import Balancer, TargetState
from gateway.proxy.breaker import MAX_REST_SECONDS, Breaker
from gateway.proxy.chunked import as_chunks
from gateway.proxy.forwarding_headers import ClientSide
from gateway.proxy.headers import Pairs, answered_fields, forwarded_fields, with_one_forward_less
from gateway.proxy.paths import RequestTarget
from gateway.proxy.prefixes import UNCHANGED, PrefixMapping
from gateway.proxy.redirects import Places, names_a_place
from gateway.proxy.request_body import Readable, RequestBody
from gateway.proxy.response_body import ResponseBody, first_piece
from gateway.proxy.retry import RetryBudget, backoff_seconds, is_safe_to_send_again
from gateway.proxy.round_trip import ReadyRequest
from gateway.proxy.session import ServiceSession
from gateway.proxy.slots import RequestSlots, Slot
from gateway.proxy.target import Target
from gateway.proxy.time_limits import TimeLimits
from gateway.proxy.wire import ResponseHead
from gateway.timestamps import to_microseconds
from gateway.trace_context import Trace, UpstreamCall


@dataclass(slots=True)
class ForwardRequest:
    """A request as the gateway received it. `content_length` is None where there is no body or it is chunked."""

    method: str
    target: RequestTarget
    fields: Pairs
    client: ClientSide
    stream: Readable
    content_length: int | None
    is_chunked: bool
    request_id: str
    # How the request is told to have come (RFC 9110 7.6.3).
    via: str
    limits: TimeLimits
    prefix: PrefixMapping = UNCHANGED
    # Who is calling: always the same text for the same caller.
    caller: str = ""
    # What was tried is told here.
    attempts: list[Attempt] = field(default_factory=list)
    identity_fields: Sequence[tuple[str, str]] = ()
    # The trace that it is part of, of which the service is told; None where the client's fields pass as any others.
    trace: Trace | None = None
    client_socket: socket.socket | None = None
    # Sends an interim answer to the client: status, reason, fields. Raises ClientDisconnected.
    send_interim: Callable[[int, str, Pairs], None] | None = None


class Watch(Protocol):
    """Who is told what becomes of a service's requests."""

    def retried(self) -> None: ...
    def opened(self, target: Target) -> None: ...


@dataclass(slots=True)
class Answer:
    """What goes back to the client. `body` must be read to its end or closed."""

    status: int
    reason: str
    fields: Pairs
    body: ResponseBody


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
        self._slots = RequestSlots(settings)

    @property
    def in_flight(self) -> int:
        """Requests whose answers have not ended."""
        return self._slots.taken

    def forward(self, incoming: ForwardRequest) -> Answer:
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

    def _send_until_answered(self, incoming: ForwardRequest, body: bytes | RequestBody, slot: Slot) -> Answer:
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

    def _send(self, incoming: ForwardRequest, body: bytes | RequestBody, state: TargetState, slot: Slot) -> Answer:
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
                    incoming.limits,
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

        return Answer(head.status, head.reason, fields, ResponseBody(first, upstream_body, leave))

    def _send_interim(self, incoming: ForwardRequest, target: Target, head: ResponseHead) -> None:
        # 100 Continue answers an expectation that the gateway has met itself.
        if incoming.send_interim is not None and head.status != 100:
            incoming.send_interim(head.status, head.reason, self._answered_fields(head.fields, incoming, target))

    def _answered_fields(self, received: Pairs, incoming: ForwardRequest, target: Target) -> Pairs:
        """The answer's fields as the client gets them."""
        fields, places = answered_fields(received), None
        for index, (name, value) in enumerate(fields):
            if names_a_place(name):
                places = places or self._places(incoming, target)
                fields[index] = (name, places.field(name, value))
        return fields

    def _places(self, incoming: ForwardRequest, target: Target) -> Places:
        asked, client = incoming.target, incoming.client
        return Places(
            client_scheme=client.scheme,
            client_host=client.host,
            target_scheme="https" if target.is_tls else "http",
            names=(target.authority, self.host_for(incoming, target)),
            asked=asked.raw_path if asked.raw_query is None else f"{asked.raw_path}?{asked.raw_query}",
            asked_of_target=self.target_for(incoming, target).partition("?")[0],
            base_path=target.base_path,
            prefix=incoming.prefix.taken_off,
            inner_prefix=incoming.prefix.put_before,
        )

    def target_for(self, incoming: ForwardRequest, target: Target) -> str:
        """What is asked of the target: the client's own bytes of path and query, behind the target's base path. Raises
        BadPath."""
        asked = incoming.target
        path = incoming.prefix.service_path(asked.raw_path, target.base_path)
        return path if asked.raw_query is None else f"{path}?{asked.raw_query}"

    def host_for(self, incoming: ForwardRequest, target: Target) -> str:
        """The Host that the service is asked by, and by which it names itself in redirects."""
        if self._settings.preserve_host and incoming.client.host:
            return incoming.client.host
        return self._settings.host or target.authority

    def fields_for(self, incoming: ForwardRequest, target: Target) -> Pairs:
        """The header that goes on. Raises UpgradeRefused for a WebSocket, which would be half a one behind here."""
        if any(name.lower() == "upgrade" and "websocket" in value.lower() for name, value in incoming.fields):
            raise UpgradeRefused()
        passing = forwarded_fields(incoming.fields, self._identity_names)
        if incoming.method == "OPTIONS":
            passing = with_one_forward_less(passing)
        fields = [("Host", self.host_for(incoming, target)), *passing]
        fields += incoming.client.fields
        fields += incoming.prefix.fields
        fields += (("Via", incoming.via), ("X-Request-Id", incoming.request_id))
        fields += incoming.identity_fields
        if incoming.trace is not None:
            fields += incoming.trace.fields()
        if incoming.is_chunked:
            fields.append(("Transfer-Encoding", "chunked"))
        elif incoming.content_length is not None:
            fields.append(("Content-Length", str(incoming.content_length)))
        return fields


def rest(breaker: Breaker, fields: Pairs) -> None:
    """A 503 with Retry-After in seconds (RFC 9110 10.2.3): other targets first, for so long."""
    for name, value in fields:
        if name.lower() == "retry-after" and value.isascii() and value.isdigit():
            breaker.rest(min(int(value[:6]), MAX_REST_SECONDS))
