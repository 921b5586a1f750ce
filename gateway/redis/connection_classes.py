"""Subclasses of redis-py's connection classes that connect within their timeout even if the name server hangs."""

from __future__ import annotations

import socket
import ssl
import time

from redis import Redis
from redis.connection import Connection, SSLConnection

from gateway.redis.tls import file_version, make_context
from gateway.system.tcp import connect_to_any


class TimedConnection(Connection):
    """A connection whose timeout covers the name lookup and all addresses together. redis-py looks up the name without
    a timeout, and applies the timeout to each address in turn."""

    def _connect(self) -> socket.socket:
        # The timeout is always set: by `client.connection_options` or by the URL.
        seconds = self.socket_connect_timeout or 0
        sock = connect_to_any(self.host, self.port, time.monotonic() + seconds)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.socket_keepalive:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in self.socket_keepalive_options.items():
                sock.setsockopt(socket.IPPROTO_TCP, option, value)
        sock.settimeout(self.socket_timeout)
        return sock


class TlsConnection(SSLConnection, TimedConnection):
    """A TimedConnection with TLS. If an authority is configured, the system's authorities are not trusted."""

    def _wrap_socket_with_ssl(self, sock: socket.socket) -> ssl.SSLSocket:
        context = make_context(
            file_version(self.ca_certs),
            file_version(self.ca_path),
            file_version(self.certfile),
            file_version(self.keyfile),
            self.certificate_password,
            self.cert_reqs,
            bool(self.check_hostname),
        )
        return context.wrap_socket(sock, server_hostname=self.host)


OWN_CLASSES: dict[type, type] = {Connection: TimedConnection, SSLConnection: TlsConnection}


def use_own_connections(client: Redis) -> None:
    """Makes the client use the classes of this module. For unix sockets it keeps redis-py's own class."""
    pool = client.connection_pool
    pool.connection_class = OWN_CLASSES.get(pool.connection_class, pool.connection_class)
