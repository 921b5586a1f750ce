"""Sending over sockets of any kind."""

from __future__ import annotations

import socket


def send_all(sock: socket.socket, data: bytes) -> None:
    """`sendall`, which asks gevent's sockets for one call of the system where one takes it all, as it mostly does."""
    sent = sock.send(data) if data else 0
    if sent < len(data):
        sock.sendall(memoryview(data)[sent:])
