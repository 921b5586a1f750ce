"""Opens TCP and TLS connections to upstreams, and loads the certificates for TLS."""

from __future__ import annotations

import socket
import ssl
import time

import certifi

from gateway.config import ServiceSettings
from gateway.errors import ConfigurationError, Overloaded, UpstreamConnectTimeout, UpstreamNotReached
from gateway.proxy.connection import UpstreamConnection
from gateway.proxy.connection_errors import connection_error
from gateway.proxy.target import Target
from gateway.proxy.timeouts import Timeouts
from gateway.system.tcp import connect_to_any


def connect(target: Target, tls: ssl.SSLContext | None, timeouts: Timeouts) -> UpstreamConnection:
    """Opens a connection, after a new DNS lookup.

    Raises UpstreamNotReached, UpstreamConnectTimeout, or Overloaded if this process has run out of descriptors."""
    deadline = time.monotonic() + timeouts.connect_seconds
    try:
        sock = connect_to_any(target.host, target.port, deadline)
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if target.is_tls and tls is not None:
                sock.settimeout(max(0.001, deadline - time.monotonic()))
                # Anyone who can cut the connection can end TLS without close_notify (RFC 9112 9.8), so an end without
                # close_notify must not count as orderly.
                sock = tls.wrap_socket(sock, server_hostname=target.host, suppress_ragged_eofs=False)
        except BaseException:
            sock.close()
            raise
    except TimeoutError as error:
        raise UpstreamConnectTimeout("no connection to the service in time") from error
    except OSError as error:
        if isinstance(cause := connection_error(error), Overloaded):
            raise cause from error
        raise UpstreamNotReached("no connection to the service") from error
    return UpstreamConnection(sock)


def tls_context(settings: ServiceSettings, name: str) -> ssl.SSLContext | None:
    """The TLS context for connections to a service. It verifies the service's certificate by `ca_file`, else by the
    well-known authorities, and presents the client certificate if one is configured. None if no target uses https.
    Raises ConfigurationError."""
    if not any(target.startswith("https:") for target in settings.targets):
        return None
    errors: list[str] = []
    context = ssl.create_default_context()
    try:
        context.load_verify_locations(cafile=str(settings.ca_file) if settings.ca_file else certifi.where())
    except (OSError, ssl.SSLError) as error:
        errors.append(f"services.{name}.ca_file: can't be used: {error.strerror or 'no certificate in PEM'}")
    if settings.client_certificate_file and settings.client_key_file:
        try:
            context.load_cert_chain(settings.client_certificate_file, settings.client_key_file)
        except (OSError, ssl.SSLError) as error:
            errors.append(f"services.{name}.client_certificate_file: can't be used: {error.strerror or error}")
    if errors:
        raise ConfigurationError(errors)
    return context
