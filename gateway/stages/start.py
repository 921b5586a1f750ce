"""The first stage: reads the request from the WSGI environment and begins its exchange."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from random import getrandbits
from typing import TYPE_CHECKING

from flask import request

from gateway import context
from gateway.config import ProxySettings
from gateway.context import Exchange
from gateway.http_fields import CACHED_NAMES, HeaderPairs
from gateway.proxy.forward_request import ForwardRequest
from gateway.proxy.trusted_proxies import ClientInfo, resolve_client
from gateway.trace_context import Propagator

if TYPE_CHECKING:
    from _typeshed.wsgi import WSGIEnvironment

# Key in the WSGI environment. If the server could not parse the request, it stores here the GatewayError to respond
# with.
REFUSAL = "gateway.refusal"
REQUEST_ID = re.compile(r"[A-Za-z0-9._~:=@/+-]{1,128}")


class RequestStart:
    """Sets the request id, the start time, the trace and the client. Without `propagator`, trace headers are forwarded
    like any others."""

    def __init__(self, proxy: ProxySettings, clock: Callable[[], float], propagator: Propagator | None) -> None:
        self._proxy = proxy
        self._clock = clock
        self._propagator = propagator

    def begin(self) -> None:
        """Begins the exchange of the current request. Raises the GatewayError that the server has stored for a request
        that it could not parse."""
        environ = request.environ
        headers = headers_of(environ)
        trace = None
        if self._propagator is not None:
            trace = self._propagator.start_trace(environ.get("HTTP_TRACEPARENT"), environ.get("HTTP_TRACESTATE"))
        context.begin(
            Exchange(
                request_id=request_id(environ.get("HTTP_X_REQUEST_ID", "")),
                started=self._clock(),
                method=environ["REQUEST_METHOD"],
                raw_target=environ["RAW_URI"]
                if "RAW_URI" in environ
                else environ.get("REQUEST_URI") or request.full_path,
                headers=headers,
                client=client_of(environ, headers, self._proxy),
                environ=environ,
                trace=trace,
            )
        )
        if REFUSAL in environ:
            raise environ[REFUSAL]


def client_of(environ: WSGIEnvironment, fields: HeaderPairs, proxy: ProxySettings) -> ClientInfo:
    """The client as the connection shows it, or as the trusted proxies in front of the gateway report it."""
    peer, scheme, host = environ.get("REMOTE_ADDR", ""), environ["wsgi.url_scheme"], environ.get("HTTP_HOST", "")
    if not proxy.trusted_hops:
        return resolve_client(peer, scheme, host)
    if proxy.forwarding_fields == "forwarded":
        # Each header line stays separate: a malformed line from the client must not invalidate a line from a proxy.
        said = tuple(value for name, value in fields if name == "Forwarded")
    else:
        said = (
            environ.get("HTTP_X_FORWARDED_FOR", ""),
            environ.get("HTTP_X_FORWARDED_PROTO", ""),
            environ.get("HTTP_X_FORWARDED_HOST", ""),
        )
    return resolve_client(peer, scheme, host, proxy.trusted_hops, proxy.forwarding_fields, said)


def request_id(sent: str) -> str:
    """The client's request id if it is safe in logs and headers, else a new one."""
    return sent if REQUEST_ID.fullmatch(sent) else f"{getrandbits(128):032x}"


def headers_of(environ: WSGIEnvironment) -> HeaderPairs:
    """The header fields as pairs, in order. Under gunicorn, repeated fields are separate pairs; other WSGI servers join
    them."""
    received = getattr(environ["wsgi.input"], "fields", None)
    if received is not None:
        return [(spelled(name), value) for name, value in received]
    fields = [(spelled(key[5:].replace("_", "-")), value) for key, value in environ.items() if key.startswith("HTTP_")]
    fields += [
        (spelled(key.replace("_", "-")), environ[key]) for key in ("CONTENT_TYPE", "CONTENT_LENGTH") if environ.get(key)
    ]
    return fields


@lru_cache(maxsize=CACHED_NAMES)
def spelled(name: str) -> str:
    """A header name in the usual spelling, such as `Content-Type`: gunicorn and WSGI give names in capitals."""
    return name.title()


@lru_cache(maxsize=8)
def via(protocol: str) -> str:
    """The Via entry of a request that was received with this protocol (RFC 9110 7.6.3)."""
    return f"{protocol.removeprefix('HTTP/')} gateway"


def forward_request_of(exchange: Exchange) -> ForwardRequest:
    """The request of the exchange in the form that the forwarder takes."""
    environ, policy = exchange.environ, exchange.policy
    # `path_check` has set the target and the policy before the view of a service runs.
    assert exchange.target is not None  # noqa: S101
    assert policy is not None  # noqa: S101
    is_chunked = "chunked" in environ.get("HTTP_TRANSFER_ENCODING", "").lower()
    length = environ.get("CONTENT_LENGTH")
    return ForwardRequest(
        method=exchange.method,
        request_target=exchange.target,
        headers=exchange.headers,
        client=exchange.client,
        stream=environ["wsgi.input"],
        content_length=int(length) if length and not is_chunked else None,
        is_chunked=is_chunked,
        request_id=exchange.request_id,
        via=via(environ["SERVER_PROTOCOL"]),
        timeouts=policy.time_limits,
        prefix=policy.prefix,
        caller=exchange.principal.key if exchange.principal else exchange.client.address,
        attempts=exchange.attempts,
        identity_headers=exchange.identity_headers,
        trace=exchange.trace,
        client_socket=environ.get("gunicorn.socket"),
        send_interim=environ.get("gateway.send_interim"),
    )
