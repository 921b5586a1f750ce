"""redis-py's connection classes, which connect within their timeout even if the name server hangs."""

from __future__ import annotations

import socket
import ssl
import time

from redis import Redis
from redis.connection import Connection, SSLConnection

from gateway.redis.tls import file_version, make_context
from gateway.system.tcp import connect_to_any


class TimedConnection(Connection):
    """redis-py resolves the name without a timeout, and applies the timeout to each of its addresses in turn."""

    def _connect(self) -> socket.socket:
        # Always set: by `client.connection_options` or by the URL.
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
    """The same with TLS. If an authority is configured, the system's authorities are not trusted."""

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
    """Makes the client use the classes above. For unix sockets redis-py's own class stays."""
    pool = client.connection_pool
    pool.connection_class = OWN_CLASSES.get(pool.connection_class, pool.connection_class)
