"""Makes connections to upstreams, with TLS where the target has it."""

from __future__ import annotations

import socket
import ssl
import time

from gateway.errors import Overloaded, UpstreamConnectTimeout, UpstreamNotReached
from gateway.proxy.connection import UpstreamConnection
from gateway.proxy.target import Target
from gateway.system.resource_exhaustion import RESOURCE_EXHAUSTION, is_exhaustion
from gateway.system.tcp import connect_to_any


def connect(
    target: Target, tls: ssl.SSLContext | None, connect_timeout_seconds: float, read_timeout_seconds: float
) -> UpstreamConnection:
    """A new connection, the name looked up anew. Raises UpstreamNotReached or UpstreamConnectTimeout; Overloaded where
    it is this process that has no more connections to give."""
    deadline = time.monotonic() + connect_timeout_seconds
    try:
        sock = connect_to_any(target.host, target.port, deadline)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if tls is not None:
                sock.settimeout(max(0.001, deadline - time.monotonic()))
                # An end of TLS without close_notify may be anybody's who cuts the connection (RFC 9112 9.8), so it must
                # not look like an orderly one.
                sock = tls.wrap_socket(sock, server_hostname=target.host, suppress_ragged_eofs=False)
        except BaseException:
            sock.close()
            raise
    except TimeoutError as error:
        raise UpstreamConnectTimeout("no connection to the service in time") from error
    except OSError as error:
        if is_exhaustion(error):
            RESOURCE_EXHAUSTION.tell(error)
            raise Overloaded("try again in a moment") from error
        raise UpstreamNotReached("no connection to the service") from error
    return UpstreamConnection(sock, read_timeout_seconds)
