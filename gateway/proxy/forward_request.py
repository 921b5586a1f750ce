"""What the forwarder is given and what it returns: `ForwardRequest`, `ForwardResponse`, and the attempts in between."""

from __future__ import annotations

import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from gateway.http_fields import HeaderPairs
from gateway.proxy.path_validation import RequestTarget
from gateway.proxy.prefix_mapping import UNCHANGED, PrefixMapping
from gateway.proxy.request_body import Readable
from gateway.proxy.response_body import ResponseBody
from gateway.proxy.target import Target
from gateway.proxy.timeouts import Timeouts
from gateway.proxy.trusted_proxies import ClientInfo
from gateway.trace_context import Trace


@dataclass(slots=True)
class Attempt:
    """The record of one attempt at a target, for the access log and for spans. `outcome` is `answered`, the code
    of the error, `stale connection`, or `given up` (the client left, for example). `status` is None without a response.
    Times are monotonic seconds. `ended` is when the attempt failed, or when the response's head and the first piece of
    its body had arrived (of a stream, the head alone)."""

    target: Target
    request_target: str
    outcome: str
    status: int | None
    started: float
    ended: float
    span_id: str

    @property
    def url(self) -> str:
        """The URL without its query."""
        return self.target.origin + self.request_target.partition("?")[0]


@dataclass(slots=True)
class ForwardRequest:
    """A request as the gateway received it, and what its route's policy says about forwarding it."""

    method: str
    request_target: RequestTarget
    headers: HeaderPairs
    client: ClientInfo
    stream: Readable
    # None if the request has no body, or a chunked one.
    content_length: int | None
    is_chunked: bool
    request_id: str
    # The value of the Via header that the upstream receives (RFC 9110 7.6.3).
    via: str
    timeouts: Timeouts
    prefix: PrefixMapping = UNCHANGED
    # Identifies the caller, for in-flight limits and for `balancing = "principal"`: a principal's key or an address.
    caller: str = ""
    # Empty at first. The forwarder appends a record of each attempt.
    attempts: list[Attempt] = field(default_factory=list)
    identity_headers: Sequence[tuple[str, str]] = ()
    # None if traces are off: the client's traceparent is then forwarded like any other header.
    trace: Trace | None = None
    # Watched while the gateway waits for the upstream, to notice that the client has left.
    client_socket: socket.socket | None = None
    # Sends an interim response (status, reason, headers) to the client. Raises ClientDisconnected.
    send_interim: Callable[[int, str, HeaderPairs], None] | None = None


@dataclass(slots=True)
class ForwardResponse:
    """The response for the client. Read `body` to its end or close it: it holds a connection and an in-flight slot."""

    status: int
    reason: str
    headers: HeaderPairs
    body: ResponseBody
