"""Forwards a request to one service and hands back the answer as it comes.

1. Take a place among the service's requests in flight, or answer 503 at once.
2. Build the fields that go on: the client's, less what must not pass, then the gateway's own.
3. Read a small body whole, so that a slow client holds no upstream connection; stream a large one.
4. Pick a target and send; the answer's head comes back.
5. Hand over status, fields and body, changed only where they name the target itself.
6. When the body ends or is closed: the connection is returned or closed, the place given back.
"""

from __future__ import annotations

import re
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import cycle

from gateway.config import ServiceSettings
from gateway.errors import Overloaded, UpgradeRefused
from gateway.proxy.body import ClientBody, Readable, UpstreamBody
from gateway.proxy.headers import (
    ClientSide,
    Pairs,
    answered_fields,
    forwarded_fields,
    proxy_fields,
    rewrite_location,
)
from gateway.proxy.paths import RequestTarget
from gateway.proxy.session import ReadyRequest, ServiceSession
from gateway.proxy.target import Target

PATH_UNIT = re.compile(r"%..|.")
VIA = ("Via", "1.1 gateway")


@dataclass(slots=True)
class Incoming:
    """A request as the gateway received it. `content_length` is None where there is no body or it is chunked."""

    method: str
    target: RequestTarget
    fields: Pairs
    client: ClientSide
    stream: Readable
    content_length: int | None
    is_chunked: bool
    request_id: str
    identity_fields: Sequence[tuple[str, str]] = ()
    client_socket: socket.socket | None = None


@dataclass(slots=True)
class Answer:
    """What goes back to the client. `body` must be read to its end or closed."""

    status: int
    reason: str
    fields: Pairs
    body: CountedBody


@dataclass(slots=True)
class CountedBody:
    """An answer's body that gives back the service's place when it ends."""

    body: UpstreamBody
    leave: Callable[[], None]
    is_closed: bool = field(default=False)

    def __iter__(self) -> CountedBody:
        return self

    def __next__(self) -> bytes:
        return next(self.body)

    @property
    def is_awaited(self) -> bool:
        return self.body.is_awaited

    def close(self) -> None:
        if not self.is_closed:
            self.is_closed = True
            try:
                self.body.close()
            finally:
                self.leave()


class Forwarder:
    """Forwards to one service. `identity_names`: the normal names of the fields that only the gateway may set."""

    def __init__(
        self, settings: ServiceSettings, session: ServiceSession, identity_names: frozenset[str], trusted_hops: int
    ) -> None:
        self._settings = settings
        self._session = session
        self._identity_names = identity_names
        self._trusted_hops = trusted_hops
        self._targets = cycle([Target.parse(url) for url in settings.targets])
        self._in_flight = 0

    def forward(self, incoming: Incoming) -> Answer:
        """Raises GatewayError, or ClientDisconnected."""
        if self._in_flight >= self._settings.max_in_flight:
            raise Overloaded("try again in a moment")
        self._in_flight += 1
        try:
            return self._send(incoming)
        except BaseException:
            self._leave()
            raise

    def _leave(self) -> None:
        self._in_flight -= 1

    def _send(self, incoming: Incoming) -> Answer:
        target = next(self._targets)
        fields = self.fields_for(incoming, target)
        body: bytes | ClientBody = b""
        if incoming.content_length is not None or incoming.is_chunked:
            client_body = ClientBody(incoming.stream, incoming.content_length, self._settings.max_body_bytes)
            small = client_body.read_if_small()
            body = client_body if small is None else small
        response = self._session.send_ready(
            ReadyRequest(
                incoming.method, target, self.target_for(incoming.target, target), fields, body, incoming.client_socket
            )
        )
        answered = answered_fields(response.fields)
        named_as = self.host_for(incoming, target)
        stripped = self._settings.prefix.rstrip("/") if self._settings.strip_prefix else ""
        answered = [
            (name, rewrite_location(value, named_as, target.base_path, stripped))
            if name.lower() in ("location", "content-location")
            else (name, value)
            for name, value in answered
        ]
        return Answer(response.status_code, response.reason, answered, CountedBody(response.upstream_body, self._leave))

    def target_for(self, requested: RequestTarget, target: Target) -> str:
        """What is asked of the target: the client's own bytes of path and query, behind the target's base path."""
        path = requested.raw_path
        if self._settings.strip_prefix:
            # The prefix is plain ASCII, so each of its characters is one unit of the raw path, escaped or not.
            prefix_length = len(self._settings.prefix.rstrip("/"))
            path = "".join(PATH_UNIT.findall(path)[prefix_length:]) or "/"
        query = "" if requested.raw_query is None else "?" + requested.raw_query
        return target.base_path + path + query

    def host_for(self, incoming: Incoming, target: Target) -> str:
        """The Host that the service is asked by, and by which it names itself in redirects."""
        return incoming.client.host if self._settings.preserve_host and incoming.client.host else target.authority

    def fields_for(self, incoming: Incoming, target: Target) -> Pairs:
        """The header that goes on. Raises UpgradeRefused for a WebSocket, which would be half a one behind here."""
        if any(name.lower() == "upgrade" and "websocket" in value.lower() for name, value in incoming.fields):
            raise UpgradeRefused()
        fields = [("Host", self.host_for(incoming, target)), *forwarded_fields(incoming.fields, self._identity_names)]
        fields += proxy_fields(incoming.fields, incoming.client, self._trusted_hops)
        fields += (VIA, ("X-Request-Id", incoming.request_id))
        fields += incoming.identity_fields
        if incoming.is_chunked:
            fields.append(("Transfer-Encoding", "chunked"))
        elif incoming.content_length is not None:
            fields.append(("Content-Length", str(incoming.content_length)))
        return fields
