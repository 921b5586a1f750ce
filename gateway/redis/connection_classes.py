"""How connections to Redis are made: in the time that they may take, whatever its name server does."""

from __future__ import annotations

import socket
import ssl
import time

from redis import Redis
from redis.connection import Connection, SSLConnection

from gateway.redis.tls import make_context, stamp
from gateway.system.tcp import connect_to_any


class TimedConnection(Connection):
    """redis-py waits for the look-up of a name without end, and for each of its addresses anew."""

    def _connect(self) -> socket.socket:
        # There always is one: that of `client.connection_options`, or the URL's own.
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
    """The same by TLS, with shared contexts. An authority that is configured is the only one that is believed."""

    def _wrap_socket_with_ssl(self, sock: socket.socket) -> ssl.SSLSocket:
        context = make_context(
            stamp(self.ca_certs),
            stamp(self.ca_path),
            stamp(self.certfile),
            stamp(self.keyfile),
            self.certificate_password,
            self.cert_reqs,
            bool(self.check_hostname),
        )
        return context.wrap_socket(sock, server_hostname=self.host)


OWN_CLASSES: dict[type, type] = {Connection: TimedConnection, SSLConnection: TlsConnection}


def use_own_connections(client: Redis) -> None:
    """Has the client's connections made as above; those to a unix socket stay redis-py's."""
    pool = client.connection_pool
    pool.connection_class = OWN_CLASSES.get(pool.connection_class, pool.connection_class)
